"""The gradient of a batch that does not fit into memory at once, put together from parts of it."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.datasets.batches import Batch

#: Turns the means over some images, of which a loss is made, into those that the loss shall be made of.
Average = Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]
#: The loss of degraded and clean images, a function of means over the images; they go through the average if there is
#: one (``losses.restoration_loss``).
LossOf = Callable[[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"], Average | None], Float[Tensor, ""]]

#: How libraries say that memory is used up where they have no exception of its own for it.
WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED", "bad_alloc")


class TooLarge(MemoryError):
    """Not even one image, or the least that can be trained at a time, fits into memory, so to try again is in vain."""


class Accumulation:
    """Computes gradients of batches; one that does not fit is repeated in parts half as large, until they do.

    The gradient is that of the whole batch but for rounding, though the loss is no sum over images: the means of which
    it is made are computed first, without a graph, and then each part's gradient is taken with the others' share in
    them held fixed, which is the chain rule. That costs one forward pass more than the backward passes need. Only batch
    normalisation differs: it normalises by the part instead of the batch; its running statistics move once for a batch,
    by the mean over the parts. Random numbers are drawn anew from where the step began.

    Args:
        network: The network whose gradients are computed.
        advice: Which settings to lower where not even a single image fits.
        divisible: Whether batches may be divided; else what does not fit is an error.
    """

    def __init__(self, network: nn.Module, advice: str, divisible: bool = True) -> None:
        self.network, self.advice, self.divisible = network, advice, divisible
        #: Most images at a time, or None as long as whole batches fit.
        self.micro_batch: int | None = None
        self._fitted = False

    def backward(self, loss_of: LossOf, optimizer: torch.optim.Optimizer, batch: Batch) -> Float[Tensor, ""]:
        """Replace the gradients of the optimizer's parameters by those of a batch's loss; the loss, without a graph.

        Raises TooLarge, with the advice, where not even a single image fits.
        """
        images, device = len(batch[1]), batch[1].device
        random = _random_state(device)
        # a step that fails may have moved statistics; what fitted once mostly fits again, and is not worth a copy
        buffers = None if self._fitted else _Buffers(self.network)
        while True:
            loss, reason = self._attempt(loss_of, optimizer, batch)
            if loss is not None:
                self._fitted = True
                return loss
            optimizer.zero_grad(set_to_none=True)
            _set_random_state(random, device)
            if buffers is not None:
                buffers.restore()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            self._halve(images, reason)

    def _attempt(self, loss_of: LossOf, optimizer: torch.optim.Optimizer, batch: Batch) -> tuple[Tensor | None, str]:
        try:
            if self.micro_batch is None or self.micro_batch >= len(batch[1]):
                loss = loss_of(*batch, None)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                return loss.detach(), ""
            optimizer.zero_grad(set_to_none=True)
            return self._in_parts(loss_of, batch), ""
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # the error holds the failed step's tensors, so that it must not live on
            return None, str(error).strip().partition("\n")[0] or type(error).__name__

    def _halve(self, images: int, reason: str) -> None:
        size = min(self.micro_batch or images, images)
        if size == 1 or not self.divisible:
            what = "one image" if size == 1 else f"a share of {size} images"
            raise TooLarge(f"{what} does not fit into memory; {self.advice} ({reason})")
        self.micro_batch = (size + 1) // 2

    def _in_parts(self, loss_of: LossOf, batch: Batch) -> Tensor:
        degraded, clean = batch
        assert self.micro_batch is not None
        count = -(-len(clean) // self.micro_batch)
        parts = list(zip(degraded.tensor_split(count), clean.tensor_split(count), strict=True))
        shares = [len(targets) / len(clean) for _, targets in parts]
        buffers, random = _Buffers(self.network), _random_state(clean.device)
        whole = _means(loss_of, parts, shares)
        _set_random_state(random, clean.device)
        buffers.restore()
        for part, share in zip(parts, shares, strict=True):
            loss = loss_of(*part, partial(_follow, whole, share))
            loss.backward()
            buffers.add(share)
        buffers.settle()
        return loss.detach()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in WORDS)


@torch.no_grad()
def _means(loss_of: LossOf, parts: list[tuple[Tensor, Tensor]], shares: list[float]) -> Float[Tensor, " n"]:
    """The means over all parts together."""
    found: list[Tensor] = []

    def take(means: Tensor) -> Tensor:
        found.append(means)
        return means

    for part in parts:
        loss_of(*part, take)
    return torch.stack([share * means for share, means in zip(shares, found, strict=True)]).sum(dim=0)


def _follow(whole: Float[Tensor, " n"], share: float, means: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The means over the whole batch, as they follow those over a part of it."""
    return whole + share * (means - means.detach())


class _Buffers:
    """A network's statistics and other buffers at one moment, and the mean of those to which parts of a batch move."""

    def __init__(self, network: nn.Module) -> None:
        self.live = list(network.buffers())
        self.kept = [buffer.clone() for buffer in self.live]
        self.means = [torch.zeros_like(buffer) for buffer in self.live]

    def restore(self) -> None:
        for buffer, kept in zip(self.live, self.kept, strict=True):
            buffer.copy_(kept)

    def add(self, share: float) -> None:
        """Take in where the buffers have moved, with this weight, and move them back."""
        for buffer, mean in zip(self.live, self.means, strict=True):
            if mean.is_floating_point():
                mean.add_(buffer, alpha=share)
            else:
                mean.copy_(buffer)
        self.restore()

    def settle(self) -> None:
        """Set the buffers to the means of what was taken in."""
        for buffer, mean in zip(self.live, self.means, strict=True):
            buffer.copy_(mean)


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
