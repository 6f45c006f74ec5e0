"""Patches out of Parquet files as Arrow tables; free of torch and Ray, so that a reading process stays small."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from jaxtyping import Int64, UInt8

#: Bytes of patches that are shuffled among each other when streaming; the reader holds about three times as much.
WINDOW_BYTES = 128 * 2**20
#: Bytes of patches in one table of a stream.
TABLE_BYTES = 4 * 2**20

_PLACE = ("image_id", "y", "x")
_BITS = 20


@dataclass(frozen=True)
class PatchFile:
    """A Parquet file and how many of its rows are selected."""

    path: str
    rows: int


@dataclass(frozen=True)
class Selection:
    """The patches of some images: the files that hold them, the images' sorted ids, and the pixel columns to read."""

    files: tuple[PatchFile, ...]
    image_ids: tuple[str, ...]
    columns: tuple[str, ...]
    #: Bytes of one row's pixels.
    row_bytes: int

    @property
    def rows(self) -> int:
        """Number of selected patches."""
        return sum(file.rows for file in self.files)

    def read_all(self, paths: Sequence[str]) -> Iterator[pa.Table]:
        """The selected patches of each file in turn: image_id, y, x and the pixel columns."""
        for path in paths:
            yield _read(path, self.image_ids, (*_PLACE, *self.columns))


def select(folder: Path, image_ids: Sequence[str], columns: Sequence[str], row_bytes: int) -> Selection:
    """Find the files in `folder`/patches that hold patches of the images; reads no pixels."""
    ids = tuple(sorted(set(image_ids)))
    paths = sorted(str(path) for path in (folder / "patches").glob("*.parquet"))
    files = [PatchFile(path, _read(path, ids, ("image_id",)).num_rows) for path in paths]
    return Selection(tuple(file for file in files if file.rows), ids, tuple(columns), row_bytes)


def sorted_keys(selection: Selection) -> Int64[np.ndarray, " n"]:
    """One number for each selected patch, ascending: its rank is the patch's place by image_id, y, x."""
    tables = [_read(file.path, selection.image_ids, _PLACE) for file in selection.files]
    return np.sort(np.concatenate([keys_of(table, selection.image_ids) for table in tables]))


def keys_of(table: pa.Table, image_ids: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """The key of each row of `table`: its image's index in the sorted `image_ids`, then y, then x."""
    index = pc.index_in(table["image_id"], value_set=pa.array(image_ids, pa.string())).to_numpy().astype(np.int64)
    y, x = (table[name].to_numpy().astype(np.int64) for name in ("y", "x"))
    return (index << 2 * _BITS) | (y << _BITS) | x


def pixels_of(table: pa.Table, name: str, channels: int, patch: int) -> UInt8[np.ndarray, "n c p p"]:
    """The pixels of a fixed-size column, read-only and without a copy where the table is one piece."""
    array = table[name].combine_chunks()
    size = channels * patch * patch
    flat = np.frombuffer(array.buffers()[1], np.uint8, len(array) * size, array.offset * size)
    return flat.reshape(len(array), channels, patch, patch)


def stream(selection: Selection, seed: int, drawn: int) -> Iterator[pa.Table]:
    """The selected patches for ever, from patch number `drawn` on; each pass has all of them once, in a new order.

    Files are reshuffled each pass and read in windows of `WINDOW_BYTES`, whose rows are shuffled among each other. The
    order depends on the seed and the files alone, so that a stream can be continued anywhere: passed windows are
    skipped unread. Tables hold the pixel columns only.
    """
    turn, passed = divmod(drawn, selection.rows)
    while True:
        for number, window in enumerate(_windows(selection, seed, turn)):
            rows = sum(file.rows for file in window)
            if passed >= rows:
                passed -= rows
                continue
            order = np.random.default_rng([seed, turn, number]).permutation(rows)[passed:]
            passed = 0
            yield from _shuffled(selection, window, order)
        turn += 1


def _shuffled(selection: Selection, window: list[PatchFile], order: Int64[np.ndarray, " n"]) -> Iterator[pa.Table]:
    # One piece: `take` on many chunks costs far more than the copy.
    table = pa.concat_tables(
        [_read(file.path, selection.image_ids, selection.columns) for file in window]
    ).combine_chunks()
    step = max(1, TABLE_BYTES // selection.row_bytes)
    for start in range(0, len(order), step):
        yield table.take(pa.array(order[start : start + step]))


def _windows(selection: Selection, seed: int, turn: int) -> list[list[PatchFile]]:
    windows: list[list[PatchFile]] = [[]]
    for index in np.random.default_rng([seed, turn]).permutation(len(selection.files)):
        windows[-1].append(selection.files[index])
        if sum(file.rows for file in windows[-1]) * selection.row_bytes >= WINDOW_BYTES:
            windows.append([])
    return [window for window in windows if window]


def _read(path: str, image_ids: tuple[str, ...], columns: Sequence[str]) -> pa.Table:
    chosen = pads.field("image_id").isin(list(image_ids))
    return pads.dataset(path, format="parquet").to_table(columns=list(columns), filter=chosen)
