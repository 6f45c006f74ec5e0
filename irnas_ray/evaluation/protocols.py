"""The named evaluation protocols: which image is degraded, how, and on what the result is scored.

Numbers of two protocols never share a column: half-size images alone cost half a decibel.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt
from PIL import Image
from torch import Tensor

from irnas_ray.degradations.colors import as_colour
from irnas_ray.degradations.downscale import FACTORS
from irnas_ray.degradations.factory import degrade_image, make_degradation
from irnas_ray.evaluation.metrics import Border, luma, psnr, ssim
from irnas_ray.images import samples
from irnas_ray.images.depth import Depth, unit_range
from irnas_ray.settings.degradations import MADE, Degradation, Downscale, variant

#: A uint8 or uint16 image (c, h, w). The axes have no names, because halves of a pair that differ get a message of
#: their own.
StoredImage = UInt[np.ndarray, "_ _ _"] | UInt[Tensor, "_ _ _"]


@dataclass(frozen=True)
class Protocol:
    """One way of making a degraded image from a clean one and of scoring what a method makes of it."""

    #: Name under which results are filed.
    id: str
    #: One sentence for tables and documentation.
    description: str
    #: What the method sees: gray (ITU-R 601 luma) or rgb.
    color: Literal["gray", "rgb"]
    #: What is compared: gray, rgb, or y (luma of BT.601 in studio swing).
    scored_on: Literal["gray", "rgb", "y"]
    #: gaussian, one of ``MADE`` (fixed by the image's name), or paired (the data hold the degraded image).
    degradation: str
    #: Size of the clean image as a share of the original's (bicubic).
    scale: float = 1.0
    #: Whether the degraded image is clipped and rounded to 8 bit.
    quantised: bool = False
    #: The settings of a degradation that is neither gaussian nor paired; None: the defaults. Part of the id.
    settings: Degradation | None = field(default=None, compare=False)
    #: Which windows SSIM counts: cropped or zero_padded, as ``ssim``.
    ssim_border: Border = "cropped"

    @property
    def factor(self) -> int:
        """By what a protocol of super-resolution reduces images; 1 for all others.

        Sides are cut to multiples of it at the bottom and on the right, and so many pixels at each border are not
        scored.
        """
        return self.settings.downscale.factor if self.settings and self.degradation == "downscale" else 1

    @property
    def channels(self) -> int:
        """Channels of the images a method gets: 1 or 3."""
        return 1 if self.color == "gray" else 3

    def degrade(
        self, clean: StoredImage, name: str, sigma: float | None = None, degraded: StoredImage | None = None
    ) -> tuple[Float[Tensor, "c2 h2 w2"], Float[Tensor, "c2 h2 w2"]]:
        """Returns the clean and the degraded image as this protocol wants them, float32 on the CPU.

        Args:
            clean: Image of 8 or 16 bits; an RGB image becomes gray where the protocol is gray.
            name: The image's name, which fixes the noise.
            sigma: Noise level on the 0-255 scale; only protocols with white noise look at it.
            degraded: The pair's other half; ignored by protocols that make their own noise.

        Raises:
            ValueError: if sigma or the degraded half is missing, the halves differ in size, a gray image is given to an
                RGB protocol, or an image is smaller than its factor.
        """
        target = self._prepare(clean)
        if not target.numel():
            raise ValueError(
                f"image {name} has a side of less than {self.factor} pixels; protocol {self.id} needs more"
            )
        if self.degradation == "paired":
            if degraded is None:
                raise ValueError(f"protocol {self.id} needs pairs, but image {name} has no degraded half")
            source = self._prepare(degraded)
            if source.shape != target.shape:
                raise ValueError(f"image {name}: clean {tuple(target.shape)}, degraded {tuple(source.shape)}")
            return target, source
        level = self.level(sigma)
        if level is None:
            degradation = make_degradation(self.settings or Degradation(kind=self.degradation))
            assert degradation is not None, f"protocol {self.id} makes no images"
            return target, degrade_image(target, name, degradation)
        noisy = degrade_image(target, name, level)
        return target, torch.round(noisy.clamp(0, 1) * 255) / 255 if self.quantised else noisy

    def level(self, sigma: float | None) -> float | None:
        """The noise level that scores depend on: sigma under white noise, else None; ValueError if it is missing."""
        if self.degradation != "gaussian":
            return None
        if sigma is None:
            raise ValueError(f"protocol {self.id} needs a noise level sigma (0-255 scale)")
        return sigma

    def score(self, restored: Float[Tensor, "c h w"], clean: Float[Tensor, "c h w"]) -> tuple[float, float]:
        """Returns PSNR in dB and SSIM of one restored image, clipped to [0, 1] first.

        Raises:
            ValueError: if the shapes differ or what is scored of the image is smaller than 11x11.
        """
        output, target = restored.clamp(0, 1)[None], clean[None].to(restored.device)
        if self.scored_on == "y":
            output, target = luma(as_colour(output)), luma(as_colour(target))
        inside = slice(self.factor, -self.factor) if self.factor > 1 else slice(None)
        output, target = output[..., inside, inside], target[..., inside, inside]
        return psnr(output, target).item(), ssim(output, target, self.ssim_border).item()

    def _prepare(self, image: StoredImage) -> Float[Tensor, "c2 h2 w2"]:
        """Brings an image to the protocol's colour and size, and to [0, 1]."""
        pixels = np.asarray(image.cpu() if isinstance(image, Tensor) else image)
        if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or len(pixels) not in (1, 3):
            raise ValueError(f"expected a uint8 or uint16 image (1 or 3, h, w), got {pixels.dtype} {pixels.shape}")
        if len(pixels) < self.channels:
            raise ValueError(f"protocol {self.id} needs RGB images, got a gray one")
        if self.color == "gray" and len(pixels) == 3:
            pixels = samples.luma(np.ascontiguousarray(pixels.transpose(1, 2, 0)))[None]
        if self.scale != 1:
            pixels = np.stack([_reduced(plane, self.scale) for plane in pixels])
        height, width = (side - side % self.factor for side in pixels.shape[1:])
        return torch.from_numpy(np.ascontiguousarray(unit_range(pixels[:, :height, :width])))


def _reduced(plane: UInt[np.ndarray, "h w"], scale: float) -> UInt[np.ndarray, "h2 w2"]:
    # Rounded to the image's depth again, as the published half-size test images are.
    size = max(1, int(plane.shape[1] * scale)), max(1, int(plane.shape[0] * scale))
    if plane.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BICUBIC))
    picture = Image.fromarray(unit_range(plane))
    return Depth.of(plane).quantised(np.asarray(picture.resize(size, Image.Resampling.BICUBIC)))


_BSD = "BSD500's 200 test photographs in gray"
_WHOSE = {"photographs": "Held-out embedded photographs", "images": "Held-out images of your own"}
_RANDOM = tuple(kind for kind in MADE if kind != "downscale")
_COLORS: dict[Literal["gray", "rgb"], str] = {"gray": "gray", "rgb": "RGB"}


def _made(bases: tuple[str, ...], kinds: tuple[str, ...]) -> list[Protocol]:
    return [
        Protocol(f"{base}-{color}-{kind}", f"{_WHOSE[base]}, {shown}, {kind} with default settings", color, color, kind)
        for base in bases
        for color, shown in _COLORS.items()
        for kind in kinds
    ]


def _enlarging(bases: tuple[str, ...]) -> list[Protocol]:
    return [
        Protocol(
            f"{base}-{color}-x{factor}",
            f"{_WHOSE[base]}, {shown}, reduced by {factor} and enlarged (bicubic), luma without {factor} border pixels",
            color,
            "y",
            "downscale",
            settings=Degradation(kind="downscale", downscale=Downscale(factor)),
        )
        for base in bases
        for color, shown in _COLORS.items()
        for factor in FACTORS
    ]


def _frozen(kinds: tuple[str, ...]) -> list[Protocol]:
    return [
        Protocol(
            f"frozen-{color}-{kind}", f"Pairs frozen by irnas-ray prepare, {shown}, {kind}", color, color, "paired"
        )
        for color, shown in _COLORS.items()
        for kind in kinds
    ]


#: Every protocol by its id.
PROTOCOLS: dict[str, Protocol] = {
    protocol.id: protocol
    for protocol in (
        Protocol("bsd200-gray-full", f"{_BSD}, full size, white noise in float", "gray", "gray", "gaussian"),
        Protocol("bsd200-gray-half", f"{_BSD}, half size, white noise in float", "gray", "gray", "gaussian", 0.5),
        Protocol("bsd200-gray-full-uint8", f"{_BSD}, noise clipped to 8 bit", "gray", "gray", "gaussian", 1.0, True),
        Protocol("rain800-rgb", "Rain800's 100 synthetic test pairs, scored on RGB", "rgb", "rgb", "paired"),
        Protocol("rain800-y", "Rain800's 100 synthetic test pairs, scored on luma", "rgb", "y", "paired"),
        Protocol("photographs-gray", "Held-out embedded photographs, gray, white noise", "gray", "gray", "gaussian"),
        Protocol("photographs-rgb", "Held-out embedded photographs, RGB, white noise", "rgb", "rgb", "gaussian"),
        Protocol("images-gray", "Held-out images of your own, gray, white noise", "gray", "gray", "gaussian"),
        Protocol("images-rgb", "Held-out images of your own, RGB, white noise", "rgb", "rgb", "gaussian"),
        Protocol("pairs-gray", "Held-out pairs of your own, gray", "gray", "gray", "paired"),
        Protocol("pairs-rgb", "Held-out pairs of your own, RGB", "rgb", "rgb", "paired"),
        *_made(("photographs", "images"), _RANDOM),
        *_enlarging(("photographs", "images")),
        *_frozen(("gaussian", *_RANDOM)),
    )
}


def protocol_id(data: str, color: str, degradation: Degradation) -> str:
    """The id for held-out images of a study: settings that differ from a degradation's defaults are part of it.

    Args:
        data: photographs, images, or what a frozen data set was made by, such as frozen-camera.
        color: gray or rgb.
        degradation: What is done to the images.
    """
    if degradation.kind == "paired":
        made, _, how = data.partition("-")
        return f"frozen-{color}-{how}" if made == "frozen" else f"pairs-{color}"
    if degradation.kind == "gaussian":
        return f"{data}-{color}"
    if degradation.kind == "downscale":
        return f"{data}-{color}-x{degradation.downscale.factor}"
    return "-".join(filter(None, [data, color, degradation.kind, variant(degradation)]))


def get_protocol(id: str, degradation: Degradation | None = None) -> Protocol:
    """Returns the protocol of that name.

    Args:
        id: A name in ``PROTOCOLS``, or one that ends in the eight digits of other settings of its degradation.
        degradation: The settings that those digits stand for.

    Raises:
        ValueError: listing the names if there is none like it, or if the settings are not those of the id.

    Example:
        >>> import irnas_ray as ir
        >>> protocol = ir.get_protocol("rain800-y")
        >>> protocol.color, protocol.scored_on
        ('rgb', 'y')
    """
    if id in PROTOCOLS:
        return PROTOCOLS[id]
    base, _, digits = id.rpartition("-")
    if base not in PROTOCOLS or not re.fullmatch("[0-9a-f]{8}", digits):
        raise ValueError(f"unknown protocol {id!r}; known: {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[base]
    if protocol.id.startswith("frozen-"):
        return replace(protocol, id=id)
    if degradation is None or degradation.kind != protocol.degradation or variant(degradation) != digits:
        raise ValueError(
            f"protocol {id} belongs to settings of degradation.{protocol.degradation} that are not the ones given; "
            f"give those, or use {base}, which has the default settings"
        )
    return replace(protocol, id=id, settings=degradation)


def check_form(protocol: Protocol, form: str | None) -> None:
    """ValueError unless images of this form may be scored: a frozen data set only under its own protocols.

    Args:
        protocol: How images are scored.
        form: The form of a prepared data set, such as frozen-camera; None: images that are not prepared.
    """
    made, _, how = (form or "").partition("-")
    own = f"frozen-{protocol.color}-{how}" if made == "frozen" else None
    if own != (protocol.id if protocol.id.startswith("frozen-") else None):
        wanted = f"protocol {own}" if own else "a data set that irnas-ray prepare froze in that way"
        raise ValueError(f"protocol {protocol.id} does not score {form or 'images as they are'}; use {wanted}")
