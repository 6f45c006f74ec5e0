"""Derivatives written by hand, which refuse to be differentiated again."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

Backward = Callable[..., tuple[Tensor | None, ...]]


def autocast_in(kind: str) -> bool:
    """Whether autocast is on for a kind of device, some of which have none."""
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def differentiable_once(backward: Backward) -> Backward:
    """A ``backward`` whose results raise RuntimeError where they are differentiated, and that ignores autocast.

    ``torch.autograd.function.once_differentiable`` takes the results for constants if the incoming gradient is one,
    though they depend on the saved tensors: a penalty on the gradient of a sum would miss terms without an error.
    """

    @wraps(backward)
    def once(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        kind = gradients[0].device.type
        with torch.no_grad():
            if autocast_in(kind):
                with torch.autocast(kind, enabled=False):
                    results = backward(ctx, *gradients)
            else:
                results = backward(ctx, *gradients)
        if not torch.is_grad_enabled():  # no graph of the derivatives is wanted
            return results
        sources = [tensor for tensor in (*ctx.saved_tensors, *gradients) if tensor is not None and tensor.requires_grad]
        found = [result for result in results if result is not None]
        refusing = iter(_Refusal.apply(len(found), *found, *sources))
        return tuple(None if result is None else next(refusing) for result in results)

    return once


class _Refusal(torch.autograd.Function):
    """The first ``count`` tensors; whoever differentiates them, in the others too, is refused."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.detach() for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        raise RuntimeError("an operator whose derivative is written by hand cannot be differentiated twice")
