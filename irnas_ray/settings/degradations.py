"""The settings of every degradation as typed dataclasses; docs/degradations.md has them as a table with their sources.

A range is a list of its lowest and highest value. Every image of a batch draws its own; two equal numbers fix it.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from irnas_ray.settings.bounds import one_of


def _between(low: float, high: float) -> Any:
    return field(default_factory=lambda: [low, high])


#: Kinds that make degraded images by settings of their own name.
MADE = ("camera", "unprocessing", "rain", "jpeg", "blur", "downscale")


@dataclass
class Camera:
    """A camera that takes the picture: mosaic, noise, demosaicing, its own denoising and sharpening, JPEG."""

    #: Images hold linear light already; the degraded image then does too. Otherwise both are sRGB.
    linear: bool = False
    #: Exposure in stops (uniform), undone at the end; [0, 0] is off.
    exposure: list[float] = _between(0, 0)
    #: Take each pixel's colour through a GRBG Bayer mosaic and demosaic; off: every pixel measures all of its channels.
    mosaic: bool = True
    #: Which of the mosaic's four phases (0-3, two bits: shift down, shift right); null: drawn for each image.
    phase: int | None = None
    #: Noise of the photons: deviation shot * sqrt(signal), on linear light in [0, 1].
    shot_noise: bool = True
    #: Strength of the photons' noise, log-uniform.
    shot: list[float] = _between(0.01, 0.2)
    #: Noise of the electronics: deviation read, on linear light in [0, 1].
    read_noise: bool = True
    #: Deviation of the electronics' noise, log-uniform.
    read: list[float] = _between(0.01, 0.1)
    #: Clip the raw image to [0, 1] and round it to this many bits; null: not rounded.
    bits: int | None = 14
    #: Median of the five pixels of a plus, on Y, U and V.
    median: bool = True
    #: Bilateral filters of luma and, guided by luma, of chroma.
    bilateral: bool = True
    #: Luma's spatial sigma in pixels, log-uniform.
    spatial: list[float] = _between(0.5, 2.0)
    #: Luma's range sigma on the square root of Y, log-uniform.
    tonal: list[float] = _between(0.1 / 32, 1 / 32)
    #: Chroma: what luma's spatial sigma is multiplied by, log-uniform.
    chroma_spatial: list[float] = _between(8, 32)
    #: Chroma: what luma's range sigma is multiplied by, log-uniform.
    chroma_tonal: list[float] = _between(0.1, 0.5)
    #: Unsharp mask on linear RGB.
    unsharp: bool = True
    #: Sigma in pixels of the unsharp mask's Gaussian.
    unsharp_sigma: float = 4.0
    #: Amount of the unsharp mask, uniform.
    unsharp_amount: list[float] = _between(0, 0.25)
    #: Smallest difference on the 0-255 scale that the unsharp mask changes.
    unsharp_threshold: float = 3.0
    #: Round the sRGB image to 8 bit (JPEG does so in any case).
    eight_bit: bool = True
    #: Compress the sRGB image as JPEG with 4:2:0 chroma (Pillow, on the CPU).
    jpeg: bool = True
    #: Quality on Pillow's scale, 1-95, drawn uniformly from the whole numbers of the range.
    jpeg_quality: list[float] = _between(70, 90)


@dataclass
class Unprocessing:
    """Noise of a raw image whose sRGB image is known (Brooks et al. 2019): the simpler model of a camera."""

    #: Take each pixel's colour through a GRBG Bayer mosaic of random phase and demosaic.
    mosaic: bool = True
    #: Variance of the noise is shot * signal + read; shot is log-uniform in this range.
    shot: list[float] = _between(1e-4, 0.012)
    #: log(read) is normal with mean read_slope * log(shot) + read_offset.
    read_slope: float = 2.18
    #: Offset of the mean of log(read).
    read_offset: float = 1.20
    #: Deviation of log(read).
    read_deviation: float = 0.26
    #: Undo white balance and brightening before the noise.
    white_balance: bool = True
    #: White balance gain of red, uniform.
    red_gain: list[float] = _between(1.9, 2.4)
    #: White balance gain of blue, uniform.
    blue_gain: list[float] = _between(1.5, 1.9)
    #: Overall gain is 1 / N(brightness, brightness_deviation^2).
    brightness: float = 0.8
    #: Deviation of the inverse of the overall gain.
    brightness_deviation: float = 0.1
    #: Undo the tone curve 3x^2 - 2x^3 before the noise.
    tone_curve: bool = True
    #: Exponent of the gamma curve.
    gamma: float = 2.2
    #: Round the degraded image to 8 bit.
    eight_bit: bool = True


@dataclass
class Rain:
    """Rain drawn over clean images: bright streaks in one direction for each layer."""

    #: Layers of streaks, each with draws of its own from all ranges below.
    layers: int = 2
    #: Streaks that start at a pixel, as a share of the pixels, log-uniform.
    density: list[float] = _between(0.0005, 0.004)
    #: Length in pixels, log-uniform.
    length: list[float] = _between(8, 30)
    #: Direction in degrees from straight down, uniform; positive falls towards the right.
    angle: list[float] = _between(-30, 30)
    #: Width in pixels at half of the streak's opacity, log-uniform.
    width: list[float] = _between(1.0, 2.5)
    #: Opacity of the strongest streaks in [0, 1], uniform; each streak has between half and all of it.
    opacity: list[float] = _between(0.2, 0.8)
    #: Light of a streak in [0, 1], uniform.
    brightness: list[float] = _between(0.8, 1.0)


@dataclass
class Compression:
    """JPEG of gray images, or of RGB with 4:2:0 chroma (Pillow, on the CPU)."""

    #: Quality on Pillow's scale, 1-95, drawn uniformly from the whole numbers of the range.
    quality: list[float] = _between(10, 40)


@dataclass
class Blur:
    """Blur by a Gaussian or along a line, and white noise; clipped to [0, 1]."""

    #: Share of the images that are blurred along a line, as by a moving camera; the others are by a Gaussian.
    motion: float = 0.5
    #: Deviation of the Gaussian in pixels, uniform.
    sigma: list[float] = _between(0.5, 3)
    #: Length of the line in pixels, uniform.
    length: list[float] = _between(3, 15)
    #: Direction of the line in degrees, uniform: 0 is to the right, 90 upwards.
    angle: list[float] = _between(0, 180)
    #: Deviation of the noise on the 0-255 scale, uniform.
    noise: list[float] = _between(2, 10)


@dataclass
class Downscale:
    """Super-resolution: a bicubic filter reduces the image, which is rounded to 8 bits and enlarged again (bicubic)."""

    #: By what the sides are divided: 2, 3 or 4.
    factor: int = one_of(2, 3, 4)


@dataclass
class Degradation:
    """What is done to clean images; only the settings of its kind matter.

    >>> import irnas_ray as ir
    >>> ir.Degradation(kind="gaussian", sigmas=[25]).sigmas
    [25]
    """

    #: gaussian (white noise), camera, unprocessing, rain, jpeg, blur, downscale (super-resolution), or paired (the data
    #: hold degraded images).
    kind: str = one_of("gaussian", *MADE, "paired")
    #: Levels of white noise on the 0-255 scale, drawn for each patch during the search. Paper: 30, 50, 70.
    sigmas: list[float] = field(default_factory=lambda: [30, 50, 70])
    #: The two sigmas are the ends of a range from which each patch draws uniformly.
    ranged: bool = False
    camera: Camera = field(default_factory=Camera)
    unprocessing: Unprocessing = field(default_factory=Unprocessing)
    rain: Rain = field(default_factory=Rain)
    jpeg: Compression = field(default_factory=Compression)
    blur: Blur = field(default_factory=Blur)
    downscale: Downscale = field(default_factory=Downscale)


def variant(settings: Degradation) -> str:
    """Empty where a kind's settings are the defaults, else eight hex digits that stand for what differs from them."""
    given, usual = (_own(chosen) for chosen in (settings, Degradation(kind=settings.kind)))
    changed = {name: value for name, value in given.items() if value != usual[name]}
    if not changed:
        return ""
    return hashlib.sha256(json.dumps([settings.kind, changed], sort_keys=True).encode()).hexdigest()[:8]


def own_settings(settings: Degradation) -> dict[str, Any]:
    """The settings that matter to the kind, as plain values."""
    if settings.kind == "gaussian":
        return {"sigmas": settings.sigmas, "ranged": settings.ranged}
    return {} if settings.kind == "paired" else dataclasses.asdict(getattr(settings, settings.kind))


def degradation_from_dict(plain: Any) -> Degradation:
    """The settings that ``dataclasses.asdict`` gave; ValueError naming what is unknown or of another type.

    What is missing has its default, so that settings of an earlier release can be read.
    """
    return _from_dict(Degradation(), plain, "degradation")


def _own(settings: Degradation) -> dict[str, Any]:
    # Numbers as floats, so that 30 and 30.0 are one.
    return {name: _floats(value) for name, value in own_settings(settings).items()}


def _floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _from_dict(usual: Any, plain: Any, where: str) -> Any:
    known = [entry.name for entry in dataclasses.fields(usual)]
    if not isinstance(plain, dict) or not set(plain) <= set(known):
        raise ValueError(f"{where}: {plain!r} holds other settings than {', '.join(known)}")
    values = {}
    for name, value in plain.items():
        default = getattr(usual, name)
        if dataclasses.is_dataclass(default):
            value = _from_dict(default, value, f"{where}.{name}")
        elif None not in (value, default) and type(_floats(value)) is not type(_floats(default)):
            raise ValueError(f"{where}.{name}: {value!r} is a {type(value).__name__}")
        values[name] = value
    return dataclasses.replace(usual, **values)
