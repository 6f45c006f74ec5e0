"""Joint bilateral filters of any width: exact where the window is small, on a coarse grid where it is wide."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

#: Largest spatial sigma in pixels that is filtered exactly; a window of 3 sigma then has at most 283 pixels.
EXACT_SIGMA = 3.0
#: Levels of the guide in the grid. The published camera simulator's own filter is a grid of 32 levels over [0, 1].
LEVELS = 32
#: Most numbers that are held at a time while a grid is filled.
CHUNK = 2**24


def bilateral(
    values: Float[Tensor, "b c h w"],
    guide: Float[Tensor, "b 1 h w"],
    spatial: Float[Tensor, " b"],
    tonal: Float[Tensor, " b"],
) -> Float[Tensor, "b c h w"]:
    """Means of ``values`` with weights that fall with the distance between pixels and between the guide's values.

    The weight of a pixel at distance d whose guide differs by g is exp(-d^2 / 2 spatial^2 - g^2 / 2 tonal^2). Up to
    ``EXACT_SIGMA`` it is evaluated for every pixel within three sigma; beyond, by ``bilateral_grid``. Pixels outside
    the image have no weight.

    Args:
        values: What is averaged.
        guide: What decides which pixels are alike.
        spatial: Sigma of each image in pixels, above 0.
        tonal: Sigma of each image on the scale of the guide, above 0.
    """
    spatial, tonal = spatial.to(values), tonal.to(values)
    filtered = torch.empty_like(values)
    wide = [index for index, sigma in enumerate(spatial.tolist()) if sigma > EXACT_SIGMA]
    near = [index for index in range(len(values)) if index not in wide]
    if near:
        filtered[near] = bilateral_window(values[near], guide[near], spatial[near], tonal[near])
    # The grid's size depends on sigma, so that images cannot share one.
    for index in wide:
        filtered[index] = bilateral_grid(values[index], guide[index, 0], spatial[index].item(), tonal[index].item())
    return filtered


def bilateral_window(
    values: Float[Tensor, "b c h w"],
    guide: Float[Tensor, "b 1 h w"],
    spatial: Float[Tensor, " b"],
    tonal: Float[Tensor, " b"],
) -> Float[Tensor, "b c h w"]:
    """``bilateral`` by its definition, over all pixels within three sigma."""
    height, width = values.shape[-2:]
    reach = 3 * spatial.max().item()
    radius = int(reach)
    frame = (radius, radius, radius, radius)
    padded = functional.pad(values, frame)
    # So far from every value that the weight of a pixel outside the image is zero.
    padded_guide = functional.pad(guide, frame, value=1e6)
    near, alike = (0.5 / sigma.square().view(-1, 1, 1, 1) for sigma in (spatial, tonal))
    total, weights = torch.zeros_like(values), torch.zeros_like(guide)
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            distance = down**2 + right**2
            if distance > reach**2:
                continue
            rows = slice(radius + down, radius + down + height)
            columns = slice(radius + right, radius + right + width)
            weight = _exp(-near * distance - alike * (padded_guide[..., rows, columns] - guide).square())
            # An image's window must not depend on the others of its batch.
            weight = weight * (near * distance <= 4.5)
            total += weight * padded[..., rows, columns]
            weights += weight
    return total / weights


def bilateral_grid(
    values: Float[Tensor, "c h w"], guide: Float[Tensor, "h w"], spatial: float, tonal: float
) -> Float[Tensor, "c h w"]:
    """``bilateral`` of one image by a grid of nodes every half spatial sigma and at up to 32 levels of the guide.

    Every node holds the weighted sums at its place and level; between nodes they are interpolated (Durand and Dorsey
    2002; Chen, Paris and Durand 2007). A range sigma below 1/31 of what the guide spans acts as that, because levels
    lie no closer.
    """
    low, high = (float(end) for end in guide.aminmax())
    step = max(tonal / 2, (high - low) / (LEVELS - 1))
    sigma = _before_interpolation(max(tonal, step), step)
    # A flat guide still needs two levels to interpolate between.
    count = max(2, math.ceil((high - low) / step - 1e-6) + 1)
    levels = low + step * torch.arange(count, device=guide.device, dtype=guide.dtype)
    down, right = (_nodes(length, spatial, guide) for length in guide.shape)
    grid = []
    for part in levels.split(max(1, CHUNK // (guide.numel() * (len(values) + 1)))):
        weight = _exp(-0.5 * ((guide - part.view(-1, 1, 1)) / sigma).square())[:, None]
        grid.append(down @ torch.cat([weight * values, weight], dim=1) @ right.T)
    sums = _slice(torch.cat(grid).transpose(0, 1), (guide - low) / step, spatial)
    return sums[:-1] / sums[-1:]


def _nodes(length: int, spatial: float, like: Tensor) -> Float[Tensor, "n length"]:
    """Gaussian weights of all pixels of a side around nodes that stand every half sigma."""
    count = max(2, math.ceil((length - 1) / (spatial / 2)) + 1)
    places = torch.arange(count, device=like.device, dtype=like.dtype) * (spatial / 2)
    pixels = torch.arange(length, device=like.device, dtype=like.dtype)
    sigma = _before_interpolation(spatial, spatial / 2)
    return _exp(-0.5 * ((pixels - places[:, None]) / sigma).square())


def _before_interpolation(sigma: float, step: float) -> float:
    """Sigma of the Gaussian which, interpolated linearly between nodes one step apart, has ``sigma`` on average."""
    return math.sqrt(sigma**2 - step**2 / 6)


def _slice(grid: Float[Tensor, "c levels n m"], level: Float[Tensor, "h w"], spatial: float) -> Float[Tensor, "c h w"]:
    """The grid between its nodes, at every pixel's place and level."""
    rows = torch.arange(level.shape[0], device=level.device, dtype=level.dtype) / (spatial / 2)
    columns = torch.arange(level.shape[1], device=level.device, dtype=level.dtype) / (spatial / 2)
    place = torch.stack([*torch.broadcast_tensors(columns, rows[:, None]), level], dim=-1)
    last = torch.tensor([side - 1 for side in reversed(grid.shape[1:])], device=level.device, dtype=level.dtype)
    between = functional.grid_sample(
        grid[None], (2 * place / last - 1)[None, None], mode="bilinear", padding_mode="border", align_corners=True
    )
    return between[0, :, 0]


def _exp(exponent: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    # A result below the least normal number takes the CPU 25 times as long, and is nothing beside a pixel's own weight.
    return torch.exp(exponent.clamp(min=-80))
