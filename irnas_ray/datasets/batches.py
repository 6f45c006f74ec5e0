"""From stored images to batches of (degraded, clean) crops: cut, flip, rotate and degrade on the device, seeded."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt
from torch import Tensor

from irnas_ray.datasets.crops import CropPlan, Crops
from irnas_ray.images.depth import unit_range
from irnas_ray.system.random_streams import stream_seed

#: Degraded and clean images, each (b c h w) in [0, 1].
Batch = tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]
Patches = tuple[UInt[Tensor, "b c p p"], UInt[Tensor, "b c p p"] | None]
State = dict[str, Any]


@runtime_checkable
class PatchSource(Protocol):
    """An endless, resumable stream of (clean, degraded or None) patches, uint8 or uint16."""

    def __next__(self) -> Patches: ...
    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State) -> None: ...


@runtime_checkable
class ResumableBatches(Protocol):
    """An endless, resumable stream of batches."""

    def __next__(self) -> Batch: ...
    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State) -> None: ...


class ResidentPatches:
    """Patches kept on their device and drawn without replacement, in a new seeded order each pass.

    Batches run on over the end of a pass, so that all have ``batch`` patches whatever the number of patches.
    Raises ValueError if there are no patches or ``batch`` is under 1.
    """

    def __init__(
        self, clean: UInt[Tensor, "n c p p"], degraded: UInt[Tensor, "n c p p"] | None, batch: int, seed: int
    ) -> None:
        if len(clean) < 1 or batch < 1:
            raise ValueError(f"{len(clean)} patches in batches of {batch}: at least one of each is needed")
        self.clean, self.degraded, self.batch, self.seed = clean, degraded, batch, seed
        self._drawn, self._order_pass = 0, -1
        self._order = torch.empty(0, dtype=torch.long)

    def __iter__(self) -> Iterator[Patches]:
        return self

    def __next__(self) -> Patches:
        indices: list[Tensor] = []
        missing = self.batch
        while missing:
            turn, place = divmod(self._drawn, len(self.clean))
            taken = self._order_of(turn)[place : place + missing]
            indices.append(taken)
            self._drawn += len(taken)
            missing -= len(taken)
        index = torch.cat(indices).to(self.clean.device)
        return _picked(self.clean, index), None if self.degraded is None else _picked(self.degraded, index)

    def _order_of(self, turn: int) -> Int[Tensor, " n"]:
        if turn != self._order_pass:
            generator = torch.Generator().manual_seed(stream_seed(self.seed, "order", turn))
            self._order, self._order_pass = torch.randperm(len(self.clean), generator=generator), turn
        return self._order

    def state_dict(self) -> State:
        """Position in the stream, and the seed of its order."""
        return {"drawn": self._drawn, "seed": self.seed}

    def load_state_dict(self, state: State) -> None:
        """Continue with exactly the batch that would have come next, whatever this stream's own seed was."""
        self._drawn, self.seed, self._order_pass = int(state["drawn"]), int(state.get("seed", self.seed)), -1


class ResidentImages:
    """Whole images kept on their device, of which crops are drawn, in a new seeded order each pass.

    Every position in every image is equally likely (``CropPlan``). Batches run on over the end of a pass. ``clean`` and
    ``degraded`` hold the (c h w) pixels of one image after the other. Raises ValueError if ``batch`` is under 1.
    """

    def __init__(
        self, clean: UInt[Tensor, " n"], degraded: UInt[Tensor, " n"] | None, plan: CropPlan, batch: int, seed: int
    ) -> None:
        if batch < 1:
            raise ValueError(f"crops in batches of {batch}: at least one is needed")
        self.clean, self.degraded, self.plan, self.batch, self.seed = clean, degraded, plan, batch, seed
        sizes = plan.heights * plan.widths
        self._channels = len(clean) // int(sizes.sum())
        self._starts = self._channels * (np.cumsum(sizes) - sizes)
        self._drawn, self._pass = 0, -1

    def __iter__(self) -> Iterator[Patches]:
        return self

    def __next__(self) -> Patches:
        pieces: list[Tensor] = []
        missing = self.batch
        while missing:
            turn, place = divmod(self._drawn, self.plan.count)
            crops = self._crops_of(turn)[place : place + missing]
            pieces.append(self._places(crops))
            self._drawn += len(crops)
            missing -= len(crops)
        index = torch.cat(pieces)
        return _picked(self.clean, index), None if self.degraded is None else _picked(self.degraded, index)

    def _crops_of(self, turn: int) -> Crops:
        if turn != self._pass:
            generator = np.random.default_rng([self.seed, turn])
            self._crops, self._pass = self.plan.draw(self.plan.shares(generator), generator), turn
        return self._crops

    def _places(self, crops: Crops) -> Int[Tensor, "b c k k"]:
        """Where each pixel of the crops is kept."""
        heights, widths = self.plan.heights[crops.image], self.plan.widths[crops.image]
        firsts = self._starts[crops.image] + crops.top * widths + crops.left
        # One small copy to the device; the rest is computed there.
        numbers = torch.from_numpy(np.stack([firsts, widths, heights * widths])).to(self.clean.device)
        first, width, plane = numbers.view(3, -1, 1, 1, 1)
        ramp = torch.arange(self.plan.crop, device=self.clean.device)
        channel = torch.arange(self._channels, device=self.clean.device).view(-1, 1, 1)
        return first + channel * plane + ramp.view(-1, 1) * width + ramp

    def state_dict(self) -> State:
        """Position in the stream, and the seed of its order."""
        return {"drawn": self._drawn, "seed": self.seed}

    def load_state_dict(self, state: State) -> None:
        """Continue with exactly the batch that would have come next, whatever this stream's own seed was."""
        self._drawn, self.seed, self._pass = int(state["drawn"]), int(state.get("seed", self.seed)), -1


class TrainingBatches:
    """An endless, resumable stream of (degraded, clean) float batches in [0, 1] on the patches' device.

    Every patch gives one random ``crop`` x ``crop`` window, flipped left to right in half of the cases; ``rotate`` adds
    the rotations by 90 degrees and vertical flips (section 4.1). ``degradation(clean, generator)`` makes the degraded
    image unless the source holds pairs. Equal seeds give equal batches. Raises ValueError if ``crop`` is under 1, and
    with the first batch if it is larger than a patch, or nothing makes degraded images.

    >>> import torch
    >>> import irnas_ray as ir
    >>> from skimage import data
    >>> clean = torch.from_numpy(data.camera()[:64]).unfold(1, 64, 64).transpose(0, 1)[:, None]  # uint8
    >>> patches = ir.datasets.ResidentPatches(clean, None, batch=4, seed=0)
    >>> degrade = ir.make_degradation(ir.Degradation(sigmas=[25]))
    >>> batches = ir.TrainingBatches(patches, crop=32, degradation=degrade, seed=0)
    >>> degraded, clean = next(batches)
    >>> degraded.shape == clean.shape == (4, 1, 32, 32)
    True
    """

    def __init__(
        self,
        source: PatchSource,
        crop: int,
        degradation: Callable[[Tensor, torch.Generator], Tensor] | None,
        seed: int,
        device: torch.device | str = "cpu",
        rotate: bool = False,
    ) -> None:
        if crop < 1:
            raise ValueError(f"crop: {crop}; at least 1 pixel")
        self.source, self.crop, self.degradation, self.rotate = source, crop, degradation, rotate
        self.seed = seed
        self.geometry = torch.Generator().manual_seed(stream_seed(seed, "geometry"))
        self.noise = torch.Generator(device).manual_seed(stream_seed(seed, "noise"))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        clean_patches, degraded_patches = next(self.source)
        rows, columns = self._windows(len(clean_patches), clean_patches.shape[-1])
        clean = take_windows(clean_patches, rows, columns)
        if degraded_patches is not None:
            return take_windows(degraded_patches, rows, columns), clean
        if self.degradation is None:
            raise ValueError("the patches hold no degraded images and no degradation is set; choose degradation.kind")
        return self.degradation(clean, self.noise), clean

    def _windows(self, count: int, side: int) -> tuple[Int[Tensor, "b k k"], Int[Tensor, "b k k"]]:
        """Row and column in the patch of every pixel of each window; flips and rotations are in the order."""
        if side < self.crop:
            raise ValueError(f"crop: {self.crop} pixels from patches of {side}; prepare larger patches or crop less")
        draw = torch.randint(2**31, (5, count, 1, 1), generator=self.geometry)
        ramp = torch.arange(self.crop)
        down, right = ramp.view(1, -1, 1), ramp.view(1, 1, -1)
        rows, columns = torch.broadcast_tensors(down.expand(count, -1, -1), right)
        columns = torch.where(draw[2] % 2 == 1, self.crop - 1 - columns, columns)
        if self.rotate:
            rows = torch.where(draw[3] % 2 == 1, self.crop - 1 - rows, rows)
            transposed = draw[4] % 2 == 1
            rows, columns = torch.where(transposed, columns, rows), torch.where(transposed, rows, columns)
        free = side - self.crop + 1
        return rows + draw[0] % free, columns + draw[1] % free

    def state_dict(self) -> State:
        """Position in the data and all random state."""
        return {
            "source": self.source.state_dict(),
            "geometry": self.geometry.get_state(),
            "noise": self.noise.get_state(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continue exactly where ``state_dict`` was taken."""
        self.source.load_state_dict(state["source"])
        self.geometry.set_state(state["geometry"].cpu())
        self.noise.set_state(state["noise"].cpu())

    def follow(self, state: State) -> None:
        """Go to the position of another stream's state, in this stream's own order; crops and noise are drawn anew."""
        drawn = int(state["source"]["drawn"])
        self.source.load_state_dict({**self.source.state_dict(), "drawn": drawn})
        # a stream that goes the whole way itself has drawn other numbers by then
        self.geometry.manual_seed(stream_seed(self.seed, "geometry", drawn))
        self.noise.manual_seed(stream_seed(self.seed, "noise", drawn))


class EndlessBatches:
    """Any iterable of batches as one persistent, resumable iterator that starts over at the end.

    An iterable with ``state_dict`` and ``load_state_dict`` is continued by them; of any other the batches already seen
    are skipped, which is exact as long as it gives the same batches in the same order each time.
    Raises ValueError if the iterable is empty.
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = batches
        self._iterator = iter(batches)
        self._seen = 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        self._seen += 1
        try:
            return next(self._iterator)
        except StopIteration:
            self._iterator = iter(self._batches)
        try:
            return next(self._iterator)
        except StopIteration:
            raise ValueError("the training data hold no batch, or are an iterator that has ended") from None

    def state_dict(self) -> State:
        """Position in the stream."""
        inner = self._batches.state_dict() if hasattr(self._batches, "state_dict") else None
        return {"seen": self._seen, "inner": inner}

    def load_state_dict(self, state: State) -> None:
        """Continue after the batches that ``state_dict`` had seen."""
        if hasattr(self._batches, "load_state_dict"):
            self._batches.load_state_dict(state["inner"])
            # a data loader's position holds for the iterator that is made next
            self._iterator = iter(self._batches)
            self._seen = int(state["seen"])
            return
        while self._seen < int(state["seen"]):
            next(self)


def take_windows(
    patches: UInt[Tensor, "b c p p"], rows: Int[Tensor, "b k k"], columns: Int[Tensor, "b k k"]
) -> Float[Tensor, "b c k k"]:
    """The pixels of each patch at its own rows and columns, scaled to [0, 1]."""
    which = torch.arange(len(patches)).view(-1, 1, 1)
    where = (index.to(patches.device) for index in (which, rows, columns))
    return unit_range(_picked(patches.permute(0, 2, 3, 1), *where).permute(0, 3, 1, 2).contiguous())


def _picked(pixels: UInt[Tensor, "*shape"], *where: Int[Tensor, "..."]) -> UInt[Tensor, "*picked"]:
    if pixels.dtype != torch.uint16:
        return pixels[where]
    # PyTorch's GPU kernels may not index uint16; as int16 the same bits are moved.
    return pixels.view(torch.int16)[where].view(torch.uint16)
