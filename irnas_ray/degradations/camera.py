"""A camera's pipeline as a degradation: mosaic, noise, demosaicing, denoising, sharpening, JPEG.

After Jaroensri et al. 2019, "Generating training data for denoising real RGB images via camera pipeline simulation",
which the paper used to make SIM1800; every stage and range is a setting.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from irnas_ray.degradations.bilateral import bilateral
from irnas_ray.degradations.colors import (
    as_channels,
    as_colour,
    check_channels,
    linear_to_srgb,
    rgb_to_yuv,
    srgb_to_linear,
    to_bits,
    yuv_to_rgb,
)
from irnas_ray.degradations.filters import jpeg, plus_median, unsharp_mask
from irnas_ray.degradations.mosaic import demosaic, mosaic
from irnas_ray.degradations.ranges import check_log_range, check_range, log_uniform, uniform
from irnas_ray.settings.degradations import Camera


@dataclass(frozen=True)
class CameraDraws:
    """Every random number of a batch: one value for each image, and standard normal noise for each measured value."""

    exposure: Float[Tensor, " b"]
    phase: Int[Tensor, "b 2"]
    shot: Float[Tensor, " b"]
    shot_noise: Float[Tensor, "b m h w"]
    read: Float[Tensor, " b"]
    read_noise: Float[Tensor, "b m h w"]
    spatial: Float[Tensor, " b"]
    tonal: Float[Tensor, " b"]
    chroma_spatial: Float[Tensor, " b"]
    chroma_tonal: Float[Tensor, " b"]
    unsharp_amount: Float[Tensor, " b"]
    jpeg_quality: Int[Tensor, " b"]


class CameraPipeline:
    """Takes a picture of clean images with a random camera for each of them.

    A gray image is taken by a colour camera of which the luma is kept, or, without mosaic, by a monochrome one.

    Raises:
        ValueError: naming the setting, if a range or value is impossible.
    """

    def __init__(self, settings: Camera) -> None:
        check_range("camera.exposure", settings.exposure)
        for name in ("shot", "read", "spatial", "tonal", "chroma_spatial", "chroma_tonal"):
            check_log_range(f"camera.{name}", getattr(settings, name))
        check_range("camera.unsharp_amount", settings.unsharp_amount, 0)
        check_range("camera.jpeg_quality", settings.jpeg_quality, 1, 95)
        if any(end != int(end) for end in settings.jpeg_quality):
            raise ValueError(f"camera.jpeg_quality: {settings.jpeg_quality}; both ends must be whole numbers")
        if settings.phase not in (None, 0, 1, 2, 3):
            raise ValueError(f"camera.phase: {settings.phase}; it must be 0, 1, 2, 3 or null")
        if settings.bits is not None and not 1 <= settings.bits <= 16:
            raise ValueError(f"camera.bits: {settings.bits}; it must be from 1 to 16, or null")
        if not settings.unsharp_sigma > 0 or not settings.unsharp_threshold >= 0:
            raise ValueError(
                f"camera.unsharp_sigma is {settings.unsharp_sigma} and camera.unsharp_threshold "
                f"{settings.unsharp_threshold}; they must be above 0 and at least 0"
            )
        self.settings = settings

    def __call__(self, clean: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
        """Returns the pictures in [0, 1], on the device and in the colour space of ``clean``.

        Args:
            clean: Gray or RGB images in [0, 1], at least 2x2 pixels.
            generator: Source of all random numbers; lives on the device of ``clean``.
        """
        check_channels(clean)
        return self.apply(clean, self.draw(clean, generator))

    def draw(self, clean: Float[Tensor, "b c h w"], generator: torch.Generator) -> CameraDraws:
        """All random numbers for a batch. Switched-off stages draw too, so that a switch changes nothing else."""
        s = self.settings
        count, channels, height, width = clean.shape
        measured = 1 if s.mosaic else channels
        lowest, highest = (int(end) for end in s.jpeg_quality)
        device = generator.device

        def normal() -> Float[Tensor, "b m h w"]:
            shape = (count, measured, height, width)
            return torch.randn(shape, generator=generator, device=device, dtype=clean.dtype)

        phase = torch.randint(4, (count,), generator=generator, device=device)
        if s.phase is not None:
            phase = torch.full_like(phase, s.phase)
        return CameraDraws(
            exposure=uniform(s.exposure, (count,), generator),
            phase=torch.stack([phase // 2, phase % 2], dim=1),
            shot=log_uniform(s.shot, (count,), generator),
            shot_noise=normal(),
            read=log_uniform(s.read, (count,), generator),
            read_noise=normal(),
            spatial=log_uniform(s.spatial, (count,), generator),
            tonal=log_uniform(s.tonal, (count,), generator),
            chroma_spatial=log_uniform(s.chroma_spatial, (count,), generator),
            chroma_tonal=log_uniform(s.chroma_tonal, (count,), generator),
            unsharp_amount=uniform(s.unsharp_amount, (count,), generator),
            jpeg_quality=torch.randint(lowest, highest + 1, (count,), generator=generator, device=device),
        )

    def apply(self, clean: Float[Tensor, "b c h w"], draws: CameraDraws) -> Float[Tensor, "b c h w"]:
        """The pictures that given random numbers make: of each image what it would be on its own."""
        s, channels = self.settings, clean.shape[1]
        gain = torch.exp2(draws.exposure.to(clean)).view(-1, 1, 1, 1)
        linear = self.capture((clean if s.linear else srgb_to_linear(clean)) * gain, draws)
        linear = self.develop(linear, draws)
        srgb = linear_to_srgb(linear)
        if s.jpeg:
            srgb = jpeg(srgb, draws.jpeg_quality)
        elif s.eight_bit:
            srgb = to_bits(srgb, 8)
        if s.linear or any(s.exposure):
            linear = (srgb_to_linear(srgb) / gain).clamp(0, 1)
            srgb = linear_to_srgb(linear)
        return as_channels(linear if s.linear else srgb, channels)

    def capture(self, linear: Float[Tensor, "b c h w"], draws: CameraDraws) -> Float[Tensor, "b 3 h w"]:
        """What the sensor measures of linear light, as colours: mosaic, noise, clipping, rounding, demosaicing."""
        s = self.settings
        raw = mosaic(as_colour(linear), draws.phase) if s.mosaic else linear
        signal = raw
        if s.shot_noise:
            raw = raw + draws.shot.to(raw).view(-1, 1, 1, 1) * signal.clamp(min=0).sqrt() * draws.shot_noise
        if s.read_noise:
            raw = raw + draws.read.to(raw).view(-1, 1, 1, 1) * draws.read_noise
        raw = raw.clamp(0, 1) if s.bits is None else to_bits(raw, s.bits)
        return demosaic(raw, draws.phase).clamp(0, 1) if s.mosaic else as_colour(raw)

    def develop(self, linear: Float[Tensor, "b 3 h w"], draws: CameraDraws) -> Float[Tensor, "b 3 h w"]:
        """The camera's own denoising and sharpening of linear RGB, clipped to [0, 1]."""
        s = self.settings
        if s.median or s.bilateral:
            yuv = rgb_to_yuv(linear)
            if s.median:
                yuv = plus_median(yuv)
            if s.bilateral:
                yuv = _denoise(yuv, draws)
            linear = yuv_to_rgb(yuv).clamp(0, 1)
        if s.unsharp:
            linear = unsharp_mask(linear, draws.unsharp_amount, s.unsharp_sigma, s.unsharp_threshold / 255)
        return linear.clamp(0, 1)


def _denoise(yuv: Float[Tensor, "b 3 h w"], draws: CameraDraws) -> Float[Tensor, "b 3 h w"]:
    """Luma by differences of its square root, in which shot noise is even; then chroma by differences of that luma."""
    luma = yuv[:, :1].clamp(0, 1)
    luma = bilateral(luma, luma.sqrt(), draws.spatial, draws.tonal)
    wide, fine = draws.spatial * draws.chroma_spatial, draws.tonal * draws.chroma_tonal
    return torch.cat([luma, bilateral(yuv[:, 1:], luma, wide, fine)], dim=1)
