"""The pixels of an image file at its full depth, and what they are at another depth, as floats or in gray."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt
from PIL import Image

from irnas_ray.images.depth import Depth


@dataclass(frozen=True)
class Samples:
    """The pixels of a file as shown, (h w) or (h w 3): 0 is black, and ``white`` white, of each channel or of all."""

    values: UInt[np.ndarray, "*shape"]
    white: int | UInt[np.ndarray, " c"]
    #: How opaque each pixel is, from 0 to the largest value of the same type; None: all are, or it was not asked for.
    alpha: UInt[np.ndarray, "h w"] | None = None

    @property
    def gray(self) -> bool:
        """Whether the file is gray."""
        return self.values.ndim == 2

    @property
    def is_plain(self) -> bool:
        """Whether the values are those of 8 bits."""
        return self.depth is Depth.EIGHT and isinstance(self.white, int) and self.white == Depth.EIGHT.white

    @property
    def depth(self) -> Depth:
        """That of the file."""
        return Depth.of(self.values)

    def rows(self, start: int, stop: int) -> "Samples":
        """Some rows, without a copy."""
        return Samples(self.values[start:stop], self.white, None if self.alpha is None else self.alpha[start:stop])

    def pixels(self, channels: int, depth: Depth | None = None) -> UInt[np.ndarray, "*shape"]:
        """As a depth (None: the file's own) holds them, in gray (1, by ITU-R 601) or in the file's colours (3)."""
        depth = depth or self.depth
        # Of less depth first, so that a file of 8 bits has the same gray beside others of 16 as alone.
        own = min(depth, self.depth).nearest(self.values, self.white)
        return depth.nearest(luma(own) if channels == 1 and not self.gray else own)

    def floats(self) -> Float[np.ndarray, "*shape"]:
        """Values in [0, 1], float32."""
        return self.values.astype(np.float32) / np.asarray(self.white, np.float32)


def luma(colors: UInt[np.ndarray, "h w 3"]) -> UInt[np.ndarray, "h w"]:
    """Gray of RGB pixels, by ITU-R 601, at their own depth."""
    if Depth.of(colors) is Depth.EIGHT:
        return np.asarray(Image.fromarray(colors).convert("L"))
    # Pillow's weights for 8 bits, which sum to 2^16, so that neutral colours stay as they are.
    gray = np.full(colors.shape[:2], 2**15, np.uint32)
    for channel, weight in enumerate((19595, 38470, 7471)):
        gray += colors[:, :, channel].astype(np.uint32) * np.uint32(weight)
    return (gray >> 16).astype(colors.dtype)
