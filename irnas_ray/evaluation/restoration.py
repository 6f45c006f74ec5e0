"""The work of `irnas-ray restore`: a batch of files, each restored with what it holds beside its pixels, or named."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt
from torch import nn

from irnas_ray.degradations.colors import LUMA
from irnas_ray.degradations.downscale import REACH, BicubicDownscaling, enlarged
from irnas_ray.images import pillow
from irnas_ray.images.attributes import Attributes, read_attributes, read_text, write_png
from irnas_ray.images.depth import Depth, unit_range
from irnas_ray.images.files import STRIP, named, read_header
from irnas_ray.images.samples import Samples
from irnas_ray.networks.inference import restored_bands
from irnas_ray.settings.commands import RestoreConfig
from irnas_ray.settings.degradations import degradation_from_dict

logger = logging.getLogger(__name__)

#: Name of the text in a restored PNG that says of what, by what and how it was restored.
MARK = "irnas_ray restored"
#: Notices of reading that do not hold for what is restored.
_KEPT = ("alpha channel dropped", "scaled to 16")
#: BT.601 luma, and what blue and red lack to it.
_LUMA = np.array(LUMA, np.float32)


@dataclass(frozen=True)
class Restoration:
    """How files are restored: with a network, under settings, enlarged ``factor`` times before."""

    network: nn.Module
    config: RestoreConfig
    channels: int
    factor: int = 1

    @cached_property
    def _digest(self) -> str:
        settings = self.config.color, self.config.tile, self.config.overlap, self.config.self_ensemble
        content = hashlib.sha256(Path(self.config.network).read_bytes()).hexdigest()
        enlarging = [self.factor] if self.factor > 1 else []  # others are marked as ever
        return json.dumps([content, self.config.network_class, *settings, *enlarging])

    def mark(self, path: Path) -> str:
        """What tells the result of a file by this network and these settings from all others."""
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(f"{self._digest} {content}".encode()).hexdigest()[:32]

    def is_done(self, path: Path, target: Path) -> bool:
        """Whether a file lies there that an earlier call made of the same file in the same way."""
        found = read_text(target, MARK) if target.exists() else None
        return found is not None and found == self.mark(path)

    def restore_file(self, path: Path, target: Path) -> None:
        """Restore a file into a PNG of its depth, with its alpha, profile, resolution and EXIF.

        ValueError naming the file if it cannot be read, or its colours do not fit the network; OSError naming the
        result if that cannot be written.
        """
        self._check(path)
        with named(path):
            samples = pillow.read(path, alpha=True)
            attributes = read_attributes(path, 1 if self._way(samples) == "gray" else 3)
        texts = {"Software": "irnas_ray", MARK: self.mark(path)}
        attributes = Attributes(attributes.profile, attributes.resolution, attributes.exif, texts)
        write_png(target, self._bands(samples), self.factor * len(samples.values), attributes)

    def _check(self, path: Path) -> None:
        header = read_header(path)
        megapixels = header.height * header.width * self.factor**2 / 1e6
        if self.factor > 1 and megapixels > self.config.max_megapixels:
            raise ValueError(
                f"{path} would have {megapixels:.0f} megapixels when it is enlarged {self.factor} times, more than "
                f"max_megapixels={self.config.max_megapixels:g}; allow more, or cut the image"
            )
        for notice in header.notices:
            if not notice.endswith(_KEPT):
                logger.warning("%s: %s", path, notice)
        file = self.config.network
        if self.channels == 3 and header.gray:
            raise ValueError(f"{path} is a gray image, {file} restores colour images; use a network for gray")
        if self.channels == 1 and self.config.color is None and not header.gray:
            raise ValueError(
                f"{path} is a colour image, {file} restores gray images; add color=gray to convert it, color=luma or "
                "color=each to keep its colours, or use a network for colour"
            )

    def _way(self, samples: Samples) -> str:
        """Whether a picture is restored as gray, in all colours at once, or as the settings say."""
        if samples.gray:
            return "gray"
        return "rgb" if self.channels == 3 else str(self.config.color)

    def _bands(self, samples: Samples) -> Iterator[UInt[np.ndarray, "_ w *c"]]:
        """The result in bands from top to bottom, of the file's own depth, with its alpha.

        In bands because neither floats nor the result of a large picture have to be there as a whole.
        """
        top, depth, alpha = 0, samples.depth, samples.alpha
        for restored in self._restored(samples):
            band, bottom = _quantised(restored, depth), top + len(restored)
            if alpha is not None:
                opacity = self._enlarged(partial(_cut, alpha), samples, top, bottom)
                opacity = _quantised(opacity, depth) if opacity.dtype.kind == "f" else opacity.astype(depth.dtype)
                band = np.dstack([band, opacity])
            yield band
            top = bottom

    def _restored(self, samples: Samples) -> Iterator[Float[np.ndarray, "_ w *c"]]:
        way, config, height = self._way(samples), self.config, self.factor * len(samples.values)

        def run(pixels: Callable[[int, int], np.ndarray]) -> Iterator[Float[np.ndarray, "_ w *c"]]:
            return restored_bands(self.network, pixels, height, config.tile, config.overlap, config.self_ensemble)

        def pixels(start: int, stop: int) -> np.ndarray:
            return self._enlarged(partial(_pixels, samples, way), samples, start, stop)

        def channel(number: int, start: int, stop: int) -> np.ndarray:
            return pixels(start, stop)[:, :, number]

        if way == "each":
            passes = [run(partial(channel, number)) for number in range(3)]
            yield from (np.stack(bands, axis=2) for bands in zip(*passes, strict=True))
        elif way == "luma":
            top = 0
            for gray in run(lambda start, stop: _floats(pixels(start, stop)) @ _LUMA):
                colors = _floats(pixels(top, top + len(gray)))
                yield colors + (gray - colors @ _LUMA)[:, :, None]
                top += len(gray)
        else:
            yield from run(pixels)

    def _enlarged(
        self, pixels: Callable[[int, int], np.ndarray], samples: Samples, start: int, stop: int
    ) -> np.ndarray:
        """Rows of a picture of any kind as they are, or enlarged as float32 in the range of their kind's [0, 1]."""
        if self.factor == 1:
            return pixels(start, stop)
        # what the interpolation looks at on both sides
        first, last = max(0, start // self.factor - REACH), min(len(samples.values), -(-stop // self.factor) + REACH)
        image = pixels(first, last)
        planes = torch.from_numpy(np.atleast_3d(_floats(image))).permute(2, 0, 1)[None]
        rows = np.s_[start - first * self.factor : stop - first * self.factor]
        larger = enlarged(planes, self.factor)[0, :, rows].permute(1, 2, 0).numpy()
        return np.ascontiguousarray(larger).reshape(*larger.shape[:2], *image.shape[2:])


def _pixels(samples: Samples, way: str, start: int, stop: int) -> np.ndarray:
    """Rows of a picture as the network, or each pass of it, takes them, but for their size."""
    rows = samples.rows(start, stop)
    if way == "gray" and not samples.gray:
        return rows.pixels(1)
    return rows.values if rows.is_plain else rows.floats()


def _cut(pixels: np.ndarray, start: int, stop: int) -> np.ndarray:
    return pixels[start:stop]


def _floats(pixels: np.ndarray) -> Float[np.ndarray, "*shape"]:
    return unit_range(pixels) if pixels.dtype.kind == "u" else pixels


def enlargement(config: RestoreConfig, notes: Mapping[str, Any]) -> int:
    """How many times images are enlarged first; printed where the network's notes decide it, not the settings.

    ValueError naming the network's file if the notes are wrong.
    """
    trained = notes.get("degradation")
    if config.upscale is not None or not isinstance(trained, dict) or trained.get("kind") != "downscale":
        return config.upscale or 1
    try:
        factor = BicubicDownscaling(degradation_from_dict(trained).downscale).factor
    except ValueError as error:
        raise ValueError(f"{config.network}: {error}") from None
    print(
        f"images are enlarged {factor} times first, as for the network's training; upscale=1 leaves it out", flush=True
    )
    return factor


def _quantised(restored: Float[np.ndarray, "h w *c"], depth: Depth) -> UInt[np.ndarray, "h w *c"]:
    """Pixels of the file's own depth, clipped and rounded."""
    pixels = np.empty(restored.shape, depth.dtype)
    for top in range(0, len(restored), STRIP):
        pixels[top : top + STRIP] = depth.quantised(restored[top : top + STRIP].astype(np.float64))
    return pixels
