"""The product of a kernel with bilinear samples, differentiated by hand so that no sample need be kept.

Nine samples for every value are nearly the whole memory of a deformable convolution. They are cheap to take again in
the backward pass, group by group in the processor's cache, where kept ones must travel to memory and back.
"""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from irnas_ray.geometry import Geometry, tap_positions

ZEROS, BILINEAR = 0, 0


class SampledProduct(torch.autograd.Function):
    """Samples of an image at moved positions, times a mask, times a kernel, for several groups.

    ``image`` (b 1 c h w), read by all groups, or (b groups c h w); ``offset`` (b groups taps 2 ho wo) in pixels as
    (dy, dx); ``mask`` (b groups taps ho wo) or None; ``weight`` (groups o c*taps). Gives (b groups o ho wo).
    ``keep`` keeps the samples for the backward pass, for callers that are themselves computed again there.
    """

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        offset: Tensor,
        mask: Tensor | None,
        weight: Tensor,
        geometry: Geometry,
        keep: bool = False,
    ) -> Tensor:
        ctx.geometry = geometry
        batch, groups = offset.shape[:2]
        output = image.new_empty(batch, groups, weight.shape[1], geometry.size[0] * geometry.size[1])
        padded = _to_powers_of_two(image)
        kept = []
        for chunk in _chunks(batch, groups, image.device):
            samples = _samples(_of(padded, chunk), _grid(offset[:, chunk], padded.shape[-2:], geometry), geometry)
            columns = samples
            if keep:
                kept.append(samples)
            if mask is not None:
                factors = _by_channel(mask[:, chunk])
                columns = samples * factors if keep else samples.mul_(factors)
            product = torch.bmm(_each(weight[chunk], batch), columns.flatten(1, 2).flatten(2))
            output[:, chunk] = product.unflatten(0, (batch, -1))
        ctx.save_for_backward(image, offset, mask, weight, *kept)
        return output.unflatten(-1, geometry.size)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, offset, mask, weight, *kept = ctx.saved_tensors
        geometry = ctx.geometry
        batch, groups = offset.shape[:2]
        padded = _to_powers_of_two(image)
        image_gradient = torch.zeros_like(padded)
        offset_gradient = torch.empty_like(offset, memory_format=torch.contiguous_format)
        mask_gradient = None if mask is None else torch.empty_like(mask, memory_format=torch.contiguous_format)
        weight_gradient = torch.empty_like(weight) if ctx.needs_input_grad[3] else None
        transposed = weight.transpose(1, 2).contiguous()
        for index, chunk in enumerate(_chunks(batch, groups, image.device)):
            outer = gradient[:, chunk].flatten(0, 1).flatten(2)
            grid = _grid(offset[:, chunk], padded.shape[-2:], geometry)
            source = _of(padded, chunk)
            columns = torch.bmm(_each(transposed[chunk], batch), outer)
            columns = columns.view(len(outer), image.shape[2], geometry.taps, *geometry.size)
            if mask_gradient is not None or weight_gradient is not None:
                samples = kept[index] if kept else _samples(source, grid, geometry)
            if mask_gradient is not None:
                mask_gradient[:, chunk] = (columns * samples).sum(dim=1).unflatten(0, (batch, -1))
            if mask is not None:
                factors = _by_channel(mask[:, chunk])
                columns.mul_(factors)
                if weight_gradient is not None:
                    samples = samples * factors if kept else samples.mul_(factors)
            if weight_gradient is not None:
                product = torch.bmm(outer, samples.flatten(1, 2).flatten(2).transpose(1, 2))
                weight_gradient[chunk] = product.unflatten(0, (batch, -1)).sum(dim=0)
            into_image, into_grid = torch.ops.aten.grid_sampler_2d_backward(
                columns.flatten(2, 3), source, grid, BILINEAR, ZEROS, False, [True, True]
            )
            _scale_back(into_grid, offset_gradient[:, chunk], padded.shape[-2:])
            into_image = into_image.unflatten(0, (batch, -1))
            if image.shape[1] == 1:
                image_gradient += into_image.sum(dim=1, keepdim=True)
            else:
                image_gradient[:, chunk] = into_image
        height, width = image.shape[-2:]
        return image_gradient[..., :height, :width], offset_gradient, mask_gradient, weight_gradient, None, None


def _chunks(batch: int, groups: int, device: torch.device) -> list[slice]:
    """Groups that are sampled together: all on a GPU; on a CPU so few that the samples stay in its cache.

    A CPU samples the members of a batch in parallel, so that a chunk holds one for each thread.
    """
    size = groups if device.type != "cpu" else max(1, torch.get_num_threads() // batch)
    return [slice(start, min(start + size, groups)) for start in range(0, groups, size)]


def _of(image: Float[Tensor, "b g c h w"], chunk: slice) -> Float[Tensor, "n c h w"]:
    """The image of every group of a chunk."""
    if image.shape[1] > 1:
        return image[:, chunk].flatten(0, 1)
    return image.expand(-1, chunk.stop - chunk.start, -1, -1, -1).flatten(0, 1)


def _each(weight: Float[Tensor, "g rows columns"], batch: int) -> Float[Tensor, "n rows columns"]:
    """The kernels of a chunk's groups for every member of the batch."""
    return weight.expand(batch, *weight.shape).flatten(0, 1)


def _by_channel(mask: Float[Tensor, "b g taps h w"]) -> Float[Tensor, "n 1 taps h w"]:
    return mask.flatten(0, 1).unsqueeze(1)


def _samples(
    image: Float[Tensor, "n c h w"], grid: Float[Tensor, "n rows wo 2"], geometry: Geometry
) -> Float[Tensor, "n c taps ho wo"]:
    samples = torch.ops.aten.grid_sampler_2d(image, grid, BILINEAR, ZEROS, False)
    return samples.unflatten(2, (geometry.taps, geometry.size[0]))


def _to_powers_of_two(image: Tensor) -> Tensor:
    # what lies outside is zero anyway, and only in powers of two are normalised whole positions exact; rounded ones
    # fall on either side of the kink, so that the derivative at zero offsets would depend on the pixel
    right, below = ((1 << (length - 1).bit_length()) - length for length in (image.shape[-1], image.shape[-2]))
    return F.pad(image, (0, right, 0, below)) if right or below else image


def _grid(
    offset: Float[Tensor, "b g taps 2 ho wo"], image_size: torch.Size, geometry: Geometry
) -> Float[Tensor, "n rows wo 2"]:
    """Normalised sampling positions in (x, y) order, the taps one below the other."""
    x, y = _base_positions(image_size[0], image_size[1], geometry, offset.dtype, offset.device)
    moves = offset.flatten(0, 1)
    grid = moves.new_empty(len(moves), geometry.taps, *geometry.size, 2)
    torch.add(x, moves[:, :, 1], alpha=2 / image_size[1], out=grid[..., 0])
    torch.add(y, moves[:, :, 0], alpha=2 / image_size[0], out=grid[..., 1])
    return grid.flatten(1, 2)


def _scale_back(
    into_grid: Float[Tensor, "n rows wo 2"], into_offset: Float[Tensor, "b g taps 2 ho wo"], image_size: torch.Size
) -> None:
    """Gradients of normalised positions as gradients of offsets in pixels."""
    batch, groups, taps = into_offset.shape[:3]
    by_tap = into_grid.unflatten(1, (taps, -1)).unflatten(0, (batch, groups))
    torch.mul(by_tap[..., 0], 2 / image_size[1], out=into_offset[:, :, :, 1])
    torch.mul(by_tap[..., 1], 2 / image_size[0], out=into_offset[:, :, :, 0])


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
