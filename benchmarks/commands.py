"""How long the commands take that do little: help, errors that the command line shows, and restoring one picture.

    python benchmarks/commands.py

Help and errors are compared with a process that imports OmegaConf and ends; ``irnas-ray restore`` of a photograph of
481x321 pixels with one that imports PyTorch, and the restoring itself, as this process measures it.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measuring import arguments, interleaved, report
from PIL import Image
from skimage import data

import irnas_ray as ir

PYTHON = [sys.executable, "-c"]
COMMAND = [sys.executable, "-m", "irnas_ray"]
NETWORK = "gray-noise"
#: What is said without work, and the status with which it ends.
SAID = {
    "--help": (["--help"], 0),
    "search --help": (["search", "--help"], 0),
    "restore --help": (["restore", "--help"], 0),
    "an unknown setting": (["search", "tune.trails=3"], 2),
    "a file that does not exist": (["restore", "missing.png"], 1),
}


def process(words: list[str], folder: Path, status: int = 0) -> Callable[[], None]:
    """A call that runs a process to its end, which must be this status."""

    def call() -> None:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        if done.returncode != status:
            raise RuntimeError(f"{' '.join(words)}: status {done.returncode}\n{done.stderr}")

    return call


def main() -> None:
    options = arguments("Small commands against the imports that they cannot do without.").parse_args()
    torch.set_num_threads(options.threads)
    pixels = np.asarray(Image.fromarray(data.camera()).resize((481, 321)))
    network, _ = ir.load_network(NETWORK)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.fromarray(pixels).save(folder / "photo.png")
        restoring = [*COMMAND, "restore", f"network={NETWORK}", "photo.png", "output=restored", "overwrite=true"]
        calls: dict[str, Callable[[], object]] = {
            "import omegaconf": process([*PYTHON, "import omegaconf"], folder),
            **{key: process([*COMMAND, *words], folder, status) for key, (words, status) in SAID.items()},
            "import torch": process([*PYTHON, "import torch"], folder),
            "inference": lambda: ir.restore(network, pixels),
            "restore": process(restoring, folder),
        }
        seconds = interleaved(calls, options.repeats)
    rows = [{"what": key, "seconds": seconds[key], "ratio": seconds[key] / seconds["import omegaconf"]} for key in SAID]
    least = seconds["import torch"] + seconds["inference"]
    rows.append({"what": "restore of 481x321", "seconds": seconds["restore"], "ratio": seconds["restore"] / least})
    rows += [{"what": key, "seconds": seconds[key]} for key in ("import omegaconf", "import torch", "inference")]
    report("commands", rows, options)


if __name__ == "__main__":
    main()
