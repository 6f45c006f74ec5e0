"""JPEG as the only damage: blocks, ringing and coarse colours of strongly compressed images."""

import torch
from jaxtyping import Float
from torch import Tensor

from irnas_ray.degradations.colors import check_channels
from irnas_ray.degradations.filters import jpeg
from irnas_ray.degradations.ranges import check_range
from irnas_ray.settings.degradations import Compression


class JpegCompression:
    """Compresses and decodes images; every image has a quality of its own.

    Raises:
        ValueError: naming the setting, if the range is impossible.
    """

    def __init__(self, settings: Compression) -> None:
        check_range("jpeg.quality", settings.quality, 1, 95)
        if any(end != round(end) for end in settings.quality):
            raise ValueError(f"jpeg.quality: {settings.quality}; give two whole numbers")
        self.low, self.high = map(round, settings.quality)

    def __call__(self, clean: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
        """Returns the decoded images in [0, 1].

        Args:
            clean: Gray or RGB images in [0, 1].
            generator: Source of all random numbers; lives on the device of ``clean``.
        """
        check_channels(clean)
        device = generator.device
        return jpeg(clean, torch.randint(self.low, self.high + 1, (len(clean),), generator=generator, device=device))
