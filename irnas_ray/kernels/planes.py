"""Depthwise convolutions and normalised sums through ``planes.c``: float32 on a CPU, channel by channel.

They read every value once or twice. PyTorch's depthwise convolution takes six times as long for 200 channels, because
that is no multiple of a vector's, and its batch statistics are several passes over all channels.
"""

import ctypes
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from irnas_ray.kernels.compiled import Pointer, call, pointer


class _FilterShape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "channels", "copies", "height", "width")]


class _SumShape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "channels", "pixels", "terms")]


def depthwise(source: Float[Tensor, "b c h w"], kernels: Float[Tensor, "o 1 3 3"]) -> Float[Tensor, "b o h w"]:
    """3x3 depthwise convolutions of a source with zeros around it: its channels with the first c kernels, and so on."""
    output = source.new_empty(len(source), len(kernels), *source.shape[2:])
    shape, arguments = _filter(source, kernels, output)
    call("depthwise", shape, *arguments)
    return output


def depthwise_gradients(
    source: Float[Tensor, "b c h w"],
    kernels: Float[Tensor, "o 1 3 3"],
    gradient: Float[Tensor, "b o h w"],
    want_kernels: bool,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "o 1 3 3"] | None]:
    """Derivatives of ``depthwise`` after the source and, if wanted, after the kernels."""
    shape, arguments = _filter(source, kernels, gradient)
    into_source = source.new_empty(source.shape)
    into_kernels = kernels.new_empty(kernels.shape) if want_kernels else None
    into = pointer(into_source, source.numel()), pointer(into_kernels, kernels.numel())
    call("depthwise_gradients", shape, *arguments, *into)
    return into_source, into_kernels


def normalised_sum(
    terms: Sequence[Float[Tensor, "b c h w"]], scales: Float[Tensor, "terms c"], eps: float
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "terms c"], Float[Tensor, "terms c"], Float[Tensor, "terms c"]]:
    """The sum of terms, each normalised by its batch and scaled; their means, variances and inverse deviations."""
    total, shape = torch.empty_like(terms[0]), _sum_shape(terms)
    means, variances, inverses = (torch.empty_like(scales) for _ in range(3))
    arguments = (_array(terms), _statistic(scales, shape), ctypes.c_float(eps), pointer(total, terms[0].numel()))
    call("normalised_sum", shape, *arguments, *(_statistic(each, shape) for each in (means, variances, inverses)))
    return total, means, variances, inverses


def normalised_sum_gradients(
    terms: Sequence[Float[Tensor, "b c h w"]],
    scales: Float[Tensor, "terms c"],
    means: Float[Tensor, "terms c"],
    inverses: Float[Tensor, "terms c"],
    gradient: Float[Tensor, "b c h w"],
) -> tuple[list[Float[Tensor, "b c h w"]], Float[Tensor, "terms c"]]:
    """Derivatives of ``normalised_sum`` after the terms and after the scales."""
    shape = _sum_shape(terms)
    into_terms, into_scales = [torch.empty_like(term) for term in terms], torch.empty_like(scales)
    statistics = [_statistic(each, shape) for each in (scales, means, inverses)]
    outer = pointer(gradient.contiguous(), terms[0].numel())
    call(
        "normalised_sum_gradients", shape, _array(terms), *statistics, outer, _array(into_terms),
        _statistic(into_scales, shape),
    )  # fmt: skip
    return into_terms, into_scales


def _filter(source: Tensor, kernels: Tensor, output: Tensor) -> tuple[_FilterShape, list[Pointer]]:
    """What both functions for depthwise convolutions begin with; ValueError unless the shapes fit."""
    batch, channels, height, width = source.shape
    if kernels.shape[1:] != (1, 3, 3) or not channels or not len(kernels) or len(kernels) % channels:
        raise ValueError(f"kernels: shape {tuple(kernels.shape)}; expected (n * {channels}, 1, 3, 3)")
    shape = _FilterShape(batch, channels, len(kernels) // channels, height, width)
    sizes = source.numel(), kernels.numel(), batch * len(kernels) * height * width
    tensors = (source, kernels, output)
    return shape, [pointer(tensor.contiguous(), size) for tensor, size in zip(tensors, sizes, strict=True)]


def _sum_shape(terms: Sequence[Tensor]) -> _SumShape:
    batch, channels, *size = terms[0].shape
    return _SumShape(batch, channels, size[0] * size[1], len(terms))


def _statistic(tensor: Tensor, shape: _SumShape) -> Pointer:
    return pointer(tensor, shape.terms * shape.channels)


def _array(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    """Where tensors of the first one's shape are."""
    return (ctypes.c_void_p * len(tensors))(*(pointer(tensor, tensors[0].numel()) for tensor in tensors))
