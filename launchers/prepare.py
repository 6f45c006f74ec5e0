"""Turn images, or pairs of them, into a Parquet data set that studies read; or only check them.

python launchers/prepare.py data.source=BSD500 data.output=prepared/bsd500
python launchers/prepare.py data=halves data.source=rain800 data.output=prepared/rain800
python launchers/prepare.py data=images data.source=BSD500 data.color=rgb data.output=prepared/sim \\
    freeze=patches degradation=camera
python launchers/prepare.py data=halves data.source=rain800 check=true check_against=BSD500/test

Exit status: 0 done, or nothing found; 1 the work failed; 2 the command line is wrong; 3 a check found what would
falsify results (see docs/data.md).
"""

import sys

from irnas_ray.cli.command_line import run
from irnas_ray.datasets.builder import Manifest
from irnas_ray.datasets.check import other_images, run_check
from irnas_ray.datasets.freeze import prepare_frozen
from irnas_ray.settings.commands import PrepareConfig
from irnas_ray.system.progress_bar import progress_bar


def main(config: PrepareConfig) -> None:
    """Check the images, or write the data set and say what it holds."""
    if config.check:
        sys.exit(run_check(config))
    others = other_images(config)
    with progress_bar("prepare") as progress:
        folder = prepare_frozen(config, progress, others)
    manifest = Manifest.load(folder)
    train, test = manifest.ids("train"), manifest.ids("test")
    print(
        f"{folder}: {len(train)} training images in {manifest.patches} patches of {manifest.patch}x{manifest.patch}, "
        f"{len(test)} test images, {manifest.color}{', with degraded images' if manifest.paired else ''}"
    )


if __name__ == "__main__":
    run("prepare", PrepareConfig, main, __doc__ or "")
