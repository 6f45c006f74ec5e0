"""Batch normalisation, architecture weight and sum in one step, differentiated by hand.

For every candidate the supernet normalises an output, multiplies it by its weight and adds it to the others (eq. 2, 4).
Normalisation without affine parameters followed by a factor is normalisation whose affine scale is that factor, which
is one pass over the data; and its derivative needs the raw output alone, so that neither normalised nor weighted
tensors are kept.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class NormalisedSum(nn.Module):
    """The weighted sum of normalised terms: sum over k of factor[k] * BatchNorm(term[k]), for each group of channels.

    Running statistics are held for every channel of every term, terms one after the other as if they were concatenated.
    """

    def __init__(self, terms: int, groups: int, width: int) -> None:
        super().__init__()
        self.terms, self.groups, self.width = terms, groups, width
        self.norm = nn.BatchNorm2d(terms * groups * width, affine=False)

    def forward(
        self,
        terms: list[Float[Tensor, "b channels h w"]],
        factors: Float[Tensor, "terms groups"],
        update: bool = True,
    ) -> Float[Tensor, "b channels h w"]:
        """The sum; channels are groups * width. ``update=False`` leaves the running statistics as they are."""
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        shape = (self.terms, self.groups * self.width)
        statistics = (norm.running_mean.view(shape), norm.running_var.view(shape))
        if self.training and not update:
            statistics = ([None] * self.terms, [None] * self.terms)
        return _NormalisedSum.apply(factors, *statistics, self.training, norm.momentum, norm.eps, *terms)


class _NormalisedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, factors: Tensor, means: Any, variances: Any, training: bool, momentum: float, eps: float, *terms: Tensor
    ) -> Tensor:
        width = terms[0].shape[1] // factors.shape[1]
        scales = factors.repeat_interleave(width, dim=1)
        total: Tensor | None = None
        saved = []
        for term, scale, mean, variance in zip(terms, scales, means, variances, strict=True):
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
    @torch.autograd.function.once_differentiable
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
        return torch.stack(into_factors), None, None, None, None, None, *into_terms
