"""The depth of pixels: 8 or 16 bits a channel, the type that holds them, and their way to [0, 1] and back."""

from enum import IntEnum
from typing import TYPE_CHECKING, overload

import numpy as np
from jaxtyping import Float, UInt

if TYPE_CHECKING:  # torch takes seconds, which processes that only read images do without
    from torch import Tensor


class Depth(IntEnum):
    """Bits a channel; zero is black, and all bits set are white."""

    EIGHT = 8
    SIXTEEN = 16

    @classmethod
    def _missing_(cls, value: object) -> "Depth":
        raise ValueError(f"bits: {value!r}; it must be 8 or 16")

    @classmethod
    def of(cls, pixels: "np.ndarray | Tensor") -> "Depth":
        """The depth that the type of an array or tensor holds; ValueError unless it is uint8 or uint16."""
        kind = str(pixels.dtype).removeprefix("torch.")
        for depth in cls:
            if kind == depth.dtype.name:
                return depth
        raise ValueError(f"pixels must be uint8 or uint16, got {pixels.dtype}")

    @property
    def dtype(self) -> np.dtype:
        """numpy's type, in the byte order in which pixels are stored on every machine."""
        return np.dtype(f"<u{self // 8}")

    @property
    def white(self) -> int:
        """The largest value."""
        return 2**self - 1

    def nearest(
        self, values: UInt[np.ndarray, "*shape"], white: int | UInt[np.ndarray, " c"] | None = None
    ) -> UInt[np.ndarray, "*shape"]:
        """The nearest pixels of this depth; ``white`` is white among the values, of each channel or of all.

        None: the largest value of their own type, so that 8 bits become 16 by a factor of 257.
        """
        white = Depth.of(values).white if white is None else white
        if values.dtype == self.dtype and isinstance(white, int) and white == self.white:
            return values
        fits = int(np.max(white)) * (2 * self.white + 1) < 2**32
        wide = values.astype(np.uint32 if fits else np.uint64)
        whites = np.asarray(white, wide.dtype)
        return ((wide * (2 * self.white) + whites) // (2 * whites)).astype(self.dtype)

    def quantised(self, image: Float[np.ndarray, "*shape"]) -> UInt[np.ndarray, "*shape"]:
        """Pixels of values that are clipped to [0, 1] and rounded, in the values' own precision."""
        return np.rint(np.clip(image, 0, 1) * self.white).astype(self.dtype)


@overload
def unit_range(pixels: np.ndarray) -> np.ndarray: ...
@overload
def unit_range(pixels: "Tensor") -> "Tensor": ...
def unit_range(pixels: "np.ndarray | Tensor") -> "np.ndarray | Tensor":
    """uint8 or uint16 pixels as float32 in [0, 1], where a value and 257 times it are one; ValueError for others."""
    white = Depth.of(pixels).white
    return pixels.astype(np.float32) / white if isinstance(pixels, np.ndarray) else pixels.float() / white
