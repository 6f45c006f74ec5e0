"""Turn images into a Parquet data set that studies read: a folder of images, of pairs, or the embedded photographs.

python launchers/prepare.py data.source=BSD500 data.output=prepared/bsd500
python launchers/prepare.py data=halves data.source=rain800 data.output=prepared/rain800
python launchers/prepare.py data=images data.source=BSD500 data.color=rgb data.output=prepared/sim \\
    freeze=patches degradation=camera
"""

import sys

from irnas_ray.conf.command_line import run
from irnas_ray.freezing import prepare_frozen
from irnas_ray.preparing import Manifest
from irnas_ray.settings import PrepareConfig


def main(config: PrepareConfig) -> None:
    """Write the data set and say what it holds."""

    def progress(done: int, total: int) -> None:
        if sys.stdout.isatty() or done == total:
            print(f"\r{done}/{total} images", end="\n" if done == total else "", flush=True)

    folder = prepare_frozen(config, progress)
    manifest = Manifest.load(folder)
    train, test = manifest.ids("train"), manifest.ids("test")
    print(
        f"{folder}: {len(train)} training images in {manifest.patches} patches of {manifest.patch}x{manifest.patch}, "
        f"{len(test)} test images, {manifest.color}{', with degraded images' if manifest.paired else ''}"
    )


if __name__ == "__main__":
    run("prepare", PrepareConfig, main, __doc__ or "")
