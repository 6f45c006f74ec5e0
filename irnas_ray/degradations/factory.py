"""What is done to clean images: seeded degradations that run where the images are.

Every degradation is called as ``degradation(clean, generator)`` and returns images of the same shape; the settings name
one, and ``make_degradation`` makes it.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from irnas_ray.degradations.camera import CameraPipeline
from irnas_ray.degradations.rain import RainStreaks
from irnas_ray.degradations.ranges import uniform
from irnas_ray.degradations.unprocessing import UnprocessingModel
from irnas_ray.settings.degradations import Degradation

#: Makes degraded images (b c h w) of clean ones with the random numbers of a generator on their device.
Degrade = Callable[[Tensor, torch.Generator], Tensor]

#: What ``degradation.kind`` can be.
KINDS = ("gaussian", "camera", "unprocessing", "rain", "paired")


def make_degradation(settings: Degradation) -> Degrade | None:
    """The degradation that the settings name; None for pairs, which are degraded already.

    Raises:
        ValueError: naming the setting below ``degradation`` that is unknown or impossible.
    """
    if settings.kind == "gaussian":
        return GaussianNoise(settings.sigmas, settings.ranged)
    if settings.kind == "camera":
        return CameraPipeline(settings.camera)
    if settings.kind == "unprocessing":
        return UnprocessingModel(settings.unprocessing)
    if settings.kind == "rain":
        return RainStreaks(settings.rain)
    if settings.kind == "paired":
        return None
    raise ValueError(f"kind: unknown {settings.kind!r}; possible: {', '.join(KINDS)}")


def check_degradation(settings: Degradation) -> None:
    """ValueError naming the whole key of what is unknown or impossible, for the other kinds too but white noise.

    A wrong value should not wait until a later command uses it.
    """
    for kind in sorted({"camera", "unprocessing", "rain", settings.kind}):
        try:
            make_degradation(dataclasses.replace(settings, kind=kind))
        except ValueError as error:
            raise ValueError(f"degradation.{'sigmas: ' if kind == 'gaussian' else ''}{error}") from None


def validation_degradations(settings: Degradation) -> Sequence[float | Degrade]:
    """What every validation image is scored under: each level of white noise, or one draw of another kind.

    A range of levels is scored at its ends and its middle. Empty for pairs. ValueError as ``make_degradation``.
    """
    degradation = make_degradation(settings)
    if isinstance(degradation, GaussianNoise):
        if not settings.ranged:
            return degradation.sigmas
        low, high = degradation.sigmas
        return sorted({low, (low + high) / 2, high})
    return [] if degradation is None else [degradation]


class GaussianNoise:
    """Adds white Gaussian noise whose level is drawn for each patch (section 4.1: from 30, 50, 70).

    Args:
        sigmas: Standard deviations on the 0-255 scale; each is equally likely. Zero is allowed.
        ranged: There are two sigmas, and every level between them is equally likely.

    Raises:
        ValueError: if the list is empty, a level is negative or not finite, or a range is none.
    """

    def __init__(self, sigmas: Sequence[float], ranged: bool = False) -> None:
        self.sigmas = tuple(check_sigma(sigma) for sigma in sigmas)
        if not self.sigmas:
            raise ValueError("sigmas is empty; give at least one noise level on the 0-255 scale")
        if ranged and (len(self.sigmas) != 2 or self.sigmas[0] > self.sigmas[1]):
            raise ValueError(f"sigmas {list(self.sigmas)} are no range; give two noise levels, the lower one first")
        self.ranged = ranged
        self._levels = torch.tensor(self.sigmas)

    def __call__(self, clean: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
        """Returns ``clean`` (range [0, 1]) plus noise in float, neither clipped nor rounded.

        Args:
            clean: Patches in [0, 1].
            generator: Source of all random numbers; lives on the device of ``clean``.
        """
        sigma = self._draw(len(clean), generator).to(clean).view(-1, 1, 1, 1) / 255
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        return clean + sigma * noise

    def _draw(self, count: int, generator: torch.Generator) -> Float[Tensor, " b"]:
        if self.ranged:
            return uniform(self.sigmas, (count,), generator)
        # Kept on the device: copying the list at every step would make the host wait for the GPU.
        self._levels = self._levels.to(generator.device)
        return self._levels[torch.randint(len(self.sigmas), (count,), generator=generator, device=generator.device)]


def check_sigma(sigma: float) -> float:
    """Returns a noise level (0-255 scale) as a float; ValueError if it is negative or not finite."""
    if not math.isfinite(sigma) or sigma < 0:
        raise ValueError(f"sigma must be a finite number >= 0 on the 0-255 scale, got {sigma}")
    return float(sigma)


def image_seed(name: str) -> int:
    """Returns a seed in [0, 2**63) that depends on an image's own name alone: equal in every run, on every machine.

    Folders do not count, so that `test/6` of a whole data set and `6` of its test folder get the same noise.
    """
    own_name = name.rpartition("/")[2]
    # Python's own hash() of a string changes from one process to the next.
    return int.from_bytes(hashlib.sha256(own_name.encode()).digest()[:8], "big") >> 1


def degrade_image(clean: Float[Tensor, "c h w"], name: str, degradation: float | Degrade) -> Float[Tensor, "c h w"]:
    """Degrades an image with the random numbers that belong to its name: every call gives the same image.

    A network scored twice then differs by the network alone; noise drawn anew moves PSNR by about 0.1 dB.

    Args:
        clean: Image in [0, 1].
        name: The image's name; seeds all that is random.
        degradation: A noise level on the 0-255 scale, which scales the same white noise, or any other degradation.

    Raises:
        ValueError: if the noise level is negative or not finite.
    """
    # Drawn on the CPU because CUDA's generator gives other numbers for the same seed.
    generator = torch.Generator().manual_seed(image_seed(name))
    if callable(degradation):
        return degradation(clean.cpu()[None], generator)[0].to(clean.device)
    noise = torch.randn(clean.shape, generator=generator)
    return clean + check_sigma(degradation) / 255 * noise.to(clean)
