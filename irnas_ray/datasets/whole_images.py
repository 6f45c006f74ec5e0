"""Whole images with their pixels: out of a prepared data set, or straight from a source."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt

from irnas_ray.datasets.manifest import Manifest, is_prepared
from irnas_ray.datasets.reader import check_pixels, read_rows
from irnas_ray.images import sources
from irnas_ray.images.findings import conversions
from irnas_ray.settings.study import Data

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageRecord:
    """A whole image of a data set: uint8 or uint16 pixels (c, h, w); `degraded` is None where the data are clean."""

    image_id: str
    clean: UInt[np.ndarray, "c h w"]
    degraded: UInt[np.ndarray, "c h w"] | None


def load_images(folder: Path | str, ids: tuple[str, ...] | list[str]) -> list[ImageRecord]:
    """The whole images of a prepared folder with the given ids, in that order.

    ValueError for an unknown id, and naming what cannot be read or has changed since it was stored.

    >>> from skimage import data
    >>> import irnas_ray as ir
    >>> for index in range(4):
    ...     ir.images.write_image(f"photographs/{index}.png", data.camera()[64 * index :][:64, :64] / 255)
    >>> folder = ir.prepare(ir.Data(source="photographs", form="images", patch=32), "prepared")
    >>> record = ir.load_images(folder, ["2"])[0]
    >>> record.image_id, record.clean.shape, record.clean.dtype
    ('2', (1, 64, 64), dtype('uint8'))
    """
    manifest = Manifest.load(folder)
    channels, entries = manifest.channels, {image.image_id: image for image in manifest.images}
    table = read_rows(sorted((Path(folder) / "images").glob("*.parquet")), image_ids=ids)
    check_pixels(table, entries, folder)
    rows = {row["image_id"]: row for row in table.to_pylist()}
    missing = [image_id for image_id in ids if image_id not in rows]
    if missing:
        raise ValueError(f"{folder}: holds no image {', '.join(missing[:5])}")

    def pixels(row: dict, column: str) -> UInt[np.ndarray, "c h w"] | None:
        if row.get(column) is None:
            return None
        # A copy, because torch warns of arrays that it may not write to.
        return np.frombuffer(row[column], manifest.depth.dtype).reshape(channels, row["height"], row["width"]).copy()

    records = []
    for image_id in ids:
        clean = pixels(rows[image_id], "clean")
        assert clean is not None, f"{folder}: image {image_id} has no clean pixels"
        records.append(ImageRecord(image_id, clean, pixels(rows[image_id], "degraded")))
    return records


def read_test_images(data: Data, most: int | None = None, unreadable: list[str] | None = None) -> Iterator[ImageRecord]:
    """The first ``most`` test images of a prepared folder, an image folder, pairs, or the photographs, one at a time.

    ValueError, before the first image, if there is none or the source cannot be read. What is wrong with an image that
    cannot be read goes to ``unreadable`` and the image is left out, or is a ValueError too where that is None.
    """
    if data.source is not None and is_prepared(data.source):
        yield from load_images(data.source, Manifest.load(data.source).ids("test")[:most])
        return
    found = sources.find_test_images(data)[:most]
    notices: dict[str, list[str]] = {}
    for image in found:
        # what is wrong with a file is told below
        with contextlib.nullcontext() if unreadable is None else contextlib.suppress(ValueError):
            notices[image.image_id] = [notice for header in image.headers() for notice in header.notices]
    for line in conversions(notices):
        logger.warning("%s", line)
    for image in found:
        try:
            yield ImageRecord(image.image_id, *image.planes(data.color))
        except ValueError as error:
            if unreadable is None:
                raise
            logger.warning("%s", error)
            unreadable.append(str(error))
