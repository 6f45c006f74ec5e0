"""Crops of images in Parquet files as Arrow tables; free of torch and Ray, so that a reading process stays small."""

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
from jaxtyping import UInt

from irnas_ray.datasets.crops import CropPlan, Crops
from irnas_ray.datasets.manifest import MANIFEST, ImageEntry, Manifest
from irnas_ray.datasets.parquet import check_columns
from irnas_ray.images.depth import Depth

#: Bytes of images whose crops are shuffled among each other when streaming.
WINDOW_BYTES = 128 * 2**20
#: Bytes of crops in one table of a stream.
TABLE_BYTES = 4 * 2**20

Pixels = UInt[np.ndarray, "c h w"]


def read_rows(
    paths: Sequence[Path | str], columns: Sequence[str] | None = None, image_ids: Sequence[str] | None = None
) -> pa.Table:
    """The rows of some images (None: all) in Parquet files; ValueError naming the file that cannot be read."""
    chosen = None if image_ids is None else pads.field("image_id").isin(list(image_ids))
    try:
        dataset = pads.dataset([str(path) for path in paths], format="parquet")
        check_columns(dataset.schema, paths[0])
        return dataset.to_table(columns=columns, filter=chosen)
    except (pa.ArrowException, OSError) as error:
        if len(paths) > 1:
            # Arrow does not say which one it was.
            for path in paths:
                read_rows([path], columns, image_ids)
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{paths[0]}: cannot be read ({reason}); prepare the data set again") from None


def check_pixels(table: pa.Table, entries: Mapping[str, ImageEntry], place: Path | str) -> None:
    """ValueError naming the image if pixels in a table are not those of which the manifest has the SHA-256."""
    for row, image_id in enumerate(table["image_id"].to_pylist()):
        entry = entries[image_id]
        for column, expected in (("clean", entry.sha256), ("degraded", entry.degraded_sha256)):
            if expected is None or column not in table.column_names:
                continue
            if hashlib.sha256(table[column][row].as_buffer()).hexdigest() != expected:
                raise ValueError(
                    f"{place}: the {column} pixels of image {image_id} have changed since they were stored (SHA-256 in "
                    f"{MANIFEST}); prepare the data set again"
                )


@dataclass(frozen=True)
class ImageFile:
    """A Parquet file and the selected images in it."""

    path: str
    images: tuple[ImageEntry, ...]


@dataclass(frozen=True)
class Selection:
    """Some images of a data set: the files that hold them, the pixel columns to read, channels and depth."""

    files: tuple[ImageFile, ...]
    columns: tuple[str, ...]
    channels: int
    depth: Depth = Depth.EIGHT

    @property
    def images(self) -> list[ImageEntry]:
        """The images in an order that does not depend on the files."""
        return sorted((image for file in self.files for image in file.images), key=lambda image: image.image_id)

    @property
    def total_bytes(self) -> int:
        """Bytes of all pixels."""
        return sum(self.bytes_of(file) for file in self.files)

    def bytes_of(self, file: ImageFile) -> int:
        """Bytes of a file's selected pixels."""
        return self.pixel_bytes * sum(image.height * image.width for image in file.images)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of all channels and columns of one pixel."""
        return len(self.columns) * self.channels * self.depth.dtype.itemsize

    def read(self, file: ImageFile, checked: bool = True) -> pa.Table:
        """The selected images of a file: image_id and the pixel columns.

        ValueError naming the file, or the image in it, if it cannot be read or, ``checked``, its pixels have changed.
        """
        entries = {image.image_id: image for image in file.images}
        table = read_rows([file.path], ["image_id", *self.columns], list(entries))
        if checked:
            check_pixels(table, entries, file.path)
        return table


def select(folder: Path, manifest: Manifest, image_ids: Sequence[str]) -> Selection:
    """Find the files in `folder`/images that hold the images; reads no pixels."""
    wanted = set(image_ids)
    chosen = {image.image_id: image for image in manifest.images if image.image_id in wanted}
    files = []
    for path in sorted((folder / "images").glob("*.parquet")):
        held = read_rows([path], ["image_id"])["image_id"].to_pylist()
        images = tuple(chosen[image_id] for image_id in held if image_id in chosen)
        if images:
            files.append(ImageFile(str(path), images))
    columns = ("clean", "degraded") if manifest.paired else ("clean",)
    return Selection(tuple(files), columns, manifest.channels, manifest.depth)


def stream(selection: Selection, crop: int, seed: int, drawn: int) -> Iterator[pa.Table]:
    """Crops of the selected images for ever, from crop number `drawn` on: in passes, as ``CropPlan`` says.

    Files are reshuffled each pass and read in windows of `WINDOW_BYTES`, whose crops are shuffled among each other. The
    order depends on the seed and the files alone, so that a stream can be continued anywhere: passed windows are
    skipped unread. Tables hold the pixel columns only, as (c, crop, crop) pixels. In its first pass a stream compares
    pixels with their SHA-256.
    """
    first, passed = divmod(drawn, CropPlan.of(selection.images, crop).count)
    for turn in itertools.count(first):
        generator = np.random.default_rng([seed, turn])
        windows = _windows(selection, generator)
        shares = CropPlan.of([x for window in windows for x in _images(window)], crop).shares(generator)
        for number, window in enumerate(windows):
            own, shares = np.split(shares, [len(_images(window))])
            if passed >= own.sum():
                passed -= int(own.sum())
                continue
            crops = CropPlan.of(_images(window), crop).draw(own, np.random.default_rng([seed, turn, number]))
            yield from _cut(selection, window, crops[passed:], crop, checked=turn == first)
            passed = 0


def _cut(selection: Selection, window: list[ImageFile], crops: Crops, crop: int, checked: bool) -> Iterator[pa.Table]:
    pixels = _pixels(selection, window, checked)
    shape = (selection.channels, crop, crop)
    step = max(1, TABLE_BYTES // (selection.pixel_bytes * crop**2))
    for start in range(0, len(crops), step):
        part = crops[start : start + step]
        sides = {name: np.empty((len(part), *shape), selection.depth.dtype) for name in selection.columns}
        for place, (image, top, left) in enumerate(zip(part.image, part.top, part.left, strict=True)):
            for name, side in sides.items():
                side[place] = pixels[image][name][:, top : top + crop, left : left + crop]
        yield pa.table({name: _column(side) for name, side in sides.items()})


def _pixels(selection: Selection, window: list[ImageFile], checked: bool) -> list[dict[str, Pixels]]:
    """The images of a window, column by column, as views of what was read."""
    found: dict[str, dict[str, Pixels]] = {}
    sizes = {image.image_id: (selection.channels, image.height, image.width) for image in _images(window)}
    for file in window:
        table = selection.read(file, checked)
        for row, image_id in enumerate(table["image_id"].to_pylist()):
            found[image_id] = {
                name: np.frombuffer(table[name][row].as_buffer(), selection.depth.dtype).reshape(sizes[image_id])
                for name in selection.columns
            }
    return [found[image.image_id] for image in _images(window)]


def _column(pixels: UInt[np.ndarray, "n c k k"]) -> pa.Array:
    # A column of fixed size is one plain buffer, which numpy reads without a copy.
    return pa.Array.from_buffers(pa.binary(pixels[0].nbytes), len(pixels), [None, pa.py_buffer(pixels)])


def pixels_of(selection: Selection, table: pa.Table, name: str, crop: int) -> UInt[np.ndarray, "n c k k"]:
    """The pixels of a fixed-size column of a stream, read-only and without a copy where the table is one piece."""
    array = table[name].combine_chunks()
    shape, kind = (selection.channels, crop, crop), selection.depth.dtype
    size = math.prod(shape)
    flat = np.frombuffer(array.buffers()[1], kind, len(array) * size, array.offset * size * kind.itemsize)
    return flat.reshape(len(array), *shape)


def _images(files: Sequence[ImageFile]) -> list[ImageEntry]:
    return [image for file in files for image in file.images]


def _windows(selection: Selection, generator: np.random.Generator) -> list[list[ImageFile]]:
    windows: list[list[ImageFile]] = [[]]
    for index in generator.permutation(len(selection.files)):
        windows[-1].append(selection.files[index])
        if sum(map(selection.bytes_of, windows[-1])) >= WINDOW_BYTES:
            windows.append([])
    return [window for window in windows if window]
