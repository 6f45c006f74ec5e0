"""Noise of a raw image under a finished sRGB image: the processing is undone, noise added, the processing repeated.

After Brooks et al. 2019, "Unprocessing images for learned raw denoising", without its colour correction matrices.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from irnas_ray.degradations.colors import as_channels, as_colour, check_channels, to_bits
from irnas_ray.degradations.mosaic import demosaic, mosaic
from irnas_ray.degradations.ranges import check_log_range, log_uniform, uniform
from irnas_ray.settings.degradations import Unprocessing

#: Mean of the channels above which highlights are kept from being darkened, so that white stays white.
HIGHLIGHT = 0.9


@dataclass(frozen=True)
class UnprocessingDraws:
    """Every random number of a batch: one value for each image, and standard normal noise for each measured value."""

    shot: Float[Tensor, " b"]
    read: Float[Tensor, " b"]
    gains: Float[Tensor, "b 3"]
    phase: Int[Tensor, "b 2"]
    noise: Float[Tensor, "b m h w"]


class UnprocessingModel:
    """Adds to clean sRGB images the noise that their raw images would have had; without noise nothing changes.

    A gray image is taken by a colour camera of which the luma is kept, or, without mosaic, by a monochrome one.

    Raises:
        ValueError: naming the setting, if a range or value is impossible.
    """

    def __init__(self, settings: Unprocessing) -> None:
        for name in ("shot", "red_gain", "blue_gain"):
            check_log_range(f"unprocessing.{name}", getattr(settings, name))
        for name, least in (("read_deviation", 0), ("brightness_deviation", 0)):
            if not getattr(settings, name) >= least:
                raise ValueError(f"unprocessing.{name}: {getattr(settings, name)}; at least {least}")
        if not settings.gamma > 0:
            raise ValueError(f"unprocessing.gamma: {settings.gamma}; it must be above 0")
        if not settings.brightness > 4 * settings.brightness_deviation:
            raise ValueError(
                f"unprocessing.brightness: {settings.brightness}; it must be above four times brightness_deviation, "
                "or gains could become negative"
            )
        self.settings = settings

    def __call__(self, clean: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
        """Returns the noisy images in [0, 1].

        Args:
            clean: Gray or RGB sRGB images in [0, 1], at least 2x2 pixels.
            generator: Source of all random numbers; lives on the device of ``clean``.
        """
        check_channels(clean)
        return self.apply(clean, self.draw(clean, generator))

    def draw(self, clean: Float[Tensor, "b c h w"], generator: torch.Generator) -> UnprocessingDraws:
        """All random numbers for a batch."""
        s, device = self.settings, generator.device
        count, channels, height, width = clean.shape
        shot = log_uniform(s.shot, (count,), generator)
        scatter = torch.randn(2, count, generator=generator, device=device)
        read = torch.exp(s.read_slope * shot.log() + s.read_offset + s.read_deviation * scatter[0])
        overall = 1 / (s.brightness + s.brightness_deviation * scatter[1].clamp(-4, 4))
        red, blue = uniform(s.red_gain, (count,), generator), uniform(s.blue_gain, (count,), generator)
        phase = torch.randint(2, (count, 2), generator=generator, device=device)
        shape = (count, 1 if s.mosaic else channels, height, width)
        noise = torch.randn(shape, generator=generator, device=device, dtype=clean.dtype)
        gains = torch.stack([red, torch.ones_like(red), blue], dim=1) * overall[:, None]
        return UnprocessingDraws(shot, read, gains, phase, noise)

    def apply(self, clean: Float[Tensor, "b c h w"], draws: UnprocessingDraws) -> Float[Tensor, "b c h w"]:
        """The noisy images that given random numbers make: of each image what it would be on its own."""
        s, channels = self.settings, clean.shape[1]
        image = as_colour(clean) if s.mosaic else clean
        linear = (inverse_tone_curve(image) if s.tone_curve else image.clamp(0, 1)) ** s.gamma
        darker = torch.ones_like(linear)
        if s.white_balance:
            gains = draws.gains if linear.shape[1] == 3 else draws.gains[:, 1:2]
            darker = inverse_gains(linear, gains.to(linear))
        raw = linear * darker
        if s.mosaic:
            raw, darker = mosaic(raw, draws.phase), mosaic(darker, draws.phase)
        shot, read = (level.to(raw).view(-1, 1, 1, 1) for level in (draws.shot, draws.read))
        raw = raw + (shot * raw + read).sqrt() * draws.noise
        # The same gains bring back what they took, so that the clean image stays the target.
        linear = (raw / darker).clamp(0, 1)
        if s.mosaic:
            linear = demosaic(linear, draws.phase).clamp(0, 1)
        image = linear ** (1 / s.gamma)
        image = tone_curve(image) if s.tone_curve else image
        return as_channels(to_bits(image, 8) if s.eight_bit else image, channels)


def tone_curve(image: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The smooth step 3x^2 - 2x^3 on [0, 1]."""
    return image * image * (3 - 2 * image)


def inverse_tone_curve(image: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What ``tone_curve`` makes the image of: 0.5 - sin(asin(1 - 2x) / 3) on [0, 1]."""
    return 0.5 - torch.sin(torch.asin(1 - 2 * image.clamp(0, 1)) / 3)


def inverse_gains(linear: Float[Tensor, "b c h w"], gains: Float[Tensor, "b c"]) -> Float[Tensor, "b c h w"]:
    """By what each value is multiplied to undo the gains: 1 / gain, but towards 1 where the pixel is a highlight."""
    inverse = (1 / gains)[:, :, None, None]
    excess = ((linear.mean(dim=1, keepdim=True) - HIGHLIGHT).clamp(min=0) / (1 - HIGHLIGHT)).square()
    return torch.maximum(excess + (1 - excess) * inverse, inverse)
