"""Colour spaces: sRGB and linear light, RGB and YUV, and gray images as colour images and back."""

import torch
from jaxtyping import Float
from torch import Tensor

#: Weights of red, green and blue in luma (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


def srgb_to_linear(srgb: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Linear light of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sRGB values of linear light in [0, 1]; the inverse of ``srgb_to_linear``."""
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=0) ** (1 / 2.4) - 0.055)


def rgb_to_yuv(rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Y, U = 0.492 (B - Y) and V = 0.877 (R - Y) with the luma of BT.601; in [0, 1] and about [-0.44, 0.62]."""
    y = luma601(rgb)
    return torch.cat([y, 0.492 * (rgb[:, 2:] - y), 0.877 * (rgb[:, :1] - y)], dim=1)


def yuv_to_rgb(yuv: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """The inverse of ``rgb_to_yuv``."""
    y, u, v = yuv.split(1, dim=1)
    red, blue = y + v / 0.877, y + u / 0.492
    green = (y - LUMA[0] * red - LUMA[2] * blue) / LUMA[1]
    return torch.cat([red, green, blue], dim=1)


def luma601(rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Y of BT.601 in full swing, as Pillow's ``convert("L")`` before it rounds."""
    red, green, blue = rgb.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def as_colour(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """An RGB image as it is; a gray one in three equal channels."""
    return image.expand(-1, 3, -1, -1)


def as_channels(image: Float[Tensor, "b _ h w"], channels: int) -> Float[Tensor, "b c h w"]:
    """An image with as many channels as wanted as it is; else the luma of an RGB image."""
    return image if image.shape[1] == channels else luma601(image)


def check_channels(image: Tensor) -> None:
    """ValueError unless a batch of images is gray (1 channel) or RGB (3)."""
    if image.ndim != 4 or image.shape[1] not in (1, 3):
        raise ValueError(f"this degradation needs gray or RGB images (b, 1 or 3, h, w), got {tuple(image.shape)}")


def to_bits(image: Float[Tensor, "*shape"], bits: int) -> Float[Tensor, "*shape"]:
    """Clips to [0, 1] and rounds to the 2^bits levels k / (2^bits - 1)."""
    levels = 2**bits - 1
    return torch.round(image.clamp(0, 1) * levels) / levels
