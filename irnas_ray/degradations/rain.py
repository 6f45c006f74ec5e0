"""Synthetic rain: streaks that start anywhere, fall in one direction for each layer, and cover what is behind them."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from irnas_ray.degradations.colors import check_channels
from irnas_ray.degradations.ranges import check_log_range, check_range, log_uniform, uniform
from irnas_ray.settings.degradations import Rain

#: Width at half height of a Gaussian in units of its sigma.
HALF_WIDTH = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True)
class RainDraws:
    """Every random number of a batch: one value for each layer, and one in [0, 1] for each place of a streak."""

    density: Float[Tensor, "b l"]
    length: Float[Tensor, "b l"]
    angle: Float[Tensor, "b l"]
    width: Float[Tensor, "b l"]
    opacity: Float[Tensor, "b l"]
    brightness: Float[Tensor, "b l"]
    places: Float[Tensor, "b l p q"]


class RainStreaks:
    """Draws rain over clean images: layer by layer, image + opacity * streaks * (brightness - image).

    Raises:
        ValueError: naming the setting, if a range or value is impossible.
    """

    def __init__(self, settings: Rain) -> None:
        if settings.layers < 1:
            raise ValueError(f"rain.layers: {settings.layers}; at least 1")
        check_log_range("rain.density", settings.density, 1)
        check_log_range("rain.length", settings.length)
        check_log_range("rain.width", settings.width)
        check_range("rain.angle", settings.angle)
        check_range("rain.opacity", settings.opacity, 0, 1)
        check_range("rain.brightness", settings.brightness, 0, 1)
        self.settings = settings
        #: How far in pixels a streak can reach from its middle; streaks that start outside the image reach into it.
        self.reach = math.ceil(settings.length[1] / 2 + settings.width[1] + 1)

    def __call__(self, clean: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
        """Returns the rainy images in [0, 1].

        Args:
            clean: Gray or RGB images in [0, 1].
            generator: Source of all random numbers; lives on the device of ``clean``.
        """
        check_channels(clean)
        return self.apply(clean, self.draw(clean, generator))

    def draw(self, clean: Float[Tensor, "b c h w"], generator: torch.Generator) -> RainDraws:
        """All random numbers for a batch."""
        s = self.settings
        shape = (len(clean), s.layers)
        canvas = tuple(side + 2 * self.reach for side in clean.shape[-2:])
        return RainDraws(
            density=log_uniform(s.density, shape, generator),
            length=log_uniform(s.length, shape, generator),
            angle=uniform(s.angle, shape, generator),
            width=log_uniform(s.width, shape, generator),
            opacity=uniform(s.opacity, shape, generator),
            brightness=uniform(s.brightness, shape, generator),
            places=torch.rand(*shape, *canvas, generator=generator, device=generator.device, dtype=clean.dtype),
        )

    def apply(self, clean: Float[Tensor, "b c h w"], draws: RainDraws) -> Float[Tensor, "b c h w"]:
        """The rainy images that given random numbers make: of each image what it would be on its own."""
        streaks = self.streaks(draws)
        rainy = clean
        for layer in range(streaks.shape[1]):
            opacity, brightness = (x[:, layer].to(clean).view(-1, 1, 1, 1) for x in (draws.opacity, draws.brightness))
            rainy = rainy + opacity * streaks[:, layer, None].to(clean) * (brightness - rainy)
        return rainy

    def streaks(self, draws: RainDraws) -> Float[Tensor, "b l h w"]:
        """How much of the strongest streak covers each pixel, in [0, 1]."""
        density = draws.density.to(draws.places)[..., None, None]
        # Where a place is below the density, it is even in [0, density], which gives the streak's own strength.
        strength = torch.where(draws.places < density, 0.5 + 0.5 * draws.places / density, torch.zeros_like(density))
        shape = draws.places.shape[-2:]
        spectrum = torch.fft.rfft2(strength) * torch.fft.rfft2(self.kernel(draws).to(strength), s=shape)
        # Of the circular convolution only the places are kept at which no streak has wrapped around.
        return torch.fft.irfft2(spectrum, s=shape)[..., 2 * self.reach :, 2 * self.reach :].clamp(0, 1)

    def kernel(self, draws: RainDraws) -> Float[Tensor, "b l k k"]:
        """One streak of each layer, 1 in its middle: Gaussian across, even along, with soft ends one pixel long."""
        ramp = torch.arange(-self.reach, self.reach + 1, device=draws.angle.device, dtype=draws.angle.dtype)
        angle, length, width = (x[..., None, None] for x in (torch.deg2rad(draws.angle), draws.length, draws.width))
        down, right = ramp[:, None], ramp
        along = right * angle.sin() + down * angle.cos()
        across = right * angle.cos() - down * angle.sin()
        end = (length / 2 + 0.5 - along.abs()).clamp(0, 1)
        return end * torch.exp(-0.5 * (across * HALF_WIDTH / width).square())
