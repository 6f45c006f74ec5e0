"""The work of `prepare`."""

import sys

from irnas_ray.datasets.check import other_images, run_check
from irnas_ray.datasets.freeze import prepare_frozen
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.settings.commands import PrepareConfig
from irnas_ray.system.progress_bar import progress_bar


def prepare_or_check(config: PrepareConfig) -> None:
    """Check the images, or write the data set and say what it holds.

    Raises ValueError if the settings are impossible or the images cannot be found or read; SystemExit with the
    check's own status.
    """
    if config.check:
        sys.exit(run_check(config))
    others = other_images(config)
    with progress_bar("prepare") as progress:
        folder = prepare_frozen(config, progress, others)
    manifest = Manifest.load(folder)
    train, test = manifest.ids("train"), manifest.ids("test")
    print(
        f"{folder}: {len(train)} training images, {len(test)} test images, {manifest.color}"
        f"{', 16 bits a channel' if manifest.bits == 16 else ''}{', with degraded images' if manifest.paired else ''}"
    )
