"""A training that several processes do together, each on its share of every batch, with the result of a single one."""

import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from irnas_ray.datasets.batches import Batch, ResumableBatches, State
from irnas_ray.kernels.sync_batch_norm import synchronise
from irnas_ray.settings.study import Final
from irnas_ray.training.accumulation import Average
from irnas_ray.training.loss import restoration_loss
from irnas_ray.training.training import Training
from irnas_ray.training.validation import Validate


class DistributedTraining(Training):
    """A ``Training`` by all processes of the default group of ``torch.distributed``, which must exist.

    Every process is given the same network, batches and settings, draws every batch and computes its share. Batch
    statistics and the loss are those of the whole batch, and gradients are averaged, so that the weights follow those
    of a single process but for rounding, and are the same bits in all processes. The first process's clock counts, and
    it alone validates. Any process's state continues the training, with any number of processes.

    Raises:
        ValueError: as ``Training``; and where a batch cannot be divided evenly, or a network normalises by batches in
            another way than ``BatchNorm2d``.
    """

    def __init__(
        self,
        network: nn.Module,
        batches: Iterable[Batch],
        validate: Validate,
        settings: Final | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
        **changes: Any,
    ) -> None:
        synchronise(network)
        super().__init__(network, batches, _first_validates(validate), settings, clock=clock, **changes)
        # with a number of steps nothing depends on the time, and asking for it twice a step would cost some
        self.clock = clock if self.settings.minutes is None else _first_clock(clock)
        self.batches = Shares(self.batches)
        # a process that repeats a step alone would wait for the others' gradients for ever
        self.accumulation.divisible = False
        self.called = _averaging_gradients(network)

    def loss(
        self, restored: Float[Tensor, "b c h w"], clean: Float[Tensor, "b c h w"], average: Average | None = None
    ) -> Float[Tensor, ""]:
        """The loss of the whole batch, the same in all processes."""
        return restoration_loss(restored, clean, self.settings.ssim_weight, joint_mean)

    def load_state_dict(self, state: State) -> None:
        """Continue as ``Training`` does; that a process alone had to divide its batches says nothing about shares."""
        super().load_state_dict(state | {"micro_batch": None})


class Shares:
    """The part of every batch that is this process's: the first images are the first process's, and so on."""

    def __init__(self, batches: ResumableBatches) -> None:
        self._batches = batches
        self._rank, self._processes = dist.get_rank(), dist.get_world_size()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        degraded, clean = next(self._batches)
        share, rest = divmod(len(clean), self._processes)
        if rest:
            raise ValueError(f"a batch of {len(clean)} images cannot be divided among {self._processes} processes")
        own = slice(self._rank * share, (self._rank + 1) * share)
        return degraded[own], clean[own]

    def state_dict(self) -> State:
        """Position in the stream of whole batches."""
        return self._batches.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Continue after the batches that ``state_dict`` had seen."""
        self._batches.load_state_dict(state)


def check_same(what: str, value: str) -> None:
    """ValueError in every process, naming which processes have which value, unless all have the same."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    ranks: dict[str, list[int]] = defaultdict(list)
    for rank, found in enumerate(values):
        ranks[found].append(rank)
    if len(ranks) > 1:
        listed = "; ".join(f"{found} on {', '.join(map(str, where))}" for found, where in ranks.items())
        raise ValueError(f"the processes disagree about the {what}, by rank: {listed}; nothing was trained")


def joint_mean(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The means of values over all processes, the same bits in each.

    Differentiable for a loss that all processes compute from them alike, and whose gradients are averaged over them.
    """
    return _JointMean.apply(values)


class _JointMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # the loss of this process alone would follow by 1/n; that of all, which is n times the average, by 1
        return gradient


def _averaging_gradients(network: nn.Module) -> DistributedDataParallel:
    with warnings.catch_warnings():
        # the successor of `broadcast_buffers` is not in the oldest release of torch that this package works with
        warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
        # static: a user's network may have parameters that it does not use, and always the same ones
        return DistributedDataParallel(network, broadcast_buffers=False, static_graph=True)


def _first_clock(clock: Callable[[], float]) -> Callable[[], float]:
    def shared() -> float:
        now = torch.tensor(clock(), dtype=torch.float64)
        dist.broadcast(now, src=0)
        return now.item()

    return shared


def _first_validates(validate: Validate) -> Validate:
    def shared(network: nn.Module) -> dict[str, float]:
        scores = torch.zeros(2, dtype=torch.float64)
        if dist.get_rank() == 0:
            found = validate(network)
            scores = torch.tensor([found["psnr"], found["ssim"]], dtype=torch.float64)
        dist.broadcast(scores, src=0)
        psnr, ssim = scores.tolist()
        return {"psnr": psnr, "ssim": ssim}

    return shared
