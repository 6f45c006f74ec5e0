"""What is done to clean images: seeded degradations that run where the images are.

Every degradation is called as ``degradation(clean, generator)`` and returns images of the same shape; the settings name
one, and ``make_degradation`` makes it.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from irnas_ray.degradations.blur import BlurWithNoise
from irnas_ray.degradations.camera import CameraPipeline
from irnas_ray.degradations.compression import JpegCompression
from irnas_ray.degradations.downscale import BicubicDownscaling
from irnas_ray.degradations.gaussian import GaussianNoise, check_sigma
from irnas_ray.degradations.rain import RainStreaks
from irnas_ray.degradations.unprocessing import UnprocessingModel
from irnas_ray.settings.degradations import MADE, Degradation
from irnas_ray.system.names import normalised

#: Makes degraded images (b c h w) of clean ones with the random numbers of a generator on their device.
Degrade = Callable[[Tensor, torch.Generator], Tensor]

#: What ``degradation.kind`` can be.
KINDS = ("gaussian", *MADE, "paired")


def make_degradation(settings: Degradation) -> Degrade | None:
    """The degradation that the settings name; None for pairs, which are degraded already.

    Raises:
        ValueError: naming the setting below ``degradation`` that is unknown or impossible.

    Example:
        >>> import torch
        >>> import irnas_ray as ir
        >>> degrade = ir.make_degradation(ir.Degradation(kind="gaussian", sigmas=[25]))
        >>> clean = torch.full((4, 1, 64, 64), 0.5)
        >>> noise = degrade(clean, torch.Generator().manual_seed(0)) - clean
        >>> round(255 * noise.std().item())
        25
    """
    if settings.kind == "gaussian":
        return GaussianNoise(settings.sigmas, settings.ranged)
    if settings.kind == "camera":
        return CameraPipeline(settings.camera)
    if settings.kind == "unprocessing":
        return UnprocessingModel(settings.unprocessing)
    if settings.kind == "rain":
        return RainStreaks(settings.rain)
    if settings.kind == "jpeg":
        return JpegCompression(settings.jpeg)
    if settings.kind == "blur":
        return BlurWithNoise(settings.blur)
    if settings.kind == "downscale":
        return BicubicDownscaling(settings.downscale)
    if settings.kind == "paired":
        return None
    raise ValueError(f"kind: unknown {settings.kind!r}; possible: {', '.join(KINDS)}")


def check_degradation(settings: Degradation) -> None:
    """ValueError naming the whole key of what is unknown or impossible, for the other kinds too but white noise.

    A wrong value should not wait until a later command uses it.
    """
    for kind in sorted({*MADE, settings.kind}):
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


def image_seed(name: str) -> int:
    """Returns a seed in [0, 2**63) that depends on an image's own name alone: equal in every run, on every machine.

    How accents are stored (Unicode NFC or NFD) does not count, nor do folders, so that `test/6` of a whole data set and
    `6` of its test folder get the same noise.
    """
    own_name = normalised(name.rpartition("/")[2])
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
