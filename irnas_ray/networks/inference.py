"""Restores images of any size with a trained network, whole or tile by tile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.networks.folding import folded

#: Most pixels that go through the network at a time when tiles or images are batched; bounds the memory. On a CPU few
#: pixels stay in its caches: four tiles of 64x64 at a time took 0.4 of the time of sixty.
BATCH_PIXELS = {"cpu": 2**14}
BATCH_PIXELS_OTHERWISE = 2**18

#: Accepted kinds of pixels -> what a white pixel is.
_LARGEST = {"uint8": 255, "uint16": 65535} | dict.fromkeys(("float16", "bfloat16", "float32", "float64"), 1)

Picture = TypeVar("Picture", np.ndarray, Tensor)


def restore(
    network: nn.Module, image: Picture, tile: int | None = None, overlap: int = 0, self_ensemble: bool = False
) -> Picture:
    """Restores an image of any size and returns it in the same kind and layout, float32 clipped to [0, 1].

    With tiles, the memory beyond the image and its result is that of one batch of tiles. Neighbouring tiles fade into
    each other; the result equals the whole image's if the network looks at most ``overlap - overlap // 4`` pixels far.

    Args:
        network: Maps (b c h w) to the same shape. Its device is used; its training mode is as before afterwards.
        image: numpy (h w) or (h w c), or tensor (c h w) or (b c h w), of uint8, uint16, or float in [0, 1]; float
            noise may leave that range.
        tile: Side in pixels of the tiles that are restored apart; None: the whole image at once. Paper: 64.
        overlap: Pixels of surroundings on each side of a tile that the network sees too.
        self_ensemble: Average the results for the image's four rotations and their mirror images, turned back; eight
            times the work for a small gain (Timofte et al. 2016).

    Raises:
        ValueError: if the channels do not fit the network, the dtype or layout is none of the above, a pixel is not
            finite or clearly on the 0-255 scale, or tile or overlap is out of range.

    Example:
        >>> from skimage import data
        >>> import irnas_ray as ir
        >>> network = ir.DnCNN(channels=1, depth=3, width=4)
        >>> restored = ir.restore(network, data.camera()[:100, :90], tile=64)
        >>> restored.shape, restored.dtype
        ((100, 90), dtype('float32'))
    """
    batch = _to_batch(image)
    _check_channels(network, batch.shape[1])
    step = getattr(network, "pixel_step", 1)
    rows, columns = (_spans(size, size if tile is None else tile, overlap, step) for size in batch.shape[-2:])
    # Made outside of inference mode: such a tensor could not take part in a later computation with gradients.
    restored = torch.zeros_like(batch)
    apply = partial(_self_ensemble, network) if self_ensemble else network
    with _evaluating(network):
        _restore_tiles(apply, next(network.parameters(), torch.zeros(())), batch, restored, rows, columns)
        restored.clamp_(0, 1)
    return _like(image, restored)


def restored_bands(
    network: nn.Module,
    rows: Callable[[int, int], np.ndarray],
    height: int,
    tile: int | None = None,
    overlap: int = 0,
    self_ensemble: bool = False,
) -> Iterator[Float[np.ndarray, "_ w *c"]]:
    """Restores as ``restore``, and yields the result in bands that adjoin, from top to bottom.

    ``rows(start, stop)`` gives some rows of the image, (h w) or (h w c) of any kind that ``restore`` takes, of
    ``height`` in all. With tiles no more than one row of them is held as floats, beside its result.
    """
    apply = partial(_self_ensemble, network) if self_ensemble else network
    like, step = next(network.parameters(), torch.zeros(())), getattr(network, "pixel_step", 1)
    spans = _spans(height, height if tile is None else tile, overlap, step)
    begun: Tensor | None = None  # what the tiles above have added to rows that later tiles share
    for span, end in zip(spans, [*(span.start for span in spans[1:]), height], strict=True):
        image = rows(span.place.start, span.place.stop)
        batch = _to_batch(image)
        _check_channels(network, batch.shape[1])
        columns = _spans(batch.shape[-1], batch.shape[-1] if tile is None else tile, overlap, step)
        restored = torch.zeros_like(batch)
        if begun is not None:
            restored[..., : begun.shape[-2], :] = begun
        with _evaluating(network):
            _restore_tiles(apply, like, batch, restored, [_Span(0, span.weight)], columns)
        begun = restored[..., end - span.start :, :].clone()
        if end > span.start:
            yield _like(image, restored[..., : end - span.start, :].clamp(0, 1))


def restorer(
    network: nn.Module, tile: int | None = None, overlap: int = 0, self_ensemble: bool = False
) -> Callable[[Float[Tensor, "c h w"]], Float[Tensor, "c h w"]]:
    """Returns ``restore`` with the network and tiles filled in, as evaluation wants a method.

    The final network is folded once, here: later changes of its weights do not count.
    """
    network = fast(network)

    def method(degraded: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        return restore(network, degraded, tile, overlap, self_ensemble)

    return method


def fast(network: nn.Module) -> nn.Module:
    """The network, or where it is the final network a folded copy, which restores the same to 1e-5 in less time."""
    return folded(network) if isinstance(network, DerivedNetwork) else network


@dataclass(frozen=True)
class _Span:
    """Where a tile lies along one axis, and what each of its pixels counts in the result."""

    start: int
    weight: Float[Tensor, " n"]

    @property
    def place(self) -> slice:
        return slice(self.start, self.start + len(self.weight))


def _spans(size: int, tile: int, overlap: int, step: int = 1) -> list[_Span]:
    """The tiles along an axis, all of one length; the weights at each pixel sum to one.

    The parts without overlap adjoin; the last is shifted inwards to end with the image. With the overlap each tile is
    cut that much larger on both sides, shifted inwards at the image's borders. Weights rise over ``overlap // 2``
    pixels around the edge of the part; what lies further outside is only seen. Without overlap the later tile counts.
    Tiles begin at multiples of ``step``, as blocks of pixels do in the whole image, and are a little larger for it.
    """
    if tile < 1 or overlap < 0:
        raise ValueError(f"tile must be at least 1 and overlap at least 0, got tile={tile}, overlap={overlap}")
    core = min(tile, size)
    cores = [*range(0, size - core, core), size - core]
    late = max(((core_start - overlap) % step for core_start in cores[:-1]), default=0)
    length = min(core + 2 * overlap + late, size)
    length += (size - length) % step
    starts = [min(max(core_start - overlap, 0) // step * step, size - length) for core_start in cores]
    weights = torch.zeros(len(starts), size, dtype=torch.float64)
    for weight, start in zip(weights, cores, strict=True):
        if overlap == 0:
            weights[:, start : start + core] = 0
            weight[start : start + core] = 1
        else:
            weight += _ramps(start, start + core, size, max(1, overlap // 2))
    weights /= weights.sum(dim=0)
    return [_Span(start, weight[start : start + length].float()) for start, weight in zip(starts, weights, strict=True)]


def _ramps(start: int, end: int, size: int, fade: int) -> Float[Tensor, " n"]:
    """One from start to end and zero elsewhere, changing over ``fade`` pixels, but not where the image itself ends."""
    pixel = torch.arange(size, dtype=torch.float64) + 0.5
    ones = torch.ones_like(pixel)
    rise = ((pixel - start) / fade + 0.5).clamp(0, 1) if start > 0 else ones
    fall = ((end - pixel) / fade + 0.5).clamp(0, 1) if end < size else ones
    return torch.minimum(rise, fall)


def _restore_tiles(
    apply: Callable[[Tensor], Tensor],
    like: Tensor,
    images: Float[Tensor, "b c h w"],
    restored: Float[Tensor, "b c h w"],
    rows: list[_Span],
    columns: list[_Span],
) -> None:
    """Adds the weighted result of every tile to ``restored``; applies to so many as ``BATCH_PIXELS`` allow."""
    pixels = BATCH_PIXELS.get(like.device.type, BATCH_PIXELS_OTHERWISE)
    at_a_time = max(1, pixels // (len(rows[0].weight) * len(columns[0].weight)))
    # Moved once, because each copy to a GPU would make the host wait.
    high, wide = ([(span.place, span.weight.to(images)) for span in spans] for spans in (rows, columns))
    places = [(row, column) for row in high for column in wide]
    for some, target in zip(images.split(at_a_time), restored.split(at_a_time), strict=True):
        step = max(1, at_a_time // len(some))
        for part in (places[first : first + step] for first in range(0, len(places), step)):
            tiles = torch.cat([some[..., row, column] for (row, _), (column, _) in part])
            results = apply(tiles.to(like)).to(images).split(len(some))
            for result, ((row, vertical), (column, horizontal)) in zip(results, part, strict=True):
                target[..., row, column] += result * vertical[:, None] * horizontal


def _self_ensemble(network: nn.Module, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The mean of the network's eight results for the turned and mirrored images, each turned back."""
    total = torch.zeros_like(images)
    for turns in range(4):
        turned = torch.rot90(images, turns, (-2, -1))
        total += torch.rot90(network(turned), -turns, (-2, -1))
        total += torch.rot90(network(turned.flip(-1)).flip(-1), -turns, (-2, -1))
    return total / 8


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
        batch = pixels.permute(2, 0, 1)[None]
    else:
        batch = image.detach().reshape(-1, *image.shape[-3:]).float()
    if largest != 1:
        # In place, because a second copy of a large picture would be its largest need of memory.
        batch.div_(largest)
    extremes = torch.stack(batch.aminmax())
    if not torch.isfinite(extremes).all():
        raise ValueError("the image has pixels that are not finite (NaN or infinite)")
    # Far beyond what noise on [0, 1] reaches.
    if extremes.abs().max() > 16:
        raise ValueError(f"float images must be in [0, 1], got values up to {extremes.abs().max():g}; divide by 255?")
    return batch


def _like(image: Picture, restored: Float[Tensor, "b c h w"]) -> Picture:
    """Gives the restored batch, or some rows of it, the kind and layout of the image it came from."""
    if isinstance(image, Tensor):
        return restored.reshape(image.shape)
    array = restored[0].permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(array).reshape(-1, *image.shape[1:])
