"""Where a convolution reads: the positions of its kernel's taps for every output."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """Kernel size, stride, padding, dilation and output size of a convolution, each as (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    size: tuple[int, int]

    @property
    def taps(self) -> int:
        """Positions of the kernel, row by row."""
        return self.kernel[0] * self.kernel[1]


@lru_cache(maxsize=256)
def tap_positions(geometry: Geometry, axis: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "taps n"]:
    """Pixel index, along an axis (0 vertical, 1 horizontal), that every tap reads for every output along that axis."""
    places = torch.arange(geometry.size[axis]) * geometry.stride[axis] - geometry.padding[axis]
    steps = torch.arange(geometry.kernel[axis]) * geometry.dilation[axis]
    rows, columns = geometry.kernel
    steps = steps.repeat_interleave(columns) if axis == 0 else steps.repeat(rows)
    return (steps[:, None] + places).to(device, dtype)
