"""Sampled products through ``grid_sample``: for every device and floating type."""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from irnas_ray.kernels.geometry import Geometry, tap_positions

ZEROS, BILINEAR = 0, 0


class Gradients(NamedTuple):
    """Derivatives in the prepared image, the offsets, the mask and the kernel of each member of a batch."""

    image: Tensor
    offset: Tensor
    mask: Tensor | None
    weight: Tensor | None


def prepare(image: Float[Tensor, "b g c h w"]) -> Float[Tensor, "b g c h2 w2"]:
    """The image with zeros up to powers of two."""
    # what lies outside is zero anyway, and only in powers of two are normalised whole positions exact; rounded ones
    # fall on either side of the kink, so that the derivative at zero offsets would depend on the pixel
    right, below = ((1 << (length - 1).bit_length()) - length for length in (image.shape[-1], image.shape[-2]))
    return F.pad(image, (0, right, 0, below)) if right or below else image


def unprepare(gradient: Float[Tensor, "b g c h2 w2"], image: Float[Tensor, "b g c h w"]) -> Float[Tensor, "b g c h w"]:
    """The gradient of the image from that of the prepared one."""
    return gradient[..., : image.shape[-2], : image.shape[-1]]


def product(
    image: Float[Tensor, "b _ c h2 w2"],
    offset: Float[Tensor, "b g taps 2 ho wo"],
    mask: Float[Tensor, "b g taps ho wo"] | None,
    weight: Float[Tensor, "g o columns"],
    geometry: Geometry,
) -> Float[Tensor, "b g o ho wo"]:
    """Kernel times masked samples."""
    groups = offset.shape[1]
    columns = _samples(_each_image(image, groups), _grid(offset, image.shape[-2:], geometry), geometry)
    if mask is not None:
        columns.mul_(mask.flatten(0, 1).unsqueeze(1))
    output = torch.bmm(_each_weight(weight, len(image)), columns.flatten(1, 2).flatten(2))
    return output.unflatten(0, (-1, groups)).unflatten(-1, geometry.size)


def gradients(
    image: Float[Tensor, "b _ c h2 w2"],
    offset: Float[Tensor, "b g taps 2 ho wo"],
    mask: Float[Tensor, "b g taps ho wo"] | None,
    weight: Float[Tensor, "g o columns"],
    gradient: Float[Tensor, "b g o ho wo"],
    geometry: Geometry,
    want_weight: bool,
) -> Gradients:
    """Derivatives of ``product``; that of the image for every group."""
    groups, size = offset.shape[1], image.shape[-2:]
    split = (len(image), groups)
    outer = gradient.flatten(0, 1).flatten(2)
    grid, source = _grid(offset, size, geometry), _each_image(image, groups)
    columns = torch.bmm(_each_weight(weight.transpose(1, 2), len(image)), outer)
    columns = columns.view(len(outer), -1, geometry.taps, *geometry.size)
    into_mask = into_weight = None
    if mask is not None or want_weight:
        samples = _samples(source, grid, geometry)
    if mask is not None:
        factors = mask.flatten(0, 1).unsqueeze(1)
        into_mask = (columns * samples).sum(dim=1).unflatten(0, split)
        columns.mul_(factors)
    if want_weight:
        if mask is not None:
            samples.mul_(factors)
        into_weight = torch.bmm(outer, samples.flatten(1, 2).flatten(2).transpose(1, 2)).unflatten(0, split)
    into_image, into_grid = torch.ops.aten.grid_sampler_2d_backward(
        columns.flatten(2, 3), source, grid, BILINEAR, ZEROS, False, [True, True]
    )
    by_tap = into_grid.unflatten(1, (geometry.taps, -1)).unflatten(0, split)
    into_offset = torch.stack([by_tap[..., 1] * (2 / size[0]), by_tap[..., 0] * (2 / size[1])], dim=3)
    return Gradients(into_image.unflatten(0, split), into_offset, into_mask, into_weight)


def _each_image(image: Float[Tensor, "b _ c h w"], groups: int) -> Float[Tensor, "n c h w"]:
    return image.expand(-1, groups, -1, -1, -1).flatten(0, 1)


def _each_weight(weight: Float[Tensor, "g rows columns"], batch: int) -> Float[Tensor, "n rows columns"]:
    return weight.expand(batch, *weight.shape).flatten(0, 1)


def _samples(
    image: Float[Tensor, "n c h w"], grid: Float[Tensor, "n rows wo 2"], geometry: Geometry
) -> Float[Tensor, "n c taps ho wo"]:
    samples = torch.ops.aten.grid_sampler_2d(image, grid, BILINEAR, ZEROS, False)
    return samples.unflatten(2, (geometry.taps, geometry.size[0]))


def _grid(
    offset: Float[Tensor, "b g taps 2 ho wo"], image_size: torch.Size, geometry: Geometry
) -> Float[Tensor, "n rows wo 2"]:
    """Normalised sampling positions in (x, y) order, the taps one below the other."""
    x, y = _base_positions(image_size[0], image_size[1], geometry, offset.dtype, offset.device)
    moves = offset.flatten(0, 1)
    grid = moves.new_empty(len(moves), geometry.taps, *geometry.size, 2)
    torch.add(x, moves[:, :, 1], alpha=2 / image_size[1], out=grid[..., 0])
    torch.add(y, moves[:, :, 0], alpha=2 / image_size[0], out=grid[..., 1])
    if grid.device.type == "cpu":
        grid.clamp_(-3, 3)  # an infinite position is outside, as on a GPU, and here would be no number
    return grid.flatten(1, 2)


@lru_cache(maxsize=64)
def _base_positions(
    height: int, width: int, geometry: Geometry, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "taps 1 wo"], Float[Tensor, "taps ho 1"]]:
    """Normalised positions x and y of every tap without offsets."""
    x, y = (
        # (2 i + 1) / n - 1 is where grid_sample without aligned corners finds pixel i, for n = 1 too
        ((2 * tap_positions(geometry, axis, torch.float64, device) + 1) / length - 1).to(dtype)
        for axis, length in ((1, width), (0, height))
    )
    return x[:, None, :], y[:, :, None]
