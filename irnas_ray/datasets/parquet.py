"""How images and their patches are laid out in Parquet files of bounded size, written in bounded memory."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8

from irnas_ray.images.files import channels_of
from irnas_ray.images.sources import SourceImage

#: Uncompressed bytes of pixels after which a row group, and a file, is closed.
ROW_GROUP_BYTES = 8 * 2**20
PART_BYTES = 64 * 2**20


class Parts:
    """Rows written to `folder`/`prefix`-000.parquet, -001.parquet, ... as they come; at most one group is held."""

    def __init__(self, folder: Path, schema: pa.Schema, prefix: str = "part", part_bytes: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = 0
        self.paths: list[Path] = []
        self._folder = folder
        self._prefix = prefix
        self._schema = schema
        self._limit = PART_BYTES if part_bytes is None else part_bytes
        self._pixels = [field.name for field in schema if field.name in ("clean", "degraded")]
        self._group: list[dict[str, Any]] = []
        self._group_bytes = 0
        self._part_bytes = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None:
                self._flush()
        finally:
            self._close()

    def add(self, row: dict[str, Any]) -> None:
        """Append one row, given as column -> value."""
        self.rows += 1
        self._group.append(row)
        self._group_bytes += sum(len(row[name]) for name in self._pixels)
        if self._group_bytes >= min(ROW_GROUP_BYTES, self._limit):
            self._flush()

    def _flush(self) -> None:
        if not self._group:
            return
        if self._part_bytes and self._part_bytes + self._group_bytes > self._limit:
            self._close()
        if self._writer is None:
            self.paths.append(self._folder / f"{self._prefix}-{len(self.paths):03d}.parquet")
            # Dictionaries and min/max statistics of pixels cost time and space and find nothing.
            self._writer = pq.ParquetWriter(
                self.paths[-1],
                self._schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=["image_id"],
                write_statistics=["image_id"],
            )
        self._writer.write_table(pa.Table.from_pylist(self._group, self._schema))
        self._part_bytes += self._group_bytes
        self._group, self._group_bytes = [], 0

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._part_bytes = None, 0


def tile_positions(length: int, patch: int, step: int) -> list[int]:
    """Where patches start along a side: every `step` pixels, and a last one moved inwards to end at the border.

    With `step` <= `patch` <= `length` every pixel is covered; ValueError if the side is shorter than a patch.
    """
    if length < patch:
        raise ValueError(f"a side of {length} pixels holds no patch of {patch}")
    positions = list(range(0, length - patch + 1, step))
    return positions if positions[-1] == length - patch else [*positions, length - patch]


@dataclass(frozen=True)
class Layout:
    """How images are stored: gray or rgb, side and distance of the patches in pixels, and bytes of a part."""

    color: str
    patch: int
    stride: int
    paired: bool
    part_bytes: int

    @property
    def columns(self) -> list[str]:
        """The columns of pixels."""
        return ["clean", "degraded"] if self.paired else ["clean"]

    def image_bytes(self, height: int, width: int) -> int:
        """Bytes of an image's pixels, of both images of a pair."""
        return len(self.columns) * channels_of(self.color) * height * width

    def stored_bytes(self, image: SourceImage, height: int, width: int) -> int:
        """Bytes of all pixels that are stored of an image."""
        if image.split != "train":
            return self.image_bytes(height, width)
        rows, columns = (len(tile_positions(side, self.patch, self.stride)) for side in (height, width))
        return self.image_bytes(height, width) + rows * columns * self.image_bytes(self.patch, self.patch)


def schemas(layout: Layout) -> tuple[pa.Schema, pa.Schema]:
    """The columns of patches and of whole images, with the layout as metadata."""
    channels, patch = channels_of(layout.color), layout.patch
    notes = {"color": layout.color, "channels": channels, "patch": patch, "stride": layout.stride}
    metadata = {"irnas_ray": json.dumps(notes | {"axes": "channels height width"})}
    place = [("image_id", pa.string()), ("y", pa.int32()), ("x", pa.int32())]
    size = [("image_id", pa.string()), ("split", pa.string())]
    size += [(name, pa.int32()) for name in ("height", "width", "channels")]
    # A column of fixed size is one plain buffer, which numpy reads without a copy.
    patches = [(name, pa.binary(channels * patch * patch)) for name in layout.columns]
    wholes = [(name, pa.large_binary()) for name in layout.columns]
    return pa.schema(place + patches, metadata), pa.schema(size + wholes, metadata)


def add_image(
    image: SourceImage, sides: dict[str, UInt8[np.ndarray, "c h w"]], layout: Layout, patches: Parts, wholes: Parts
) -> None:
    """Append an image, given as column -> pixels, and its patches if it is a training image."""
    channels, height, width = sides["clean"].shape
    row = {"image_id": image.image_id, "split": image.split, "height": height, "width": width, "channels": channels}
    wholes.add(row | {name: side.tobytes() for name, side in sides.items()})
    if image.split == "train":
        for cut in _cut(sides, layout.patch, layout.stride):
            patches.add({"image_id": image.image_id} | cut)


def _cut(sides: dict[str, UInt8[np.ndarray, "c h w"]], patch: int, step: int) -> Iterator[dict[str, Any]]:
    _, height, width = sides["clean"].shape
    for y in tile_positions(height, patch, step):
        for x in tile_positions(width, patch, step):
            pixels = {name: side[:, y : y + patch, x : x + patch].tobytes() for name, side in sides.items()}
            yield {"y": y, "x": x} | pixels
