"""Writes the quickstart's training photographs as folds, on which its settings are chosen (docs/training.md).

    python benchmarks/quickstart_folds.py FOLDER && python benchmarks/quality.py benchmarks/quickstart.json \
      --data FOLDER --results RESULTS

The photographs that the quickstart is scored on are in none of them.
"""

import sys
from pathlib import Path

from PIL import Image

from irnas_ray.images.photographs import HELD_OUT_PHOTOGRAPHS, photograph_files

FOLDS = 4


def main() -> None:
    """Write FOLDER/<fold>/train and FOLDER/<fold>/held."""
    files = {name: file for name, file in photograph_files().items() if name not in HELD_OUT_PHOTOGRAPHS}
    for fold in range(FOLDS):
        for index, (name, file) in enumerate(sorted(files.items())):
            side = "held" if index % FOLDS == fold else "train"
            target = Path(sys.argv[1]) / str(fold) / side / f"{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(file) as image:
                image.convert("L").save(target)


if __name__ == "__main__":
    main()
