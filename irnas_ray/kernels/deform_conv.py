"""Modulated deformable convolution (DCN v2) from bilinear sampling and one matrix product."""

import math
import operator
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from irnas_ray.kernels.derivatives import autocast_in
from irnas_ray.kernels.geometry import Geometry
from irnas_ray.kernels.sampled_product import SampledProduct, check_alike

Pair = int | tuple[int, int]

_HALF = (torch.float16, torch.bfloat16)


def deform_conv2d(
    input: Float[Tensor, "b c h w"],
    offset: Float[Tensor, "b offsets ho wo"],
    weight: Float[Tensor, "o c_group kh kw"],
    bias: Float[Tensor, " o"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    mask: Float[Tensor, "b taps ho wo"] | None = None,
) -> Float[Tensor, "b o ho wo"]:
    """Convolve at positions moved by ``offset`` and weighted by ``mask``; meaning as ``torchvision.ops.deform_conv2d``.

    ``offset`` holds (dy, dx) in pixels for every offset group and kernel tap (2 * groups * kh * kw channels), ``mask``
    one factor for each (groups * kh * kw channels); samples outside the image are zero. Differentiable in every tensor;
    where a position is an integer the one-sided derivative to the right is taken; second derivatives are refused.
    On a CPU a position that is not a number gives NaN. Weight groups follow from ``c / c_group``. Sixteen-bit numbers,
    and under autocast mixed ones, are computed in float32 and returned as ``input`` came. Raises ValueError if shapes,
    types or devices do not fit, and for strides, paddings or dilations out of range. Source: section 3.1 [27].

    >>> import torch
    >>> import irnas_ray as ir
    >>> image, weight = torch.rand(1, 2, 8, 8), torch.rand(3, 2, 3, 3)
    >>> still = torch.zeros(1, 18, 8, 8)
    >>> restored = ir.deform_conv2d(image, still, weight, padding=1)
    >>> torch.allclose(restored, torch.conv2d(image, weight, padding=1), atol=1e-5)
    True
    """
    kind = input.device.type
    mixed = autocast_in(kind)
    if not mixed:
        check_alike(input=input, offset=offset, weight=weight, bias=bias, mask=mask)
    if mixed or input.dtype in _HALF:
        with torch.autocast(kind, enabled=False):
            image, offset, weight = (_widened(tensor) for tensor in (input, offset, weight))
            bias, mask = (None if tensor is None else _widened(tensor) for tensor in (bias, mask))
            return deform_conv2d(image, offset, weight, bias, stride, padding, dilation, mask).to(input.dtype)
    stride, padding, dilation = _pair("stride", stride, 1), _pair("padding", padding, 0), _pair("dilation", dilation, 1)
    for name, tensor in (("input", input), ("offset", offset), ("weight", weight)):
        if tensor.ndim != 4 or 0 in tensor.shape[1:] or not len(weight):
            raise ValueError(f"{name}: shape {tuple(tensor.shape)}; expected four dimensions and no empty one")
    batch, channels, height, width = input.shape
    outputs, group_channels, kernel_h, kernel_w = weight.shape
    taps, size = kernel_h * kernel_w, offset.shape[-2:]
    offset_groups = offset.shape[1] // (2 * taps)
    _check(input, offset, weight, bias, mask, size, (stride, padding, dilation))

    geometry = Geometry((kernel_h, kernel_w), stride, padding, dilation, (size[0], size[1]))
    groups = channels // group_channels
    # parts of the channels so small that each has one kernel and one set of offsets; a group's parts are summed
    parts = math.lcm(groups, offset_groups)
    image = input.unflatten(1, (parts, -1))
    moves = offset.reshape(batch, offset_groups, taps, 2, *size).repeat_interleave(parts // offset_groups, dim=1)
    if mask is not None:
        mask = mask.reshape(batch, offset_groups, taps, *size).repeat_interleave(parts // offset_groups, dim=1)
    kernel = weight.reshape(groups, outputs // groups, parts // groups, -1).transpose(1, 2).flatten(0, 1)
    output = SampledProduct.apply(image, moves, mask, kernel, geometry)
    output = output.unflatten(1, (groups, -1)).sum(dim=2).reshape(batch, outputs, *size)
    return output if bias is None else output + bias.reshape(1, -1, 1, 1)


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _HALF else tensor


def _pair(name: str, value: Pair, least: int) -> tuple[int, int]:
    try:
        both = value if isinstance(value, Iterable) else (value, value)
        vertical, horizontal = (operator.index(number) for number in both)
    except (TypeError, ValueError):
        vertical = horizontal = least - 1
    if min(vertical, horizontal) < least:
        raise ValueError(f"{name}: {value!r}; expected a whole number or (vertical, horizontal), at least {least}")
    return vertical, horizontal


def _check(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    size: torch.Size,
    geometry: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
) -> None:
    taps = weight.shape[2] * weight.shape[3]
    groups, rest = divmod(offset.shape[1], 2 * taps)
    if rest or groups < 1 or input.shape[1] % groups:
        raise ValueError(f"offset: {offset.shape[1]} channels; expected {2 * taps} for each offset group")
    if input.shape[1] % weight.shape[1] or weight.shape[0] % (input.shape[1] // weight.shape[1]):
        raise ValueError(f"weight: shape {tuple(weight.shape)} does not fit {input.shape[1]} input channels")
    expected = tuple(
        (input.shape[2 + axis] + 2 * padding - dilation * (weight.shape[2 + axis] - 1) - 1) // stride + 1
        for axis, (stride, padding, dilation) in enumerate(zip(*geometry, strict=True))
    )
    if min(expected) < 1:
        raise ValueError(f"input: shape {tuple(input.shape)}; smaller than the kernel, the output would be {expected}")
    if tuple(size) != expected or offset.shape[0] != input.shape[0]:
        raise ValueError(f"offset: shape {tuple(offset.shape)}; expected (batch, ..., {expected[0]}, {expected[1]})")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias: shape {tuple(bias.shape)}; expected ({weight.shape[0]},)")
    if mask is not None and mask.shape != (input.shape[0], groups * taps, *expected):
        raise ValueError(f"mask: shape {tuple(mask.shape)}; expected {(input.shape[0], groups * taps, *expected)}")
