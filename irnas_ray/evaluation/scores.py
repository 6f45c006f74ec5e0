"""Scores methods under a named protocol, image by image."""

import logging
import math
import re
import time
import typing
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt
from torch import Tensor

from irnas_ray.evaluation.metrics import Border, known_border
from irnas_ray.evaluation.protocols import Protocol, get_protocol
from irnas_ray.images.attributes import Attributes, write_png
from irnas_ray.images.depth import Depth
from irnas_ray.system.files import write_csv
from irnas_ray.system.names import fitting

logger = logging.getLogger(__name__)

#: Makes a restored image (c h w) of a degraded one; both float with data range 1.
Method = Callable[[Float[Tensor, "c h w"]], Float[Tensor, "c h w"]]


@typing.runtime_checkable
class EvaluationImage(typing.Protocol):
    """What evaluation needs to know of an image; `degraded` is None where the protocol makes the noise itself."""

    @property
    def image_id(self) -> str: ...
    @property
    def clean(self) -> np.ndarray: ...
    @property
    def degraded(self) -> np.ndarray | None: ...


@dataclass(frozen=True)
class Score:
    """What a method reached on one image: PSNR in dB, SSIM, and the seconds it took (NaN: not known)."""

    image_id: str
    psnr: float
    ssim: float
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """A method's scores under one protocol and noise level, image by image."""

    method: str
    protocol: str
    #: Noise level on the 0-255 scale; None where the data are pairs.
    sigma: float | None
    scores: list[Score] = field(default_factory=list)
    #: Which windows SSIM counts: cropped or zero_padded.
    ssim_border: Border = "cropped"

    @property
    def psnr(self) -> float:
        """Mean of the images' PSNR in dB."""
        return self._mean("psnr")

    @property
    def ssim(self) -> float:
        """Mean of the images' SSIM."""
        return self._mean("ssim")

    @property
    def seconds(self) -> float:
        """Mean seconds for an image."""
        return self._mean("seconds")

    def _mean(self, name: str) -> float:
        return math.fsum(getattr(score, name) for score in self.scores) / len(self.scores)

    def to_dict(self) -> dict[str, Any]:
        """Returns means and rows as plain values for JSON; an infinite or undefined score becomes None."""
        means = {"psnr": self.psnr, "ssim": self.ssim, "seconds": self.seconds}
        identity = {"method": self.method, "protocol": self.protocol, "sigma": self.sigma, "images": len(self.scores)}
        identity["ssim_border"] = self.ssim_border
        return identity | _finite(means) | {"scores": [_finite(asdict(score)) for score in self.scores]}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Evaluation":
        """The evaluation that ``to_dict`` gave; a PSNR that was None is infinite, other scores are NaN.

        Raises:
            ValueError: if a field is missing or of another kind.
        """

        def number(value: Any, missing: float) -> float:
            return missing if value is None else float(value)

        try:
            scores = [
                Score(
                    str(row["image_id"]),
                    number(row["psnr"], math.inf),
                    number(row["ssim"], math.nan),
                    number(row["seconds"], math.nan),
                )
                for row in plain["scores"]
            ]
            sigma = None if plain["sigma"] is None else float(plain["sigma"])
            # earlier versions knew no other
            border = known_border(plain.get("ssim_border", "cropped"))
            return cls(str(plain["method"]), str(plain["protocol"]), sigma, scores, border)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"holds no evaluation of irnas_ray ({type(error).__name__}: {error})") from None

    def write_csv(self, path: str | Path) -> None:
        """Writes one row for each image: method, protocol, sigma, image_id, psnr, ssim, seconds, ssim_border."""
        identity = {"method": self.method, "protocol": self.protocol, "sigma": self.sigma}
        rows = [identity | asdict(score) | {"ssim_border": self.ssim_border} for score in self.scores]
        write_csv(path, [*identity, *Score.__dataclass_fields__, "ssim_border"], rows)


def evaluate(
    method: Method,
    images: Iterable[EvaluationImage],
    protocol: Protocol | str,
    sigma: float | None = None,
    name: str = "network",
    pictures: str | Path | None = None,
    keep: Callable[[str, Tensor], None] | None = None,
) -> Evaluation:
    """Restores every image under a protocol and scores it; the same images give the same degraded input every time.

    Args:
        method: Maps a degraded image to a restored one of the same shape, e.g. ``restorer(network, tile=64)``.
        images: Records with ``image_id``, ``clean`` and ``degraded`` (8 or 16 bits, c h w).
        protocol: A protocol or its id.
        sigma: Noise level on the 0-255 scale; needed by protocols with white noise, which alone look at it.
        name: What the method is called in tables.
        pictures: Folder for the restored images as PNG, each of its clean image's depth; None: not saved.
        keep: Called with each image's id and restored image (c h w), in the images' order.

    Raises:
        ValueError: if there are no images, or an image, sigma or the protocol's id does not fit.

    Example:
        >>> from skimage import data
        >>> import irnas_ray as ir
        >>> images = [ir.datasets.ImageRecord("camera", data.camera()[None, :64, :64], None)]
        >>> scores = ir.evaluate(lambda degraded: degraded, images, "photographs-gray", sigma=25, name="degraded")
        >>> round(scores.psnr, 1)
        20.3
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    level = protocol.level(sigma)

    def work(image: EvaluationImage) -> tuple[Score, Tensor]:
        score, restored = restore_and_score(method, protocol, level, image)
        if pictures is not None:
            save_pictures(pictures, {image.image_id: restored}, Depth.of(image.clean))
        return score, restored

    return collect(map(work, images), protocol, level, name, keep)


def restore_and_score(
    method: Method, protocol: Protocol, sigma: float | None, image: EvaluationImage
) -> tuple[Score, Float[Tensor, "c h w"]]:
    """The score of one restored image and the image itself (c h w), on the CPU; raises as ``evaluate``."""
    clean, degraded = protocol.degrade(image.clean, image.image_id, sigma, image.degraded)
    start = time.perf_counter()
    restored = method(degraded).cpu()
    seconds = time.perf_counter() - start
    return Score(image.image_id, *protocol.score(restored, clean), seconds), restored


def collect(
    results: Iterable[tuple[Score, Tensor]],
    protocol: Protocol,
    sigma: float | None,
    name: str,
    keep: Callable[[str, Tensor], None] | None = None,
) -> Evaluation:
    """Gathers the scores of images as they come; arguments and errors as ``evaluate``."""
    scores = []
    for score, restored in results:
        scores.append(score)
        logger.info("%s: %s %.2f dB, SSIM %.4f", name, score.image_id, score.psnr, score.ssim)
        if keep is not None:
            keep(score.image_id, restored)
    if not scores:
        raise ValueError(f"no images to evaluate {name} on under protocol {protocol.id}")
    return Evaluation(name, protocol.id, sigma, scores, protocol.ssim_border)


def file_name(method: str) -> str:
    """What a method's files are called: its name without what file systems may not like."""
    return fitting(re.sub(r"[^A-Za-z0-9._+-]+", "_", method).strip("_.") or "method", len(".csv"))


def save_pictures(folder: str | Path, pictures: dict[str, Float[Tensor, "_ _ _"]], bits: int = 8) -> list[Path]:
    """Writes images (c h w) as PNG files, clipped to [0, 1] and rounded, never wrapped; returns their paths.

    Args:
        folder: Made if need be. An image id with slashes goes to subfolders.
        pictures: Image id -> image.
        bits: 8 or 16 a channel.

    Raises:
        ValueError: if an id leads out of the folder or an image has NaN pixels or neither 1 nor 3 channels.
    """
    paths = []
    for image_id, picture in pictures.items():
        parent, _, own = image_id.rpartition("/")
        path = Path(folder, parent, f"{fitting(own, len('.png'))}.png")
        if not path.resolve().is_relative_to(Path(folder).resolve()):
            raise ValueError(f"image id {image_id!r} leads out of the folder {folder}")
        pixels = to_pixels(image_id, picture, Depth(bits))
        write_png(path, [pixels], len(pixels), Attributes())
        paths.append(path)
    return paths


def to_pixels(image_id: str, picture: Float[Tensor, "c h w"], depth: Depth = Depth.EIGHT) -> UInt[np.ndarray, "h w *c"]:
    """An image as pixels (h w) or (h w 3), clipped to [0, 1] and rounded; ValueError as ``save_pictures``."""
    if len(picture) not in (1, 3) or torch.isnan(picture).any():
        raise ValueError(f"image {image_id} cannot be saved: it needs 1 or 3 channels and no NaN pixels")
    pixels = depth.quantised(picture.detach().cpu().float().numpy())
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Replaces what strict JSON cannot hold (the PSNR of identical images is infinite) by None."""
    return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in values.items()}
