"""Parquet -> Ray Data -> batches of uint8 patches on the trial's device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from irnas_ray.datasets.batches import Patches, PatchSource, ResidentPatches, State
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.datasets.reader import Selection, keys_of, pixels_of, select, sorted_keys, stream

#: Rows that are fetched at a time; batches are cut from them locally, ten times faster than fetched one by one.
FETCH_ROWS = 512
#: Largest block in the object store; Ray's default of 128 MiB would hold thousands of patches ahead of each trial.
BLOCK_BYTES = 16 * 2**20
#: Files that are read at the same time when a data set is loaded.
READERS = 4


@dataclass(frozen=True)
class PatchSet:
    """The patches of some images of a prepared data set; made in the driver, picklable, opened in any trial."""

    selection: Selection
    channels: int
    #: Side of a patch in pixels.
    patch: int
    #: The patches in the object store, where they fit the device; None: streamed from the files.
    dataset: ray.data.Dataset | None = field(default=None, repr=False)
    #: Rank by image, y and x of every patch of `dataset`.
    keys: Int64[np.ndarray, " n"] | None = field(default=None, repr=False)

    @property
    def rows(self) -> int:
        """Number of patches."""
        return self.selection.rows

    @property
    def paired(self) -> bool:
        """Whether degraded patches are stored beside the clean ones."""
        return "degraded" in self.selection.columns

    def batches(self, batch: int, seed: int, device: torch.device | str) -> PatchSource:
        """An endless, resumable iterator of (clean, degraded or None) uint8 (b, c, p, p) patches on `device`.

        The same seed gives the same batches. ValueError if `batch` is below 1 or `seed` below 0.
        """
        if batch < 1 or seed < 0:
            raise ValueError(f"batch is {batch} and seed {seed}; they must be at least 1 and 0")
        if self.dataset is None:
            return StreamedPatches(self, batch, seed, device)
        clean, degraded = self._load(device)
        return ResidentPatches(clean, degraded, batch, seed)

    def tensors(self, table: pa.Table, device: torch.device | str) -> Patches:
        """The pixels of a table of rows as (n, c, p, p) uint8 tensors on `device`; the second None if not paired."""
        # A copy, because the object store's memory is read-only and may go before the tensor does.
        sides = [
            torch.from_numpy(pixels_of(table, name, self.channels, self.patch).copy()).to(device)
            for name in self.selection.columns
        ]
        return sides[0], sides[1] if self.paired else None

    def _load(self, device: torch.device | str) -> tuple[UInt8[Tensor, "n c p p"], UInt8[Tensor, "n c p p"] | None]:
        assert self.dataset is not None and self.keys is not None
        shape = (self.rows, self.channels, self.patch, self.patch)
        targets = [torch.empty(shape, dtype=torch.uint8, device=device) for _ in self.selection.columns]
        filled = 0
        for table in self.dataset.iter_batches(batch_size=FETCH_ROWS, batch_format="pyarrow"):
            # Blocks arrive in any order; a trial's batches must not depend on it.
            ranks = torch.from_numpy(np.searchsorted(self.keys, keys_of(table, self.selection.image_ids))).to(device)
            sides = [side for side in self.tensors(table, device) if side is not None]
            for target, side in zip(targets, sides, strict=True):
                target[ranks] = side
            filled += len(ranks)
        if filled != self.rows:
            raise RuntimeError(f"{filled} of {self.rows} patches arrived from the object store")
        return targets[0], targets[1] if self.paired else None


class StreamedPatches:
    """Patches read again from their files on each pass, in a new seeded order, by one Ray Data execution for good.

    Batches run on over the end of a pass. Nothing is read before the first batch.
    """

    def __init__(self, patches: PatchSet, batch: int, seed: int, device: torch.device | str) -> None:
        self._patches, self._batch, self._seed, self._device = patches, batch, seed, device
        self._drawn = 0
        self._tables: Iterator[pa.Table] | None = None
        self._held: Patches | None = None

    def __iter__(self) -> Iterator[Patches]:
        return self

    def __next__(self) -> Patches:
        pieces: list[Patches] = []
        missing = self._batch
        while missing:
            clean, degraded = self._fetch()
            pieces.append((clean[:missing], None if degraded is None else degraded[:missing]))
            rest = clean[missing:], None if degraded is None else degraded[missing:]
            self._held = rest if len(rest[0]) else None
            missing -= len(pieces[-1][0])
        self._drawn += self._batch
        degraded_pieces = [degraded for _, degraded in pieces if degraded is not None]
        return torch.cat([clean for clean, _ in pieces]), torch.cat(degraded_pieces) if degraded_pieces else None

    def _fetch(self) -> Patches:
        if self._held is not None:
            return self._held
        if self._tables is None:
            self._tables = _endless(self._patches.selection, self._seed, self._drawn)
        return self._patches.tensors(next(self._tables), self._device)

    def state_dict(self) -> State:
        """Position in the stream, and what it depends on."""
        return {"drawn": self._drawn, "seed": self._seed, "rows": self._patches.rows}

    def load_state_dict(self, state: State) -> None:
        """Continue with exactly the batch that would have come next; ValueError if the data or the seed differ."""
        if (state["seed"], state["rows"]) != (self._seed, self._patches.rows):
            raise ValueError(
                f"the state is of {state['rows']} patches and seed {state['seed']}, "
                f"these are {self._patches.rows} patches and seed {self._seed}"
            )
        self._drawn, self._tables, self._held = int(state["drawn"]), None, None


def open_patches(folder: Path | str, image_ids: Sequence[str], device_budget_bytes: int) -> PatchSet:
    """The patches of the given training images of a prepared folder, ready for `tune.with_parameters`.

    Up to `device_budget_bytes` of pixels they are read into Ray's object store now, and each trial keeps them on its
    device; beyond it trials stream them from the files, which every node must then see under the same path. ValueError
    if the folder is not a prepared data set or has no patches of an image.
    """
    # Readers and trials run elsewhere, with other current folders.
    folder = Path(folder).absolute()
    manifest = Manifest.load(folder)
    unknown = sorted(set(image_ids) - set(manifest.ids("train")))
    if unknown or not image_ids:
        raise ValueError(f"{folder}: holds no patches of {', '.join(unknown[:5]) or 'an empty list of images'}")
    columns = ("clean", "degraded") if manifest.paired else ("clean",)
    row_bytes = len(columns) * manifest.channels * manifest.patch**2
    selection = select(folder, image_ids, columns, row_bytes)
    if selection.rows * row_bytes > device_budget_bytes:
        return PatchSet(selection, manifest.channels, manifest.patch)
    dataset = _materialized(selection)
    return PatchSet(selection, manifest.channels, manifest.patch, dataset, sorted_keys(selection))


# Why not read_parquet: it lists files and reads footers in tasks that need a free CPU, and cannot repeat or resume.


def _materialized(selection: Selection) -> ray.data.Dataset:
    files = _settle(ray.data.from_items([{"path": file.path} for file in selection.files]), selection)
    # A lambda travels by value: a reader that had to import this module would load torch.
    tables = files.map_batches(
        lambda paths: selection.read_all(paths["path"].to_pylist()),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(size=min(READERS, len(selection.files))),
    )
    return tables.materialize()


def _endless(selection: Selection, seed: int, drawn: int) -> Iterator[pa.Table]:
    start = _settle(ray.data.from_items([{"drawn": drawn}]), selection)
    tables = start.map_batches(
        lambda row: stream(selection, seed, row["drawn"][0].as_py()),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0,
    )
    return iter(tables.iter_batches(batch_size=None, batch_format="pyarrow"))


def _settle(dataset: ray.data.Dataset, selection: Selection) -> ray.data.Dataset:
    # On the data set, not in the process's DataContext, which belongs to the user.
    context: Any = dataset.context
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    # Ray fills a block before it hands it on; one of a small data set would have to hold hundreds of passes.
    context.target_max_block_size = min(BLOCK_BYTES, selection.rows * selection.row_bytes)
    return dataset
