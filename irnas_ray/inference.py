"""Restores images of any size with a trained network, whole or tile by tile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

#: Most pixels that go through the network at a time when tiles or images are batched; bounds the memory. On a CPU few
#: pixels stay in its caches: four tiles of 64x64 at a time took 0.4 of the time of sixty.
BATCH_PIXELS = {"cpu": 2**14}
BATCH_PIXELS_OTHERWISE = 2**18

#: Accepted kinds of pixels -> what a white pixel is.
_LARGEST = {"uint8": 255, "uint16": 65535} | dict.fromkeys(("float16", "bfloat16", "float32", "float64"), 1)

Picture = TypeVar("Picture", np.ndarray, Tensor)


def restore(network: nn.Module, image: Picture, tile: int | None = None, overlap: int = 0) -> Picture:
    """Restores an image of any size and returns it in the same kind and layout, float32 clipped to [0, 1].

    Args:
        network: Maps (b c h w) to the same shape. Its device is used; its training mode is as before afterwards.
        image: numpy (h w) or (h w c), or tensor (c h w) or (b c h w), of uint8, uint16, or float in [0, 1]; float
            noise may leave that range.
        tile: Side in pixels of the tiles that are restored apart; None: the whole image at once. Paper: 64.
        overlap: Pixels of surroundings on each side of a tile that the network sees too.

    Raises:
        ValueError: if the channels do not fit the network, the dtype or layout is none of the above, a pixel is not
            finite or clearly on the 0-255 scale, or tile or overlap is out of range.
    """
    batch = _to_batch(image)
    _check_channels(network, batch.shape[1])
    with _evaluating(network):
        if tile is None:
            restored = _run(network, batch)
        else:
            tiles = _run(network, split_into_tiles(batch, tile, overlap))
            restored = join_tiles(tiles, batch.shape[-2], batch.shape[-1], tile, overlap)
        restored = restored.clamp(0, 1)
    # A tensor made in inference mode could not take part in a later computation with gradients.
    return _like(image, restored.clone())


def restorer(
    network: nn.Module, tile: int | None = None, overlap: int = 0
) -> Callable[[Float[Tensor, "c h w"]], Float[Tensor, "c h w"]]:
    """Returns ``restore`` with the network and tiles filled in, as evaluation wants a method."""

    def method(degraded: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        return restore(network, degraded, tile, overlap)

    return method


def split_into_tiles(
    images: Float[Tensor, "b c h w"], tile: int, overlap: int = 0
) -> Float[Tensor, "n c tile_h tile_w"]:
    """Cuts images into equally large tiles, row by row; ``join_tiles`` puts them together again exactly.

    The tiles adjoin; the last row and column are shifted inwards to end with the image. An image smaller than a tile
    is its own tile. With overlap each tile is cut that much larger on every side, shifted inwards at the borders.

    Raises:
        ValueError: if tile < 1 or overlap < 0.
    """
    rows, _, height = _axis(images.shape[-2], tile, overlap)
    columns, _, width = _axis(images.shape[-1], tile, overlap)
    return torch.cat([images[..., y : y + height, x : x + width] for _, y in rows for _, x in columns])


def join_tiles(
    tiles: Float[Tensor, "n c tile_h tile_w"], height: int, width: int, tile: int, overlap: int = 0
) -> Float[Tensor, "b c {height} {width}"]:
    """Joins the tiles that ``split_into_tiles`` cut, with the same tile and overlap, from images of this size.

    Raises:
        ValueError: if tile < 1, overlap < 0, or the tiles' number or size does not fit.
    """
    rows, core_height, tile_height = _axis(height, tile, overlap)
    columns, core_width, tile_width = _axis(width, tile, overlap)
    places = [(row, column) for row in rows for column in columns]
    if len(tiles) % len(places) or tiles.shape[-2:] != (tile_height, tile_width):
        raise ValueError(
            f"tiles {tuple(tiles.shape)} do not make {height}x{width} images: each needs {len(places)} tiles of "
            f"{tile_height}x{tile_width}"
        )
    parts = tiles.unflatten(0, (len(places), -1))
    images = tiles.new_empty(*parts.shape[1:3], height, width)
    for part, ((y, cut_y), (x, cut_x)) in zip(parts, places, strict=True):
        core = part[..., y - cut_y : y - cut_y + core_height, x - cut_x : x - cut_x + core_width]
        images[..., y : y + core_height, x : x + core_width] = core
    return images


def _axis(size: int, tile: int, overlap: int) -> tuple[list[tuple[int, int]], int, int]:
    """Returns (start of the part that is kept, start of the cut) for each tile along an axis, and both lengths."""
    if tile < 1 or overlap < 0:
        raise ValueError(f"tile must be at least 1 and overlap at least 0, got tile={tile}, overlap={overlap}")
    core = min(tile, size)
    cut = min(core + 2 * overlap, size)
    starts = [*range(0, size - core, core), size - core]
    return [(start, min(max(start - overlap, 0), size - cut)) for start in starts], core, cut


def _run(network: nn.Module, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Applies the network to so many images at a time as ``BATCH_PIXELS`` allow; the result is where they were."""
    parameter = next(network.parameters(), torch.zeros(()))
    pixels = BATCH_PIXELS.get(parameter.device.type, BATCH_PIXELS_OTHERWISE)
    at_a_time = max(1, pixels // (images.shape[-2] * images.shape[-1]))
    return torch.cat([network(part.to(parameter)).to(images) for part in images.split(at_a_time)])


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    # Each module's own mode is kept, because a part may have been frozen in evaluation mode.
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _check_channels(network: nn.Module, channels: int) -> None:
    wanted = getattr(network, "channels", channels)
    if wanted == channels:
        return
    kinds = {1: "gray", 3: "colour"}
    advice = "convert it to gray" if wanted == 1 else "convert it to RGB" if wanted == 3 else "convert it"
    raise ValueError(
        f"network restores {kinds.get(wanted, 'other')} images ({wanted} channel{'s' * (wanted != 1)}); the image has "
        f"{channels}; use a network for {kinds.get(channels, f'{channels} channels')} images or {advice}"
    )


def _to_batch(image: np.ndarray | Tensor) -> Float[Tensor, "b c h w"]:
    """Brings any accepted image to float32 (b c h w) in [0, 1]."""
    dimensions = (2, 3) if isinstance(image, np.ndarray) else (3, 4)
    if image.ndim not in dimensions or 0 in image.shape:
        raise ValueError(
            f"expected numpy (h w) or (h w c), or tensor (c h w) or (b c h w), not empty; got {tuple(image.shape)}"
        )
    kind = str(image.dtype).removeprefix("torch.") if isinstance(image, Tensor) else image.dtype.name
    if kind not in _LARGEST:
        raise ValueError(f"images must be uint8, uint16 or float in [0, 1], got {image.dtype}")
    largest = _LARGEST[kind]
    if isinstance(image, np.ndarray):
        # Converted by numpy, which also knows the byte orders and read-only arrays that torch does not take.
        pixels = torch.from_numpy(np.atleast_3d(image).astype(np.float32))
        batch = pixels.permute(2, 0, 1)[None] / largest
    else:
        batch = image.detach().reshape(-1, *image.shape[-3:]).float() / largest
    extremes = torch.stack(batch.aminmax())
    if not torch.isfinite(extremes).all():
        raise ValueError("the image has pixels that are not finite (NaN or infinite)")
    # Far beyond what noise on [0, 1] reaches.
    if extremes.abs().max() > 16:
        raise ValueError(f"float images must be in [0, 1], got values up to {extremes.abs().max():g}; divide by 255?")
    return batch


def _like(image: Picture, restored: Float[Tensor, "b c h w"]) -> Picture:
    """Gives the restored batch the kind and layout of the image it came from."""
    if isinstance(image, Tensor):
        return restored.reshape(image.shape)
    array = restored[0].permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(array).reshape(image.shape)
