"""A folder of images that another program restored, matched to the test images by name and scored as any method is."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from irnas_ray.evaluation.protocols import Protocol, get_protocol
from irnas_ray.evaluation.scores import Evaluation, EvaluationImage, Score, collect
from irnas_ray.images import pillow
from irnas_ray.images.files import IMAGE_SUFFIXES, named
from irnas_ray.system.names import check_names, normalised

logger = logging.getLogger(__name__)


def evaluate_restored(
    folder: str | Path,
    images: Iterable[EvaluationImage],
    protocol: Protocol | str,
    sigma: float | None = None,
    name: str | None = None,
    keep: Callable[[str, Tensor], None] | None = None,
) -> Evaluation:
    """Scores the files of a folder as the restored images; the time they took is not known (NaN).

    Args:
        folder: Holds one 8- or 16-bit file for each image: ``<image id>`` with an image's suffix, in subfolders where
            the id has slashes, or all in one folder under the images' own names.
        images: The test images, as for ``evaluate``.
        protocol: A protocol or its id.
        sigma: Noise level on the 0-255 scale that was restored from; ignored by paired protocols.
        name: What the folder is called in tables; None: its own name.
        keep: Called with each image's id and restored image (c h w), in the images' order.

    Raises:
        ValueError: before anything is scored if files are missing or not clearly one image's; then if a file cannot be
            read, or its size or colour does not fit.

    Example:
        >>> from skimage import data
        >>> import irnas_ray as ir
        >>> images = [ir.datasets.ImageRecord("camera", data.camera()[None, :64, :64], None)]
        >>> ir.images.write_image("restored/camera.png", data.camera()[:64, :64] / 255 + 0.1)
        >>> scores = ir.evaluate_restored("restored", images, "photographs-gray", sigma=25)
        >>> scores.method, round(scores.psnr, 1)
        ('restored', 20.0)
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    images = list(images)
    files = match_files(folder, [image.image_id for image in images])
    level = protocol.level(sigma)

    def results() -> Iterator[tuple[Score, Tensor]]:
        for image in images:
            clean, _ = protocol.degrade(image.clean, image.image_id, level, image.degraded)
            restored = read_restored(files[image.image_id], protocol.channels)
            if restored.shape != clean.shape:
                sizes = ["x".join(map(str, picture.shape[-2:])) for picture in (restored, clean)]
                raise ValueError(
                    f"{files[image.image_id]} is {sizes[0]} (height x width), but protocol {protocol.id} scores "
                    f"{image.image_id} at {sizes[1]}"
                )
            yield Score(image.image_id, *protocol.score(restored, clean), math.nan), restored

    return collect(results(), protocol, level, name or Path(folder).name, keep=keep)


def match_files(folder: str | Path, ids: list[str]) -> dict[str, Path]:
    """Returns the file of each image id; what belongs to no image is only mentioned in the log.

    Raises:
        ValueError: if the folder is missing, an image has no file, or more than one, or a name is not UTF-8.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give the folder of the restored images")
    by_id: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file():
            check_names([path])
            by_id.setdefault(normalised(path.relative_to(folder).with_suffix("").as_posix()), []).append(path)
    own_names = [normalised(image_id.rpartition("/")[2]) for image_id in ids]
    unique = len(set(own_names)) == len(own_names)
    found: dict[str, Path] = {}
    missing: list[str] = []
    for image_id, own_name in zip(ids, own_names, strict=True):
        candidates = by_id.get(normalised(image_id)) or (by_id.get(own_name, []) if unique else [])
        if len(candidates) > 1:
            raise ValueError(f"{folder}: {', '.join(path.name for path in candidates)} are all {image_id}; keep one")
        if candidates:
            found[image_id] = candidates[0]
        else:
            missing.append(image_id)
    if missing:
        raise ValueError(
            f"{folder}: has no file for {len(missing)} of {len(ids)} images: {_listed(missing)}; files are matched by "
            f"the images' names, and it holds {_listed(list(by_id)) or 'no image'}"
        )
    if len(by_id) > len(found):
        logger.info("%s: %d files are of no test image and are not scored", folder, len(by_id) - len(found))
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def read_restored(path: Path, channels: int) -> Float[Tensor, "c h w"]:
    """The pixels of an 8- or 16-bit file in [0, 1], at its full depth; a gray picture stored as RGB counts as gray.

    Raises:
        ValueError: if the file cannot be read, holds other kinds of pixels, or its colour does not fit the channels.
    """
    with named(path):
        samples = pillow.read(path)
    planes = np.atleast_3d(samples.floats()).transpose(2, 0, 1)
    if channels == 1 and len(planes) == 3 and (planes == planes[:1]).all():
        planes = planes[:1]
    if len(planes) != channels:
        kinds = {1: "gray", 3: "RGB"}
        given = kinds.get(len(planes), f"of {len(planes)} channels")
        raise ValueError(f"{path} is {given}, but the protocol scores {kinds[channels]} images")
    return torch.from_numpy(np.ascontiguousarray(planes))
