"""Preparing a data set against decoding its files alone, by as many processes: at least 0.7 of that rate.

python benchmarks/prepare.py [--images 10000] [--processes N] [--json FILE]

Makes crops of the photographs that come with scikit-image, of four sizes around 481x321 with a little noise, as JPEG of
quality 92 and as PNG. `prepare` reads, examines, hashes, compares and stores them; the reference is that Pillow decodes
the same files to arrays, through the same pool of processes. Both are called in turns. With one process the seconds are
the processor's, which other load on the machine disturbs less than those of a clock.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import arguments, interleaved, report
from PIL import Image

from irnas_ray.datasets.builder import prepare
from irnas_ray.images.photographs import photograph_files
from irnas_ray.settings.study import Data
from irnas_ray.system.environment import usable_cores
from irnas_ray.system.worker_pool import Tick, run_tasks

#: Heights and widths, and how the files are saved.
SIZES = ((321, 481), (481, 321), (256, 256), (384, 512))
FORMATS: dict[str, dict[str, Any]] = {"jpg": {"quality": 92}, "png": {}}
#: Files that a process decodes at a time.
PIECE = 50


def photographs(folder: Path, count: int, suffix: str) -> list[Path]:
    """So many files of crops, each reduced a little and with noise of its own, so that no two hold the same pixels."""
    random = np.random.default_rng(0)
    pictures = [Image.open(path).convert("RGB") for path in photograph_files().values()]
    folder.mkdir()
    for index in range(count):
        picture, (height, width) = pictures[random.integers(len(pictures))], SIZES[random.integers(len(SIZES))]
        scale = random.uniform(0.5, 1)
        tall, wide = min(picture.height, round(height * scale)), min(picture.width, round(width * scale))
        left, top = random.integers(picture.width - wide + 1), random.integers(picture.height - tall + 1)
        crop = picture.crop((left, top, left + wide, top + tall)).resize((width, height), Image.Resampling.BICUBIC)
        noisy = np.asarray(crop) + random.normal(0, 3, (height, width, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.{suffix}", **FORMATS[suffix])
    return sorted(folder.iterdir())


def decode(files: Sequence[Path], tick: Tick) -> None:
    """Decode files, to no end."""
    for path in files:
        with Image.open(path) as image:
            np.asarray(image)
        tick()


def decode_all(files: Sequence[Path], processes: int) -> None:
    """Decode all files by so many processes."""
    run_tasks(decode, [files[start : start + PIECE] for start in range(0, len(files), PIECE)], processes)


def prepare_all(source: Path, color: str, processes: int) -> None:
    """Prepare all files anew by so many processes."""
    output = source.with_suffix(".prepared")
    shutil.rmtree(output, ignore_errors=True)
    prepare(Data(source=str(source), form="images", color=color, patch=64), output, workers=processes)


def main() -> None:
    """Measure, print, and write what was measured."""
    parser = arguments(__doc__.splitlines()[0], repeats=3)
    parser.add_argument("--images", type=int, default=10_000, help="images of each format")
    parser.add_argument("--processes", type=int, default=usable_cores(), help="processes of both")
    options = parser.parse_args()
    alone, rows = options.processes == 1, []
    with tempfile.TemporaryDirectory() as name:
        for suffix in FORMATS:
            files = photographs(Path(name) / suffix, options.images, suffix)
            for color in ("gray", "rgb"):
                candidates = {
                    "decoding": partial(decode_all, files, options.processes),
                    "preparing": partial(prepare_all, Path(name) / suffix, color, options.processes),
                }
                clock = time.process_time if alone else time.perf_counter
                seconds = interleaved(candidates, options.repeats, clock=clock)
                rates = {f"{what}, images/s": round(len(files) / value) for what, value in seconds.items()}
                ratio = round(seconds["decoding"] / seconds["preparing"], 2)
                row = {"files": suffix, "stored as": color, "processes": options.processes, **rates, "ratio": ratio}
                rows.append(row | {"seconds of": "the processor" if alone else "a clock"})
            shutil.rmtree(Path(name) / suffix)
    report("prepare", rows, options)


if __name__ == "__main__":
    main()
