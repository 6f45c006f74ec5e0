"""Parquet -> Ray Data -> batches of patches of 8 or 16 bits on the trial's device."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from jaxtyping import UInt
from ray.exceptions import RayTaskError
from torch import Tensor

from irnas_ray.datasets.batches import Patches, PatchSource, ResidentImages, State
from irnas_ray.datasets.crops import CropPlan
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.datasets.reader import Selection, pixels_of, select, stream

#: Largest block in the object store; Ray's default of 128 MiB would hold thousands of patches ahead of each trial.
BLOCK_BYTES = 16 * 2**20
#: Files that are read at the same time when a data set is loaded.
READERS = 4


@dataclass(frozen=True)
class PatchSet:
    """Some images of a prepared data set, to cut patches from; made in the driver, picklable, opened in any trial."""

    selection: Selection
    #: The images in the object store, where they fit the device; None: streamed from the files.
    stored: "list[ray.ObjectRef[pa.Table]] | None" = field(default=None, repr=False)

    @property
    def paired(self) -> bool:
        """Whether degraded images are stored beside the clean ones."""
        return "degraded" in self.selection.columns

    def batches(self, batch: int, crop: int, seed: int, device: torch.device | str) -> PatchSource:
        """An endless, resumable iterator of (clean, degraded or None) patches (b, c, crop, crop) on `device`.

        They are uint8 or uint16, as stored. Every position in every image is equally likely. The same seed gives the
        same batches. ValueError if `batch` or `crop` is below 1, `seed` below 0, or an image is smaller than a crop.
        """
        if batch < 1 or seed < 0:
            raise ValueError(f"batch is {batch} and seed {seed}; they must be at least 1 and 0")
        plan = CropPlan.of(self.selection.images, crop)
        if self.stored is None:
            return StreamedPatches(self, batch, plan, seed, device)
        clean, degraded = self._load(device)
        return ResidentImages(clean, degraded, plan, batch, seed)

    def tensors(self, table: pa.Table, crop: int, device: torch.device | str) -> Patches:
        """The pixels of a table as (n, c, crop, crop) tensors on `device`; the second None if not paired."""
        # A copy, because the object store's memory is read-only and may go before the tensor does.
        sides = [
            torch.from_numpy(pixels_of(self.selection, table, name, crop).copy()).to(device)
            for name in self.selection.columns
        ]
        return sides[0], sides[1] if self.paired else None

    def _load(self, device: torch.device | str) -> tuple[UInt[Tensor, " n"], UInt[Tensor, " n"] | None]:
        assert self.stored is not None
        sizes = {x.image_id: self.selection.channels * x.height * x.width for x in self.selection.images}
        # Blocks arrive in any order; a trial's batches must not depend on it.
        starts = dict(zip(sizes, itertools.accumulate(sizes.values(), initial=0), strict=False))
        kind = self.selection.depth.dtype
        empty = partial(torch.empty, sum(sizes.values()), dtype=getattr(torch, kind.name), device=device)
        targets = [empty() for _ in self.selection.columns]
        for reference in self.stored:
            table = ray.get(reference)
            for row, image_id in enumerate(table["image_id"].to_pylist()):
                place = slice(start := starts.pop(image_id), start + sizes[image_id])
                for target, name in zip(targets, self.selection.columns, strict=True):
                    target[place] = torch.from_numpy(np.frombuffer(table[name][row].as_buffer(), kind).copy())
        if starts:
            raise RuntimeError(f"{len(starts)} of {len(sizes)} images did not arrive from the object store")
        return targets[0], targets[1] if self.paired else None


class StreamedPatches:
    """Patches cut from images that are read again from their files on each pass, by one Ray Data execution for good.

    Batches run on over the end of a pass. Nothing is read before the first batch.
    """

    def __init__(self, patches: PatchSet, batch: int, plan: CropPlan, seed: int, device: torch.device | str) -> None:
        self._patches, self._batch, self._plan, self._seed, self._device = patches, batch, plan, seed, device
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
            self._tables = _endless(self._patches.selection, self._plan, self._seed, self._drawn)
        with _plain_errors():
            table = next(self._tables)
        return self._patches.tensors(table, self._plan.crop, self._device)

    def state_dict(self) -> State:
        """Position in the stream, and what it depends on."""
        return {"drawn": self._drawn, "seed": self._seed, "crops": self._plan.count}

    def load_state_dict(self, state: State) -> None:
        """Continue with exactly the batch that would have come next, whatever this stream's own seed was.

        ValueError if the data differ. A state of a former release, which drew stored patches, is continued with as many
        crops drawn.
        """
        if (crops := state.get("crops", self._plan.count)) != self._plan.count:
            raise ValueError(f"the state is of {crops} crops in a pass, this is of {self._plan.count}: other data")
        self._drawn, self._seed = int(state["drawn"]), int(state["seed"])
        self._tables, self._held = None, None


def open_patches(folder: Path | str, image_ids: Sequence[str], device_budget_bytes: int) -> PatchSet:
    """The given training images of a prepared folder, to cut patches from, ready for `tune.with_parameters`.

    Up to `device_budget_bytes` of pixels they are read into Ray's object store now, and each trial keeps them on its
    device; beyond it trials stream them from the files, which every node must then see under the same path. ValueError
    if the folder is not a prepared data set, has no such training image, or holds pixels that have changed.
    """
    # Readers and trials run elsewhere, with other current folders.
    folder = Path(folder).absolute()
    manifest = Manifest.load(folder)
    unknown = sorted(set(image_ids) - set(manifest.ids("train")))
    if unknown or not image_ids:
        raise ValueError(f"{folder}: has no training images {', '.join(unknown[:5]) or 'in an empty list'}")
    selection = select(folder, manifest, image_ids)
    if selection.total_bytes > device_budget_bytes:
        return PatchSet(selection)
    return PatchSet(selection, _stored(selection))


# Why not read_parquet: it lists files and reads footers in tasks that need a free CPU, and cannot repeat or resume.


def _stored(selection: Selection) -> "list[ray.ObjectRef[pa.Table]]":
    if selection.total_bytes <= BLOCK_BYTES:
        # read before the first reader would have started
        return [ray.put(selection.read(file)) for file in selection.files]
    files = _settle(ray.data.from_items([{"file": number} for number in range(len(selection.files))]), BLOCK_BYTES)
    # A lambda travels by value: a reader that had to import this module would load torch.
    tables = files.map_batches(
        lambda numbers: (selection.read(selection.files[number]) for number in numbers["file"].to_pylist()),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(size=min(READERS, len(selection.files))),
    )
    with _plain_errors():
        return tables.to_arrow_refs()


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """What a reading task found wrong with the data, without where in Ray it was found."""
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, ValueError):
            # Ray adds lines about its attempts
            raise ValueError(str(error.cause).partition("\n")[0]) from None
        raise


def _endless(selection: Selection, plan: CropPlan, seed: int, drawn: int) -> Iterator[pa.Table]:
    # Ray fills a block before it hands it on; one of a small data set would have to hold hundreds of passes.
    pass_bytes = plan.count * selection.pixel_bytes * plan.crop**2
    start = _settle(ray.data.from_items([{"drawn": drawn}]), min(BLOCK_BYTES, pass_bytes))
    crop = plan.crop
    tables = start.map_batches(
        lambda row: stream(selection, crop, seed, row["drawn"][0].as_py()),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0,
    )
    return iter(tables.iter_batches(batch_size=None, batch_format="pyarrow"))


def _settle(dataset: ray.data.Dataset, block_bytes: int) -> ray.data.Dataset:
    # On the data set, not in the process's DataContext, which belongs to the user.
    context: Any = dataset.context
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.target_max_block_size = block_bytes
    return dataset
