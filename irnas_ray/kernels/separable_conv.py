"""Separable convolution, differentiated by hand so that what lies between its two convolutions is not kept."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from irnas_ray.kernels import compiled, planes
from irnas_ray.kernels.derivatives import differentiable_once


class SeparableProduct(torch.autograd.Function):
    """3x3 depthwise, then 1x1 pointwise convolution of one source for several destinations.

    ``source`` (b c h w), ``depthwise`` (destinations*c 1 3 3), ``pointwise`` (destinations*c c 1 1); gives
    (b destinations*c h w). A depthwise convolution is so cheap that doing it again costs less than its memory.
    """

    @staticmethod
    def forward(ctx: Any, source: Tensor, depthwise: Tensor, pointwise: Tensor) -> Tensor:
        ctx.save_for_backward(source, depthwise, pointwise)
        filtered = _filtered(source, depthwise)
        # a pointwise convolution is a matrix product, which libraries do faster than a grouped convolution
        return torch.matmul(_kernels(pointwise), _columns(filtered, pointwise)).view_as(filtered)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        source, depthwise, pointwise = ctx.saved_tensors
        outer, kernels = _columns(gradient, pointwise), _kernels(pointwise)
        into_pointwise = None
        if ctx.needs_input_grad[2]:
            columns = _columns(_filtered(source, depthwise), pointwise)
            into_pointwise = torch.matmul(outer, columns.transpose(2, 3)).sum(dim=0).view_as(pointwise)
        into_filtered = torch.matmul(kernels.transpose(1, 2).contiguous(), outer).view_as(gradient)
        into_source, into_depthwise = _gradients(source, depthwise, into_filtered, ctx.needs_input_grad[1])
        return into_source, into_depthwise, into_pointwise


def _filtered(source: Float[Tensor, "b c h w"], depthwise: Float[Tensor, "o 1 3 3"]) -> Float[Tensor, "b o h w"]:
    if compiled.takes(source, depthwise):
        return planes.depthwise(source, depthwise)
    return F.conv2d(_for_each(source, depthwise), depthwise, padding=1, groups=len(depthwise))


def _gradients(
    source: Float[Tensor, "b c h w"],
    depthwise: Float[Tensor, "o 1 3 3"],
    gradient: Float[Tensor, "b o h w"],
    want_depthwise: bool,
) -> tuple[Tensor, Tensor | None]:
    if compiled.takes(source, depthwise, gradient):
        return planes.depthwise_gradients(source, depthwise, gradient, want_depthwise)
    into_copies, into_depthwise, _ = torch.ops.aten.convolution_backward(
        gradient, _for_each(source, depthwise), depthwise, None, [1, 1], [1, 1], [1, 1], False, [0, 0], len(depthwise),
        [True, want_depthwise, False],
    )  # fmt: skip
    return into_copies.unflatten(1, (-1, source.shape[1])).sum(dim=1), into_depthwise


def _for_each(source: Float[Tensor, "b c h w"], depthwise: Float[Tensor, "o 1 3 3"]) -> Float[Tensor, "b o h w"]:
    destinations = len(depthwise) // source.shape[1]
    return source.repeat(1, destinations, 1, 1) if destinations > 1 else source


def _columns(features: Float[Tensor, "b o h w"], pointwise: Float[Tensor, "o c 1 1"]) -> Float[Tensor, "b d c p"]:
    return features.unflatten(1, (-1, pointwise.shape[1])).flatten(3)


def _kernels(pointwise: Float[Tensor, "o c 1 1"]) -> Float[Tensor, "d c c"]:
    return pointwise.flatten(1).unflatten(0, (-1, pointwise.shape[1]))
