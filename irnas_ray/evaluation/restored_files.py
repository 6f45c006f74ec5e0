"""The work of `irnas-ray restore`, without Ray and what only scoring needs, so that it starts quickly."""

import contextlib
import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import torch

from irnas_ray.catalogue.cards import fitting_network, located
from irnas_ray.evaluation.restoration import Restoration, enlargement
from irnas_ray.export.exported_network import load_any
from irnas_ray.images.files import list_images, read_header
from irnas_ray.images.pillow import MEGAPIXELS, pictures_up_to
from irnas_ray.networks.inference import fast
from irnas_ray.settings.bounds import check_bounds
from irnas_ray.settings.commands import EvaluateConfig, RestoreConfig
from irnas_ray.system.exit_status import WrongSetting, checking_settings
from irnas_ray.system.names import check_names

#: Images that could not be read of which a message tells.
MOST_NAMES = 20

logger = logging.getLogger(__name__)


def restore_images(config: RestoreConfig) -> None:
    """Restore an image or a folder of images with a saved network into PNG files.

    Raises ValueError, before the first image is restored, if anything is missing or a result would overwrite a file
    that this call would not have made; at the end, if images could not be restored, with their names and the reasons.
    Without a network one that ships is chosen, and named.
    """
    with checking_settings():
        check_bounds(config)
    config.check_given()
    source = Path(config.input)
    paths = [source] if source.is_file() else list_images(source)
    check_names(paths)
    config = _with_network(config, paths)
    network, notes = load_any(config.network, usable_device(), config.network_class)
    color = "gray" if network.channels == 1 else "rgb"
    check_largest(config)
    targets = [_target(path, source, config.output) for path in paths]
    if len(set(targets)) < len(targets):
        raise ValueError(f"{source}: two images differ only in their suffix, so their results would have one name")
    restoration = Restoration(fast(network), config, 1 if color == "gray" else 3, enlargement(config, notes))
    with pictures_up_to(config.max_megapixels):
        there = set() if config.overwrite else {target for target in targets if target.exists()}
        for path, target in zip(paths, targets, strict=True):
            if target in there and (source.is_file() or not restoration.is_done(path, target)):
                raise ValueError(f"{target} exists; choose another output folder or add overwrite=true")
        report_failed(
            _restore_files(restoration, dict(zip(paths, targets, strict=True)), there), len(paths), "restored"
        )


def _restore_files(restoration: Restoration, targets: Mapping[Path, Path], there: Set[Path]) -> list[str]:
    """Restore files into those that are not there; what was wrong with the others."""
    failed = []
    for path, target in targets.items():
        if target in there:
            print(f"{path} -> {target} is there already", flush=True)
            continue
        try:
            restoration.restore_file(path, target)
            print(f"{path} -> {target}", flush=True)
        except ValueError as error:
            # a network that refuses an image does not know its name
            failed.append(str(error) if str(path) in str(error) else f"{path}: {error}")
            logger.warning("%s", failed[-1])
    return failed


def _with_network(config: RestoreConfig, paths: Sequence[Path]) -> RestoreConfig:
    """The settings with the file of the network, and where none is given with one that ships for images like these."""
    if config.network:
        return replace(config, network=str(located(config.network)))
    grays = []
    for path in paths:
        with contextlib.suppress(ValueError):  # what cannot be read is told of when its turn comes
            grays.append(read_header(path).gray)
    network = fitting_network(1 if all(grays) else 3)
    apart = network.channels == 1 and not all(grays) and config.color is None
    way = ", for each colour apart" if apart else ""
    print(f"network: {network.name}, {network.summary}{way}; network=FILE takes another", flush=True)
    return replace(config, network=str(network.path), color="each" if apart else config.color)


def _target(path: Path, source: Path, output: str) -> Path:
    """Where the restored image goes; that of a single file without an output to where the user stands."""
    return Path(output) / f"{path.stem}.png" if output or path != source else Path(f"{path.stem}_restored.png")


def check_largest(config: EvaluateConfig | RestoreConfig) -> None:
    """WrongSetting for pictures that only tiles can hold, where there are none."""
    if config.max_megapixels > MEGAPIXELS and config.tile is None:
        raise WrongSetting(
            f"max_megapixels: more than {MEGAPIXELS} only in tiles; add their side in pixels, as tile=256"
        )


def report_failed(failed: Sequence[str], count: int, done: str) -> None:
    """ValueError naming the images of a batch that failed, if there are any."""
    if failed and len(failed) == count:
        raise ValueError("\n".join(failed[:MOST_NAMES]))
    if failed:
        listed = "\n".join([*failed[:MOST_NAMES], *["..."] * (len(failed) > MOST_NAMES)])
        remedy = "mend or remove what is named, and the same command does what is missing"
        raise ValueError(f"the rest is {done}, but of {count} images not all; {remedy}:\n{listed}")


def usable_device() -> torch.device:
    """The GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
