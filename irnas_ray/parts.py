"""Writes images and their patches as Parquet files of bounded size, in bounded memory."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8

from irnas_ray.images import channels_of
from irnas_ray.manifest import ImageEntry
from irnas_ray.sources import SourceImage

#: Uncompressed bytes of pixels after which a row group, and a file, is closed.
ROW_GROUP_BYTES = 8 * 2**20
PART_BYTES = 64 * 2**20


class Parts:
    """Rows written to `folder`/part-00000.parquet, part-00001.parquet, ... as they come; at most one group is held."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        folder.mkdir(parents=True)
        self.rows = 0
        self._folder = folder
        self._schema = schema
        self._pixels = [field.name for field in schema if field.name in ("clean", "degraded")]
        self._group: list[dict[str, Any]] = []
        self._group_bytes = 0
        self._part_bytes = 0
        self._count = 0
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
        if self._group_bytes >= min(ROW_GROUP_BYTES, PART_BYTES):
            self._flush()

    def _flush(self) -> None:
        if not self._group:
            return
        if self._part_bytes and self._part_bytes + self._group_bytes > PART_BYTES:
            self._close()
        if self._writer is None:
            path = self._folder / f"part-{self._count:05d}.parquet"
            self._count += 1
            # Dictionaries and min/max statistics of pixels cost time and space and find nothing.
            self._writer = pq.ParquetWriter(
                path,
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


def write_parts(
    folder: Path,
    found: list[SourceImage],
    color: str,
    patch: int,
    stride: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[ImageEntry], int]:
    """Write `patches/` (training images, cut) and `images/` (all, whole); return the images and the patch count."""
    columns = ["clean", "degraded"] if found[0].paired else ["clean"]
    patch_schema, image_schema = _schemas(columns, color, patch, stride)
    entries = {}
    with Parts(folder / "patches", patch_schema) as patches, Parts(folder / "images", image_schema) as wholes:
        # Neighbours in a folder are often alike; stored in a random order, each part is a fair sample for streaming.
        for done, index in enumerate(np.random.default_rng(0).permutation(len(found)), 1):
            image = found[index]
            sides = _planes(image, color, columns)
            channels, height, width = sides["clean"].shape
            row = {"image_id": image.image_id, "split": image.split}
            row |= {"height": height, "width": width, "channels": channels}
            wholes.add(row | {name: side.tobytes() for name, side in sides.items()})
            if image.split == "train":
                for cut in _cut(sides, patch, stride):
                    patches.add({"image_id": image.image_id} | cut)
            sha256 = hashlib.sha256(sides["clean"].data).hexdigest()
            entries[index] = ImageEntry(image.image_id, image.split, height, width, sha256)
            if progress:
                progress(done, len(found))
    return [entries[index] for index in range(len(found))], patches.rows


def _schemas(columns: list[str], color: str, patch: int, stride: int) -> tuple[pa.Schema, pa.Schema]:
    channels = channels_of(color)
    notes = {"color": color, "channels": channels, "patch": patch, "stride": stride, "axes": "channels height width"}
    metadata = {"irnas_ray": json.dumps(notes)}
    place = [("image_id", pa.string()), ("y", pa.int32()), ("x", pa.int32())]
    size = [("image_id", pa.string()), ("split", pa.string())]
    size += [(name, pa.int32()) for name in ("height", "width", "channels")]
    # A column of fixed size is one plain buffer, which numpy reads without a copy.
    patches = [(name, pa.binary(channels * patch * patch)) for name in columns]
    wholes = [(name, pa.large_binary()) for name in columns]
    return pa.schema(place + patches, metadata), pa.schema(size + wholes, metadata)


def _planes(image: SourceImage, color: str, columns: list[str]) -> dict[str, UInt8[np.ndarray, "c h w"]]:
    sides = [np.ascontiguousarray(side.transpose(2, 0, 1)) for side in image.read(color) if side is not None]
    return dict(zip(columns, sides, strict=True))


def _cut(sides: dict[str, UInt8[np.ndarray, "c h w"]], patch: int, step: int) -> Iterator[dict[str, Any]]:
    _, height, width = sides["clean"].shape
    for y in tile_positions(height, patch, step):
        for x in tile_positions(width, patch, step):
            pixels = {name: side[:, y : y + patch, x : x + patch].tobytes() for name, side in sides.items()}
            yield {"y": y, "x": x} | pixels
