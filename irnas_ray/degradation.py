"""What is done to clean images: seeded degradations that run where the images are.

Every degradation is called as ``degradation(clean, generator)`` and returns images of the same shape.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class GaussianNoise:
    """Adds white Gaussian noise whose level is drawn for each patch from a list (section 4.1: 30, 50, 70).

    Args:
        sigmas: Standard deviations on the 0-255 scale; each is equally likely. Zero is allowed.

    Raises:
        ValueError: if the list is empty or a level is negative or not finite.
    """

    def __init__(self, sigmas: Sequence[float]) -> None:
        self.sigmas = tuple(check_sigma(sigma) for sigma in sigmas)
        if not self.sigmas:
            raise ValueError("sigmas is empty; give at least one noise level on the 0-255 scale")
        self._levels = torch.tensor(self.sigmas)

    def __call__(self, clean: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
        """Returns ``clean`` (range [0, 1]) plus noise in float, neither clipped nor rounded.

        Args:
            clean: Patches in [0, 1].
            generator: Source of all random numbers; lives on the device of ``clean``.
        """
        # Kept on the device: copying the list at every step would make the host wait for the GPU.
        self._levels = self._levels.to(clean.device)
        drawn = torch.randint(len(self.sigmas), (len(clean),), generator=generator, device=clean.device)
        sigma = self._levels[drawn].to(clean.dtype).view(-1, 1, 1, 1) / 255
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        return clean + sigma * noise


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


def degrade_image(clean: Float[Tensor, "c h w"], name: str, sigma: float) -> Float[Tensor, "c h w"]:
    """Adds the white noise that belongs to an image's name: every call and every device gives the same noise.

    A network scored twice then differs by the network alone; noise drawn anew moves PSNR by about 0.1 dB.

    Args:
        clean: Image in [0, 1].
        name: The image's name; seeds the noise.
        sigma: Standard deviation on the 0-255 scale; scales the same noise pattern.

    Raises:
        ValueError: if sigma is negative or not finite.
    """
    # Drawn on the CPU because CUDA's generator gives other numbers for the same seed.
    generator = torch.Generator().manual_seed(image_seed(name))
    noise = torch.randn(clean.shape, generator=generator)
    return clean + check_sigma(sigma) / 255 * noise.to(clean)
