"""The Bayer mosaic of a camera's sensor, and how colours are made of it again."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


def bayer_masks(phase: Int[Tensor, "b 2"], height: int, width: int) -> Bool[Tensor, "b 3 h w"]:
    """Which pixels measure red, green and blue: GRBG rows, shifted down and right by each image's phase (0 or 1)."""
    rows = (torch.arange(height, device=phase.device) + phase[:, :1]) % 2
    columns = (torch.arange(width, device=phase.device) + phase[:, 1:]) % 2
    rows, columns = rows[:, :, None], columns[:, None, :]
    return torch.stack([(rows == 0) & (columns == 1), rows == columns, (rows == 1) & (columns == 0)], dim=1)


def mosaic(rgb: Float[Tensor, "b 3 h w"], phase: Int[Tensor, "b 2"]) -> Float[Tensor, "b 1 h w"]:
    """The one value that each pixel of a GRBG sensor measures; ``phase`` as in ``bayer_masks``."""
    return (rgb * bayer_masks(phase, *rgb.shape[-2:])).sum(dim=1, keepdim=True)


def demosaic(raw: Float[Tensor, "b 1 h w"], phase: Int[Tensor, "b 2"]) -> Float[Tensor, "b 3 h w"]:
    """The colours of a mosaic: green along the direction that differs less, red and blue by colour differences.

    Green at a red or blue pixel is the mean of its left and right or of its upper and lower neighbour, whichever two
    differ less (of all four where equal). Red - green and blue - green are interpolated bilinearly. Flat images come
    back unchanged, borders included.

    Raises:
        ValueError: if the image is smaller than 2x2.
    """
    height, width = raw.shape[-2:]
    if min(height, width) < 2:
        raise ValueError(f"a mosaic needs at least 2x2 pixels to be demosaiced, got {height}x{width}")
    red, is_green, blue = bayer_masks(phase, height, width).split(1, dim=1)
    # Reflection keeps every colour at pixels of its own parity, so that borders need no rule of their own.
    padded = functional.pad(raw, (1, 1, 1, 1), mode="reflect")
    left, right = padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]
    up, down = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    across, along = (left - right).abs(), (up - down).abs()
    beside, above = (left + right) / 2, (up + down) / 2
    interpolated = torch.where(across < along, beside, torch.where(along < across, above, (beside + above) / 2))
    green = torch.where(is_green, raw, interpolated)
    others = [_spread((raw - green) * mask) + green for mask in (red, blue)]
    return torch.cat([others[0], green, others[1]], dim=1)


def _spread(sparse: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Bilinear interpolation of values that stand on every second row and column, zeros elsewhere."""
    padded = functional.pad(sparse, (1, 1, 1, 1), mode="reflect")
    rows = padded[..., :-2, :] / 2 + padded[..., 1:-1, :] + padded[..., 2:, :] / 2
    return rows[..., :-2] / 2 + rows[..., 1:-1] + rows[..., 2:] / 2
