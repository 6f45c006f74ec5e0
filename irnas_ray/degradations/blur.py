"""Blur of a lens out of focus or of a moving camera, and the noise of the picture that it takes."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from irnas_ray.degradations.ranges import check_range, uniform
from irnas_ray.settings.degradations import Blur


@dataclass(frozen=True)
class BlurDraws:
    """Every random number of a batch; each image is blurred in one of the two ways."""

    moved: Bool[Tensor, " b"]
    sigma: Float[Tensor, " b"]
    length: Float[Tensor, " b"]
    angle: Float[Tensor, " b"]
    noise: Float[Tensor, " b"]
    normal: Float[Tensor, "b c h w"]


class BlurWithNoise:
    """Convolves each image with a kernel of its own, a Gaussian or a line, and adds white noise.

    Raises:
        ValueError: naming the setting, if a range or value is impossible.
    """

    def __init__(self, settings: Blur) -> None:
        check_range("blur.motion", [settings.motion, settings.motion], 0, 1)
        check_range("blur.sigma", settings.sigma, 0.1, 50)
        check_range("blur.length", settings.length, 1, 200)
        check_range("blur.angle", settings.angle)
        check_range("blur.noise", settings.noise, 0)
        self.settings = settings
        #: How far in pixels a kernel can reach from its middle: three sigma, or half a line and its soft end.
        self.reach = max(math.ceil(3 * settings.sigma[1]), math.ceil(settings.length[1] / 2) + 1)

    def __call__(self, clean: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
        """Returns the blurred, noisy images, clipped to [0, 1].

        Args:
            clean: Images in [0, 1].
            generator: Source of all random numbers; lives on the device of ``clean``.
        """
        return self.apply(clean, self.draw(clean, generator))

    def draw(self, clean: Float[Tensor, "b c h w"], generator: torch.Generator) -> BlurDraws:
        """All random numbers for a batch."""
        s, count = self.settings, (len(clean),)
        return BlurDraws(
            moved=uniform([0, 1], count, generator) < s.motion,
            sigma=uniform(s.sigma, count, generator),
            length=uniform(s.length, count, generator),
            angle=uniform(s.angle, count, generator),
            noise=uniform(s.noise, count, generator),
            normal=torch.randn(clean.shape, generator=generator, device=generator.device, dtype=clean.dtype),
        )

    def apply(self, clean: Float[Tensor, "b c h w"], draws: BlurDraws) -> Float[Tensor, "b c h w"]:
        """The images that given random numbers make; border pixels are repeated outwards."""
        count, channels, height, width = clean.shape
        kernels = self.kernels(draws).to(clean).repeat_interleave(channels, dim=0)[:, None]
        padded = functional.pad(clean, (self.reach,) * 4, mode="replicate")
        flat = padded.reshape(1, count * channels, *padded.shape[-2:])
        blurred = functional.conv2d(flat, kernels, groups=count * channels).view(count, channels, height, width)
        noise = draws.noise.to(clean).view(-1, 1, 1, 1) / 255 * draws.normal.to(clean)
        return (blurred + noise).clamp(0, 1)

    def kernels(self, draws: BlurDraws) -> Float[Tensor, "b k k"]:
        """The kernel of each image, rows downwards; its values sum to one."""
        ramp = torch.arange(-self.reach, self.reach + 1, device=draws.sigma.device, dtype=draws.sigma.dtype)
        down, right = ramp[:, None], ramp[None, :]
        sigma, length, angle = (x[:, None, None] for x in (draws.sigma, draws.length, draws.angle.deg2rad()))
        gaussian = torch.exp(-0.5 * (down**2 + right**2) / sigma**2)
        along = (right * angle.cos() - down * angle.sin()).abs()
        beside = (right * angle.sin() + down * angle.cos()).abs()
        # one pixel wide, and as soft at its sides and ends as a pixel is wide
        line = ((length + 1) / 2 - along).clamp(0, 1) * (1 - beside).clamp(0, 1)
        kernels = torch.where(draws.moved[:, None, None], line, gaussian)
        return kernels / kernels.sum(dim=(1, 2), keepdim=True)
