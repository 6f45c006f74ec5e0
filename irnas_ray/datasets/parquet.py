"""How images are laid out in Parquet files of bounded size, written in bounded memory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt

from irnas_ray.images.depth import Depth
from irnas_ray.images.files import channels_of
from irnas_ray.images.sources import SourceImage

#: Uncompressed bytes of pixels after which a row group, and a file, is closed.
ROW_GROUP_BYTES = 8 * 2**20
PART_BYTES = 64 * 2**20


def check_columns(schema: pa.Schema, file: Path | str) -> None:
    """ValueError naming the file if a column is of an extension type, of which Ray registers one that holds pickles.

    Its values would be unpickled, which runs code, where they become Python objects.
    """
    types = [(field.name, field.type) for field in schema]
    while types:
        column, kind = types.pop()
        # what pyarrow knows no class for it reads as plain storage
        if isinstance(kind, pa.BaseExtensionType):
            raise ValueError(
                f"{file}: column {column!r} is of type {kind}, as none that this tool writes; prepare it anew"
            )
        types += [(column, kind.value_type)] if pa.types.is_dictionary(kind) else []
        types += [(column, kind.field(index).type) for index in range(kind.num_fields)]


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
        """Append one row, given as column -> value, pixels as arrays that nobody changes any more."""
        self.rows += 1
        self._group.append(row)
        self._group_bytes += sum(row[name].nbytes for name in self._pixels)
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
        columns = [
            _binary(values) if name in self._pixels else pa.array(values, self._schema.field(name).type)
            for name, values in ((name, [row[name] for row in self._group]) for name in self._schema.names)
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self._part_bytes += self._group_bytes
        self._group, self._group_bytes = [], 0

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._part_bytes = None, 0


@dataclass(frozen=True)
class Layout:
    """How images are stored: gray or rgb, alone or in pairs, bytes of a part, and the depth of all pixels."""

    color: str
    paired: bool
    part_bytes: int
    depth: Depth = Depth.EIGHT

    @property
    def columns(self) -> list[str]:
        """The columns of pixels."""
        return ["clean", "degraded"] if self.paired else ["clean"]

    def image_bytes(self, height: int, width: int) -> int:
        """Bytes of an image's pixels, of both images of a pair."""
        return len(self.columns) * channels_of(self.color) * height * width * self.depth.dtype.itemsize


def image_schema(layout: Layout) -> pa.Schema:
    """The columns of images, with the layout as metadata."""
    notes = {"color": layout.color, "channels": channels_of(layout.color), "axes": "channels height width"}
    if layout.depth > Depth.EIGHT:  # of 8 bits the files are those of former releases, to the byte
        notes |= {"bits": int(layout.depth), "byte order": "little"}
    columns = [("image_id", pa.string()), ("split", pa.string())]
    columns += [(name, pa.int32()) for name in ("height", "width", "channels")]
    columns += [(name, pa.large_binary()) for name in layout.columns]
    return pa.schema(columns, {"irnas_ray": json.dumps(notes)})


def add_image(image: SourceImage, sides: dict[str, UInt[np.ndarray, "c h w"]], images: Parts) -> None:
    """Append an image, given as column -> pixels."""
    channels, height, width = sides["clean"].shape
    row = {"image_id": image.image_id, "split": image.split, "height": height, "width": width, "channels": channels}
    images.add(row | sides)


def _binary(images: Sequence[UInt[np.ndarray, "_ _ _"]]) -> pa.LargeBinaryArray:
    """Images' bytes as a column, copied once; pyarrow's own way from a list takes as long as decoding a JPEG."""
    ends = np.cumsum([0, *(image.nbytes for image in images)], dtype=np.int64)
    pixels = np.concatenate([image.reshape(-1) for image in images])
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(images), [None, pa.py_buffer(ends), pa.py_buffer(pixels)]
    )
