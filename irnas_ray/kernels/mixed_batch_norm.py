"""Batch normalisation, architecture weight and sum in one step, differentiated by hand.

For every candidate the supernet normalises an output, multiplies it by its weight and adds it to the others (eq. 2, 4).
Normalisation without affine parameters followed by a factor is normalisation whose affine scale is that factor, which
is one pass over the data; and its derivative needs the raw output alone, so that neither normalised nor weighted
tensors are kept.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.kernels.derivatives import differentiable_once


def normalised_sum(
    terms: Sequence[Float[Tensor, "b channels h w"]],
    factors: Float[Tensor, "terms groups"],
    norms: Sequence[nn.BatchNorm2d],
) -> Float[Tensor, "b channels h w"]:
    """The sum over k of ``factors[k]`` times the batch normalisation ``norms[k]`` of ``terms[k]``.

    Each group of channels has its own factor. The norms have no affine parameters; in training they normalise by the
    batch, and their running statistics follow; in evaluation they use them.
    """
    first = norms[0]
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
        total: Tensor | None = None
        saved: list[Tensor] = []
        for term, scale, (mean, variance) in zip(terms, scales, statistics, strict=True):
            if training and term.device.type == "cpu" and term.is_contiguous():
                centred, batch_mean, inverse = _centred(term, mean, variance, momentum, eps)
                factor = (inverse * scale).view(-1, 1, 1)
                total = centred.mul_(factor) if total is None else total.addcmul_(centred, factor)
            else:
                output, batch_mean, inverse = torch.ops.aten.native_batch_norm(
                    term, scale, None, mean, variance, training, momentum, eps
                )
                total = output if total is None else total.add_(output)
            saved += [batch_mean, inverse] if training else [mean, variance]
        assert total is not None
        ctx.save_for_backward(scales, *terms, *saved)
        ctx.training, ctx.eps, ctx.groups = training, eps, factors.shape[1]
        return total

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scales, *tensors = ctx.saved_tensors
        terms, statistics = tensors[: len(scales)], tensors[len(scales) :]
        into_factors, into_terms = [], []
        for index, (term, scale) in enumerate(zip(terms, scales, strict=True)):
            first, second = statistics[2 * index : 2 * index + 2]
            # mean and inverse deviation of the batch in training, running mean and variance in evaluation
            batch, running = ((first, second), (None, None)) if ctx.training else ((None, None), (first, second))
            into_term, into_scale, _ = torch.ops.aten.native_batch_norm_backward(
                gradient, term, scale, *running, *batch, ctx.training, ctx.eps, [True, True, False]
            )
            into_terms.append(into_term)
            into_factors.append(into_scale.view(ctx.groups, -1).sum(dim=1))
        return torch.stack(into_factors), None, None, None, None, *into_terms


def _centred(
    batch: Float[Tensor, "b channels h w"],
    running_mean: Float[Tensor, " channels"],
    running_variance: Float[Tensor, " channels"],
    momentum: float,
    eps: float,
) -> tuple[Float[Tensor, "b channels h w"], Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """A batch without its mean, the mean, and the inverse deviation; the running statistics follow.

    On a CPU PyTorch takes as long for a batch's statistics as for ten passes over it, and three are enough.
    """
    count = batch.numel() // batch.shape[1]
    mean = batch.flatten(2).mean(dim=2).mean(dim=0)
    centred = batch - mean.view(-1, 1, 1)
    variance = torch.linalg.vector_norm(centred.flatten(2), dim=2).square_().sum(dim=0).div_(count)
    running_mean.lerp_(mean, momentum)
    running_variance.lerp_(variance * (count / max(count - 1, 1)), momentum)
    return centred, mean, (variance + eps).rsqrt_()
