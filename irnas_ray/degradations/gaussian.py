"""White Gaussian noise of one level, of several, or of a range."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from irnas_ray.degradations.ranges import uniform


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
            raise ValueError(f"sigmas {list(self.sigmas)} are not a range; give two noise levels, the lower one first")
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
