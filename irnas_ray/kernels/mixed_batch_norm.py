"""Batch normalisation, architecture weight and sum in one step, differentiated by hand.

For every candidate the supernet normalises an output, multiplies it by its weight and adds it to the others (eq. 2, 4).
Normalisation without affine parameters followed by a factor is normalisation whose affine scale is that factor, which
is one pass over the data; and its derivative needs the raw output alone, so that neither normalised nor weighted
tensors are kept.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.kernels import compiled, planes
from irnas_ray.kernels.derivatives import differentiable_once


def normalised_sum(
    terms: Sequence[Float[Tensor, "b channels h w"]],
    factors: Float[Tensor, "terms groups"],
    norms: Sequence[nn.BatchNorm2d],
) -> Float[Tensor, "b channels h w"]:
    """The sum over k of ``factors[k]`` times the batch normalisation ``norms[k]`` of ``terms[k]``.

    Each group of channels has its own factor. The norms have no affine parameters; in training they normalise by the
    batch, and their running statistics follow; in evaluation they use them. Terms of several types, as autocast makes
    them, are brought to one that holds all.
    """
    first, kind = norms[0], reduce(torch.promote_types, (term.dtype for term in terms))
    terms = [term.to(kind) for term in terms]
    statistics = [(norm.running_mean, norm.running_var) for norm in norms]
    return _NormalisedSum.apply(factors, statistics, first.training, first.momentum, first.eps, *terms)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """A context in which no batch normalisation of a module moves its running statistics."""
    momenta = [(norm, norm.momentum) for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
    for norm, _ in momenta:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in momenta:
            norm.momentum = momentum


class _NormalisedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, factors: Tensor, statistics: Any, training: bool, momentum: float, eps: float, *terms: Tensor
    ) -> Tensor:
        scales = factors.repeat_interleave(terms[0].shape[1] // factors.shape[1], dim=1)
        ctx.training, ctx.eps, ctx.groups = training, eps, factors.shape[1]
        # PyTorch refuses to normalise nothing
        taken = training and terms[0].numel() > 0 and compiled.takes(scales, *terms)
        ctx.compiled = taken and all(term.is_contiguous() for term in terms)
        if ctx.compiled:
            total, means, variances, inverses = planes.normalised_sum(terms, scales, eps)
            count = total.numel() // total.shape[1]
            for (mean, variance), mine, own in zip(statistics, means, variances, strict=True):
                mean.lerp_(mine, momentum)
                variance.lerp_(own * (count / max(count - 1, 1)), momentum)
            saved = [means, inverses]
        else:
            total, saved = _summed(terms, scales, statistics, training, momentum, eps)
        ctx.save_for_backward(scales, *terms, *saved)
        return total

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scales, *tensors = ctx.saved_tensors
        terms, saved = tensors[: len(scales)], tensors[len(scales) :]
        if ctx.compiled and compiled.takes(gradient):
            into_terms, into_scales = planes.normalised_sum_gradients(terms, scales, saved[0], saved[1], gradient)
        else:
            # mean and inverse deviation of the batch in training, running mean and variance in evaluation
            batch, running = (saved, [None, None]) if ctx.training else ([None, None], saved)
            into = [
                torch.ops.aten.native_batch_norm_backward(
                    gradient, term, scale, *_row(running, index), *_row(batch, index), ctx.training, ctx.eps,
                    [True, True, False],
                )
                for index, (term, scale) in enumerate(zip(terms, scales, strict=True))
            ]  # fmt: skip
            into_terms, into_scales = [each[0] for each in into], torch.stack([each[1] for each in into])
        return into_scales.unflatten(1, (ctx.groups, -1)).sum(dim=2), None, None, None, None, *into_terms


def _summed(
    terms: Sequence[Tensor], scales: Tensor, statistics: Any, training: bool, momentum: float, eps: float
) -> tuple[Tensor, list[Tensor]]:
    """The sum by PyTorch's operations, and the two statistics of each term that the derivative needs."""
    total: Tensor | None = None
    saved = []
    for term, scale, (mean, variance) in zip(terms, scales, statistics, strict=True):
        output, batch_mean, inverse = torch.ops.aten.native_batch_norm(
            term, scale, None, mean, variance, training, momentum, eps
        )
        total = output if total is None else total.add_(output)
        saved.append((batch_mean, inverse) if training else (mean, variance))
    assert total is not None
    return total, [torch.stack(each) for each in zip(*saved, strict=True)]


def _row(statistics: Sequence[Tensor | None], index: int) -> list[Tensor | None]:
    return [None if each is None else each[index] for each in statistics]
