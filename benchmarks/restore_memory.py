"""Peak memory of `irnas-ray restore` beyond its imports: a picture's own pixels and a row of tiles, whatever its size.

python benchmarks/restore_memory.py [--json FILE]

Restores the luma of a photograph with the network that ships: of 1.5 megapixels (1500x1000) whole, which is the
reference, and in tiles; of 24 megapixels (6000x4000, the photograph repeated), which whole would need 16 times as much,
in tiles alone, as RGB of 8 bits and with alpha and 16 bits. Printed are peak resident sizes, processor seconds, which
other load on the machine disturbs less than those of a clock, and by how many of 255 levels tiles and whole differ.
Linux only.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import arguments, report
from skimage import data

from irnas_ray.images.attributes import Attributes, write_png
from irnas_ray.images.files import read_image

#: Runs a command and prints the largest resident size, in KiB, that it had, and its processor seconds.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
"""
ROOT = Path(__file__).resolve().parents[1]
SMALL, LARGE = (1500, 1000), (6000, 4000)


def measured(*command: str) -> tuple[float, float]:
    """The peak resident size of a Python command in MiB, and its processor seconds."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, *command], check=True, capture_output=True, text=True
    )
    kibibytes, seconds = done.stdout.split()
    return int(kibibytes) / 1024, float(seconds)


def photograph(path: Path, size: tuple[int, int], deep: bool) -> None:
    """A file of a photograph, repeated to this width and height, as RGB of 8 bits or with alpha and 16 bits."""
    pixels = data.coffee().astype(np.uint16 if deep else np.uint8)
    if deep:
        pixels = np.dstack([257 * pixels, np.broadcast_to(np.uint16(40000), pixels.shape[:2])])
    width, height = size
    across = np.tile(pixels, (1, -(-width // pixels.shape[1]), 1))[:, :width]
    bands = (across[: height - top] for top in range(0, height, len(across)))
    write_png(path, bands, height, Attributes())


def restored(folder: Path, size: tuple[int, int], tile: str, deep: bool = False) -> tuple[Path, float, float]:
    """The result for a photograph in tiles of this side, or whole (null), the peak in MiB, and processor seconds."""
    path = folder / f"{size[0]}-{deep}.png"
    if not path.exists():
        photograph(path, size, deep)
    launcher, output = str(ROOT / "launchers" / "restore.py"), folder / f"{size[0]}-{tile}"
    files = ["network=gray-noise", "color=luma", f"input={path}", f"output={output}"]
    return output / path.name, *measured(launcher, *files, f"tile={tile}")


def main() -> None:
    """Measure, print, and write what was measured."""
    options = arguments(__doc__.splitlines()[0], threads=1).parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        imports = measured("-c", "import irnas_ray.cli.command_line, irnas_ray.evaluation.restored_files")

        def row(what: str, size: tuple[int, int], mebibytes: float, seconds: float) -> dict[str, Any]:
            return {
                "what": what,
                "megapixels": size[0] * size[1] / 1e6,
                "peak MiB": round(mebibytes),
                "MB above the imports": round((mebibytes - imports[0]) * 2**20 / 1e6),
                "processor seconds": round(seconds, 1),
                "of 255 levels from whole": "",
            }

        rows = [row("imports alone", (0, 0), *imports)]
        whole, *figures = restored(folder, SMALL, "null")
        rows.append(row("whole, the reference", SMALL, *figures))
        tiled, *figures = restored(folder, SMALL, "256")
        rows.append(row("tiles of 256", SMALL, *figures))
        difference = read_image(tiled, "rgb").astype(int) - read_image(whole, "rgb")
        rows[-1]["of 255 levels from whole"] = int(abs(difference).max())
        rows.append(row("tiles of 256", LARGE, *restored(folder, LARGE, "256")[1:]))
        rows.append(row("tiles of 256, 16 bits and alpha", LARGE, *restored(folder, LARGE, "256", deep=True)[1:]))
    report("restore_memory", rows, options)


if __name__ == "__main__":
    main()
