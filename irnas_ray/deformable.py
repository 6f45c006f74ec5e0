"""Modulated deformable convolution (DCN v2) from bilinear sampling and one matrix product."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Pair = int | tuple[int, int]


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
    where a position is an integer the one-sided derivative to the right is taken. Weight groups follow from
    ``c / c_group``. Raises ValueError if shapes do not fit. Source: section 3.1 [27].
    """
    for name, tensor in (("input", input), ("offset", offset), ("weight", weight)):
        if tensor.ndim != 4:
            raise ValueError(f"{name}: shape {tuple(tensor.shape)}; expected four dimensions")
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    batch, channels, height, width = input.shape
    outputs, group_channels, kernel_h, kernel_w = weight.shape
    taps, size = kernel_h * kernel_w, offset.shape[-2:]
    offset_groups = offset.shape[1] // (2 * taps)
    _check(input, offset, weight, bias, mask, size, (stride, padding, dilation))

    # zeros to powers of two: what lies outside is zero anyway, and only then are normalised whole positions exact;
    # rounded ones fall on either side of the kink, so that the derivative at zero offsets would depend on the pixel
    extra = (0, _to_power_of_two(width), 0, _to_power_of_two(height))
    image = F.pad(input, extra) if any(extra) else input
    height, width = image.shape[-2:]
    base, scale = _base_grid(height, width, size, (kernel_h, kernel_w), stride, padding, dilation, offset)
    moves = offset.reshape(batch * offset_groups, taps, 2, *size).permute(0, 1, 3, 4, 2)
    grid = torch.addcmul(base, moves.flip(-1), scale).reshape(batch * offset_groups, taps * size[0], size[1], 2)
    image = image.reshape(batch * offset_groups, channels // offset_groups, height, width)
    samples = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    samples = samples.reshape(batch, offset_groups, channels // offset_groups, taps, *size)
    if mask is not None:
        samples = samples * mask.reshape(batch, offset_groups, 1, taps, *size)
    groups = channels // group_channels
    columns = samples.reshape(batch, groups, group_channels * taps, size[0] * size[1])
    output = torch.matmul(weight.reshape(groups, outputs // groups, group_channels * taps), columns)
    output = output.reshape(batch, outputs, *size)
    return output if bias is None else output + bias.reshape(1, -1, 1, 1)


def _base_grid(
    height: int,
    width: int,
    size: torch.Size,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    like: Tensor,
) -> tuple[Tensor, Tensor]:
    inference = torch.is_inference_mode_enabled()
    return _cached_grid(
        height, width, tuple(size), kernel, stride, padding, dilation, like.dtype, like.device, inference
    )


@lru_cache(maxsize=64)
def _cached_grid(
    height: int,
    width: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    dtype: torch.dtype,
    device: torch.device,
    inference: bool,  # a tensor made in inference mode cannot be saved for a backward pass later
) -> tuple[Tensor, Tensor]:
    """Normalised sampling positions (taps, ho, wo, 2) in (x, y) order without offsets, and pixels per unit."""
    axes = []
    for axis, length in ((1, width), (0, height)):
        place = torch.arange(size[axis], dtype=torch.float64) * stride[axis] - padding[axis]
        tap = torch.arange(kernel[axis], dtype=torch.float64) * dilation[axis]
        # (2 i + 1) / n - 1 is where grid_sample without aligned corners finds pixel i, for n = 1 too
        axes.append((2 * (tap[:, None] + place[None, :]) + 1) / length - 1)
    x, y = axes
    kernel_h, kernel_w = kernel
    full = (kernel_h, kernel_w, *size)
    grid = torch.stack([x[None, :, None, :].expand(full), y[:, None, :, None].expand(full)], dim=-1)
    scale = torch.tensor([2 / width, 2 / height], dtype=torch.float64)
    return grid.reshape(kernel_h * kernel_w, *size, 2).to(device, dtype), scale.to(device, dtype)


def _to_power_of_two(length: int) -> int:
    return (1 << (length - 1).bit_length()) - length


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


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
    if tuple(size) != expected or offset.shape[0] != input.shape[0]:
        raise ValueError(f"offset: shape {tuple(offset.shape)}; expected (batch, ..., {expected[0]}, {expected[1]})")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias: shape {tuple(bias.shape)}; expected ({weight.shape[0]},)")
    if mask is not None and mask.shape != (input.shape[0], groups * taps, *expected):
        raise ValueError(f"mask: shape {tuple(mask.shape)}; expected {(input.shape[0], groups * taps, *expected)}")
