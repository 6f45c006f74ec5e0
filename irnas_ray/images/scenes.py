"""Finds images of one scene however they are encoded or scaled: the leaks from training to test that invalidate scores.

Images are compared by 32x32 thumbnails of local contrast. On Rain800 and BSDS500 (1,300 files) copies of one scene
correlate at 0.99 and more, two shots of one view at up to 0.68, all others under 0.35. Copies of 150 of them as JPEG of
quality 10, at a quarter of their size, with noise of sigma 25 or with a gamma of 1.5 stay at 0.93 and more; smooth
scenes lose more (0.86 for a photograph of the moon). Copies cropped by more than 1 % a side are not found.
"""

import hashlib
from collections.abc import Sequence

import lazy_loader
import numpy as np
from jaxtyping import Float32, Int, Int8, UInt
from PIL import Image

from irnas_ray.images.depth import Depth

# loaded when first used: every worker reads images, and none compares them
sparse = lazy_loader.load("scipy.sparse", suppress_warning=True)
csgraph = lazy_loader.load("scipy.sparse.csgraph", suppress_warning=True)

Thumbnail = Int8[np.ndarray, "32 32"]

SIDE = 32
#: Side of the window whose mean and contrast are taken out, in pixels of the thumbnail.
WINDOW = 7
#: What each pixel of a row counts in the mean of each one's window.
_WINDOWS = np.zeros((SIDE, SIDE))
for _pixel in range(SIDE):
    np.add.at(_WINDOWS[_pixel], np.arange(_pixel - WINDOW // 2, _pixel + WINDOW // 2 + 1).clip(0, SIDE - 1), 1 / WINDOW)
#: What red, green and blue count in luma.
_LUMA = (0.299, 0.587, 0.114)
#: Contrast in gray levels below which a window counts as flat; keeps noise and JPEG's traces from being amplified.
FLOOR = 3.0
#: Thumbnails with less contrast, in gray levels, have nothing to be told by.
LEAST_CONTRAST = 1.0
#: Correlation from which two thumbnails are of one scene.
ALIKE = 0.9
#: Stored units of local contrast.
_SCALE = 32
#: Thumbnails that are compared with all others at a time; bounds the memory.
_BLOCK = 1024
#: One of so many pairs of thumbnails is compared alone in less time than all of them together.
_FEW = 128
#: By how much sums of single precision may be too small.
_ROUNDING = 1e-4


def content_hash(pixels: UInt[np.ndarray, "c h w"]) -> str:
    """SHA-256 of an image's pixels in the order (c, h, w), as hex digits; equal for equal pixels of one depth."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def thumbnail(pixels: UInt[np.ndarray, "c h w"]) -> Thumbnail | None:
    """What an image, gray or RGB, is recognised by; None if it is too small or too smooth to be told from others."""
    detail = fine_detail(pixels)
    if detail is None or np.sqrt(np.mean(detail**2)) < LEAST_CONTRAST:
        return None
    contrast = np.sqrt(_local_mean(detail**2) + FLOOR**2)
    return np.rint(np.clip(detail / contrast * _SCALE, -127, 127)).astype(np.int8)


def fine_detail(pixels: UInt[np.ndarray, "c h w"]) -> Float32[np.ndarray, "32 32"] | None:
    """The luma (0-255) of an image reduced to 32x32, less its local mean; None if a side is under 16 pixels."""
    if min(pixels.shape[1:]) < SIDE // 2:
        return None
    weights = _LUMA if len(pixels) == 3 else [1]
    # not as a matrix product, for which every process of a pool would start threads of its own
    levels = pixels[0] * np.float32(weights[0])
    for plane, weight in zip(pixels[1:], weights[1:], strict=True):
        levels += plane * np.float32(weight)
    levels /= np.float32(Depth.of(pixels).white / Depth.EIGHT.white)
    reduced = Image.fromarray(levels).resize((SIDE, SIDE), Image.Resampling.BOX)
    small = np.asarray(reduced, np.float32)
    return small - _local_mean(small)


def _local_mean(small: Float32[np.ndarray, "32 32"]) -> Float32[np.ndarray, "32 32"]:
    """The mean of the window around each pixel; what lies beyond the border is as the nearest pixel."""
    return (_WINDOWS @ small @ _WINDOWS.T).astype(np.float32)


def correlation(one: Thumbnail, other: Thumbnail) -> float:
    """How alike two thumbnails are, from -1 to 1."""
    return float(np.dot(_rows([one])[0], _rows([other])[0]))


def matches(
    left: Sequence[Thumbnail | None], right: Sequence[Thumbnail | None], turned: bool = False
) -> list[tuple[int, int]]:
    """Indices (i, j), ascending, of the images of `left` and `right` that show one scene.

    `turned`: also where one is mirrored or turned by quarter turns. Takes time in proportion to the product of the
    counts: 10,000 against 10,000 about ten seconds on a core, eight times as long with `turned`.
    """
    others = _rows(right)
    some = _some(others, bound_last=True).T
    found: set[tuple[int, int]] = set()
    for start in range(0, len(left), _BLOCK):
        block = left[start : start + _BLOCK]
        for turn in range(8 if turned else 1):
            rows = _rows([_turned(image, turn) for image in block])
            found.update((start + int(i), int(j)) for i, j in _close(rows, others, some))
    return sorted(found)


def _close(
    rows: Float32[np.ndarray, "m 1024"], others: Float32[np.ndarray, "n 1024"], some: Float32[np.ndarray, "258 n"]
) -> Int[np.ndarray, "k 2"]:
    """Indices of the thumbnails that match, out of the few of which a part does."""
    near = np.argwhere(_some(rows, bound_last=False) @ some >= ALIKE - 1 - _ROUNDING)
    if len(near) > len(rows) * len(others) // _FEW:
        return np.argwhere(rows @ others.T >= ALIKE)
    return near[np.einsum("nk,nk->n", rows[near[:, 0]], others[near[:, 1]]) >= ALIKE]


def _some(rows: Float32[np.ndarray, "n 1024"], bound_last: bool) -> Float32[np.ndarray, "n 258"]:
    """Every fourth pixel of thumbnails, and what makes the product with others at least ``ALIKE - 1`` if they match.

    Rows x, y of length one have a product of at least a where |x - y|^2 <= 2 - 2 a. That holds for a part of their
    pixels too, whose product is then at least (|x|^2 + |y|^2) / 2 - (1 - a).
    """
    part = rows[:, ::4]
    bound, one = (part**2).sum(axis=1, keepdims=True) / -2, np.ones((len(rows), 1), np.float32)
    return np.hstack([part, one, bound] if bound_last else [part, bound, one])


def best_matches(left: Sequence[Thumbnail | None], right: Sequence[Thumbnail | None]) -> list[tuple[int, float]]:
    """For each image of `left` the index of the most alike one of `right` and their correlation."""
    others = _rows(right).T
    found: list[tuple[int, float]] = []
    for start in range(0, len(left), _BLOCK):
        close = _rows(left[start : start + _BLOCK]) @ others
        best = close.argmax(axis=1)
        found += [(int(j), float(close[i, j])) for i, j in enumerate(best)]
    return found


def groups(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """A number for each of `count` images, equal for those that pairs join, directly or by way of others."""
    if not count:
        return []
    i, j = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    joined = sparse.coo_array((np.ones(len(i), bool), (i, j)), shape=(count, count))
    return csgraph.connected_components(joined, directed=False)[1].tolist()


def _turned(image: Thumbnail | None, turn: int) -> Thumbnail | None:
    if image is None or turn == 0:
        return image
    return np.rot90(image[:, ::-1] if turn >= 4 else image, turn % 4)


def _rows(images: Sequence[Thumbnail | None]) -> Float32[np.ndarray, "n 1024"]:
    """Thumbnails as rows of length one; what cannot be told is a row of zeros, which is like nothing."""
    rows = np.zeros((len(images), SIDE * SIDE), np.float32)
    for row, image in zip(rows, images, strict=True):
        if image is not None:
            row[:] = image.ravel()
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(length, 1e-9)
