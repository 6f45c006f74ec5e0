"""Super-resolution with the size kept: images reduced and enlarged again, both bicubic, as published protocols do."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from irnas_ray.degradations.colors import to_bits
from irnas_ray.settings.degradations import Downscale

#: By what sides can be divided.
FACTORS = (2, 3, 4)
#: Pixels of the small image that a bicubic kernel reaches on each side.
REACH = 2


class BicubicDownscaling:
    """Reduces images, rounds them to 8 bits and enlarges them to their old size: what a network sees of a small image.

    An image whose sides are no multiples of the factor is continued by its mirror image and cut again.

    Raises:
        ValueError: naming the setting, if the factor is none of 2, 3 and 4.
    """

    def __init__(self, settings: Downscale) -> None:
        if settings.factor not in FACTORS:
            raise ValueError(f"downscale.factor: {settings.factor}; possible: {', '.join(map(str, FACTORS))}")
        self.factor = int(settings.factor)

    def __call__(self, clean: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
        """Returns the enlarged images; bicubic interpolation may overshoot [0, 1] a little.

        Args:
            clean: Images in [0, 1].
            generator: Of no effect: nothing is random.
        """
        height, width = clean.shape[-2:]
        return enlarged(to_bits(reduced(clean, self.factor), 8), self.factor)[..., :height, :width]


def reduced(image: Float[Tensor, "b c h w"], factor: int) -> Float[Tensor, "b c h2 w2"]:
    """The image at 1/``factor`` of its sides, rounded up, by an antialiased bicubic filter as MATLAB's ``imresize``."""
    low = [-(-side // factor) for side in image.shape[-2:]]
    ends = [(REACH * factor, (side + REACH) * factor) for side in low]
    return _resized(image, ends, [side + 2 * REACH for side in low], REACH)


def enlarged(image: Float[Tensor, "b c h w"], factor: int) -> Float[Tensor, "b c h2 w2"]:
    """The image with ``factor`` times its sides by bicubic interpolation as MATLAB's ``imresize``; it may overshoot."""
    sides = image.shape[-2:]
    ends = [(REACH, side + REACH) for side in sides]
    return _resized(image, ends, [(side + 2 * REACH) * factor for side in sides], REACH * factor)


def _resized(image: Tensor, ends: list[tuple[int, int]], sizes: list[int], margin: int) -> Tensor:
    # imresize mirrors the image at its borders, where torch leaves out what lies beyond them
    rows, columns = (_mirrored(side, *reach, image.device) for side, reach in zip(image.shape[-2:], ends, strict=True))
    wide = image[..., rows, :][..., columns]
    # with antialias torch has imresize's kernel (a = -0.5) in both directions, without it another (a = -0.75)
    resized = functional.interpolate(wide, size=sizes, mode="bicubic", antialias=True)
    return resized[..., margin:-margin, margin:-margin]


def _mirrored(size: int, before: int, end: int, device: torch.device) -> Tensor:
    """Indices of ``before`` pixels beyond the first up to ``end``, which turn back at a border and repeat it."""
    index = torch.arange(-before, end, device=device) % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)
