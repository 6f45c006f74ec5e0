"""Modulated deformable convolution written out, for installations without torchvision's operators and to check both."""

import torch
from torch import Tensor, nn

try:
    from torchvision.ops import deform_conv2d as torchvision_deform_conv2d
except (ImportError, RuntimeError):  # RuntimeError: an installation whose torch lacks torchvision's operators
    torchvision_deform_conv2d = None


def pixel(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """image[b, :, y, x] at whole positions (b ho wo), 0 outside the image; (b c ho wo)."""
    batch, _, height, width = image.shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    rows, columns = y.clamp(0, height - 1).long(), x.clamp(0, width - 1).long()
    values = image[torch.arange(batch)[:, None, None], :, rows, columns].permute(0, 3, 1, 2)
    return torch.where(inside[:, None], values, torch.zeros_like(values))


def bilinear(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The image between its pixels: the four neighbours, each weighted by the area opposite to it."""
    top, left = y.detach().floor(), x.detach().floor()
    down, right = (y - top)[:, None], (x - left)[:, None]
    upper = (1 - right) * pixel(image, top, left) + right * pixel(image, top, left + 1)
    lower = (1 - right) * pixel(image, top + 1, left) + right * pixel(image, top + 1, left + 1)
    return (1 - down) * upper + down * lower


def plain_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    mask: Tensor | None = None,
) -> Tensor:
    """y(p) = sum_k w_k m_k(p) x(p + p_k + dp_k(p)), tap by tap (Zhu et al. 2019, eq. 1)."""
    outputs, group_channels, kernel_h, kernel_w = weight.shape
    taps, (out_h, out_w) = kernel_h * kernel_w, offset.shape[2:]
    offset_groups, groups = offset.shape[1] // (2 * taps), input.shape[1] // group_channels
    rows = torch.arange(out_h, dtype=input.dtype)[:, None] * stride[0] - padding[0]
    columns = torch.arange(out_w, dtype=input.dtype)[None, :] * stride[1] - padding[1]
    total = input.new_zeros(len(input), outputs, out_h, out_w)
    for tap in range(taps):
        samples = []
        for group, part in enumerate(input.chunk(offset_groups, dim=1)):
            index = group * taps + tap
            y = rows + (tap // kernel_w) * dilation[0] + offset[:, 2 * index]
            x = columns + (tap % kernel_w) * dilation[1] + offset[:, 2 * index + 1]
            sample = bilinear(part, y, x)
            samples.append(sample if mask is None else sample * mask[:, index, None])
        of_tap = weight[:, :, tap // kernel_w, tap % kernel_w, None, None]
        total = total + nn.functional.conv2d(torch.cat(samples, dim=1), of_tap, groups=groups)
    return total if bias is None else total + bias[:, None, None]
