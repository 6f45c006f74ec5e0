"""Peak memory of `restore.py`: tiles bound it, so a picture sixteen times larger needs little more than its own pixels.

python benchmarks/restore_memory.py [--json FILE]

Restores a 1.5 megapixel photograph (1500x1000) whole, which is the reference, and the same photograph repeated to 24
megapixels (6000x4000) in tiles; both through the command, with a tiny network that was never trained. Printed are peak
resident sizes and the ratio of what lies above that of the imports alone. Linux only.
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
from PIL import Image
from skimage import data

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.checkpoints import save_network
from irnas_ray.networks.derived import DerivedNetwork

#: Runs a command and prints the largest resident size, in KiB, that it had.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
ROOT = Path(__file__).resolve().parents[1]


def peak(*command: str) -> float:
    """The peak resident size of a Python command in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, *command], check=True, capture_output=True, text=True
    )
    return int(done.stdout) / 1024


def restored(folder: Path, width: int, height: int, tile: str) -> float:
    """The peak in MiB while a photograph of this size is restored in tiles of this side, or whole (null)."""
    photograph = data.coffee()
    rows, columns = -(-height // len(photograph)), -(-width // photograph.shape[1])
    path = folder / f"{width}x{height}.png"
    Image.fromarray(np.tile(photograph, (rows, columns, 1))[:height, :width]).save(path, compress_level=1)
    launcher = str(ROOT / "launchers" / "restore.py")
    files = [f"network={folder / 'network.pt'}", f"input={path}", f"output={folder / f'{width}-{tile}'}"]
    mebibytes = peak(launcher, *files, f"tile={tile}")
    with Image.open(folder / f"{width}-{tile}" / path.name) as image:
        assert image.size == (width, height)
    return mebibytes


def main() -> None:
    """Measure, print, and write what was measured."""
    options = arguments(__doc__.splitlines()[0], threads=1).parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    genotype = Genotype((((Edge(0, "conv"), Edge(1, "skip")),),), (0, 0))
    network = DerivedNetwork(genotype, 3, 8, True, stem_channels=8, aspp_channels=12, low_level_channels=6)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_network(network, folder / "network.pt")
        imports = peak("-c", "import irnas_ray.cli.command_line, irnas_ray.evaluation.restored_files")
        whole = restored(folder, 1500, 1000, "null")
        tiled = restored(folder, 6000, 4000, "256")

    def row(what: str, pixels: int, mebibytes: float) -> dict[str, Any]:
        above = mebibytes - imports
        return {
            "what": what,
            "megapixels": pixels / 1e6,
            "peak MiB": round(mebibytes),
            "above the imports": round(above),
            "ratio": round(above / (whole - imports), 2),
        }

    rows = [row("imports alone", 0, imports), row("whole", 1_500_000, whole), row("tiles of 256", 24_000_000, tiled)]
    report("restore_memory", rows, options)


if __name__ == "__main__":
    main()
