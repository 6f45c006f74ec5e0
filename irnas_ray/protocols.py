"""The named evaluation protocols: which image is degraded, how, and on what the result is scored.

Numbers of two protocols never share a column: half-size images alone cost half a decibel.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from irnas_ray.degradation import degrade_image
from irnas_ray.metrics import luma, psnr, ssim

#: An 8-bit image (c, h, w). The axes have no names, because halves of a pair that differ get a message of their own.
Uint8Image = UInt8[np.ndarray, "_ _ _"] | UInt8[Tensor, "_ _ _"]


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
    #: gaussian (white noise fixed by the image's name) or paired (the data hold the degraded image).
    degradation: Literal["gaussian", "paired"]
    #: Size of the clean image as a share of the original's (bicubic).
    scale: float = 1.0
    #: Whether the degraded image is clipped and rounded to 8 bit.
    quantised: bool = False

    @property
    def channels(self) -> int:
        """Channels of the images a method gets: 1 or 3."""
        return 1 if self.color == "gray" else 3

    def degrade(
        self, clean: Uint8Image, name: str, sigma: float | None = None, degraded: Uint8Image | None = None
    ) -> tuple[Float[Tensor, "c2 h2 w2"], Float[Tensor, "c2 h2 w2"]]:
        """Returns the clean and the degraded image as this protocol wants them, float32 on the CPU.

        Args:
            clean: 8-bit image; an RGB image becomes gray where the protocol is gray.
            name: The image's name, which fixes the noise.
            sigma: Noise level on the 0-255 scale; ignored by paired protocols.
            degraded: The pair's other half; ignored by protocols that make their own noise.

        Raises:
            ValueError: if sigma or the degraded half is missing, the halves differ in size, or a gray image is given
                to an RGB protocol.
        """
        target = self._prepare(clean)
        if self.degradation == "paired":
            if degraded is None:
                raise ValueError(f"protocol {self.id} needs pairs, but image {name} has no degraded half")
            source = self._prepare(degraded)
            if source.shape != target.shape:
                raise ValueError(f"image {name}: clean {tuple(target.shape)}, degraded {tuple(source.shape)}")
            return target, source
        if sigma is None:
            raise ValueError(f"protocol {self.id} needs a noise level sigma (0-255 scale)")
        noisy = degrade_image(target, name, sigma)
        return target, torch.round(noisy.clamp(0, 1) * 255) / 255 if self.quantised else noisy

    def score(self, restored: Float[Tensor, "c h w"], clean: Float[Tensor, "c h w"]) -> tuple[float, float]:
        """Returns PSNR in dB and SSIM of one restored image, clipped to [0, 1] first.

        Raises:
            ValueError: if the shapes differ or the image is smaller than 11x11.
        """
        output, target = restored.clamp(0, 1)[None], clean[None].to(restored.device)
        if self.scored_on == "y":
            output, target = luma(output), luma(target)
        return psnr(output, target).item(), ssim(output, target).item()

    def _prepare(self, image: Uint8Image) -> Float[Tensor, "c2 h2 w2"]:
        """Brings an 8-bit image to the protocol's colour and size, and to [0, 1]."""
        pixels = np.asarray(image.cpu() if isinstance(image, Tensor) else image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or len(pixels) not in (1, 3):
            raise ValueError(f"expected a uint8 image (1 or 3, h, w), got {pixels.dtype} {pixels.shape}")
        if len(pixels) < self.channels:
            raise ValueError(f"protocol {self.id} needs RGB images, got a gray one")
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        if self.color == "gray":
            picture = picture.convert("L")
        if self.scale != 1:
            # Reduced while still 8 bit, as the published half-size test images are.
            size = max(1, int(picture.width * self.scale)), max(1, int(picture.height * self.scale))
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        array = np.array(picture, dtype=np.float32) / 255
        return torch.from_numpy(array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1)))


_BSD = "BSD500's 200 test photographs in gray"

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
    )
}


def get_protocol(id: str) -> Protocol:
    """Returns the protocol of that name; ValueError listing the names if there is none."""
    if id not in PROTOCOLS:
        raise ValueError(f"unknown protocol {id!r}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[id]
