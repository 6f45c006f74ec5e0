"""Clean images degraded once and for good: a paired data set, as SIM1800 was, that every study reads alike."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt

from irnas_ray.datasets import builder
from irnas_ray.degradations.factory import check_degradation, image_seed, make_degradation
from irnas_ray.images import files, sources
from irnas_ray.images.depth import Depth, unit_range
from irnas_ray.images.files import ImageHeader
from irnas_ray.images.screening import Known
from irnas_ray.images.sources import SourceImage
from irnas_ray.settings.bounds import check_bounds
from irnas_ray.settings.commands import PrepareConfig
from irnas_ray.settings.degradations import MADE, Degradation, own_settings, variant
from irnas_ray.settings.study import Data
from irnas_ray.system.exit_status import WrongSetting, checking_settings
from irnas_ray.system.files import write_json
from irnas_ray.system.worker_pool import Progress

#: How a frozen data set was made, beside its manifest.
RECORD = "degradation.json"


@dataclass(frozen=True)
class FrozenImage(SourceImage):
    """A clean image, or a window of it, with the degraded image that its id and the seed stand for."""

    degradation: Degradation = field(default_factory=Degradation)
    seed: int = 0
    #: Top, left and side in pixels of the window; None: the whole image.
    window: tuple[int, int, int] | None = None

    @property
    def paired(self) -> bool:
        """Always: the degraded image is made."""
        return True

    def size(self, color: str, headers: Sequence[ImageHeader]) -> tuple[int, int]:
        """Height and width of what is kept of the image."""
        height, width = super().size(color, headers)
        return (height, width) if self.window is None else (self.window[2], self.window[2])

    def read(
        self, color: str, depth: Depth | None = None
    ) -> tuple[UInt[np.ndarray, "h w c"], UInt[np.ndarray, "h w c"]]:
        """Clean and degraded pixels of one depth; what leaves its range is clipped."""
        clean, _ = super().read(color, depth)
        if self.window is not None:
            top, left, side = self.window
            clean = clean[top : top + side, left : left + side]
        return clean, self._degrade(clean)

    def _degrade(self, clean: UInt[np.ndarray, "h w c"]) -> UInt[np.ndarray, "h w c"]:
        degradation = make_degradation(self.degradation)
        assert degradation is not None
        # Slashes would stand for folders, which do not count in an image's seed.
        generator = torch.Generator().manual_seed(image_seed(f"{self.seed} {self.image_id}".replace("/", " ")))
        pixels = torch.from_numpy(np.ascontiguousarray(clean.transpose(2, 0, 1)))
        with _one_thread():
            degraded = degradation(unit_range(pixels)[None], generator)[0]
        return Depth.of(clean).quantised(degraded.permute(1, 2, 0).contiguous().numpy())


@dataclass(frozen=True)
class Freezing:
    """What is frozen of a source's clean images, and how they are degraded."""

    #: patches or images.
    what: str
    degradation: Degradation
    #: Patches of training and of test images; whole images are all kept.
    train: int
    test: int
    seed: int

    @property
    def form(self) -> str:
        """The data set's form, such as frozen-camera; settings that differ from the defaults are part of it."""
        return "-".join(filter(None, ["frozen", self.degradation.kind, variant(self.degradation)]))

    def select(self, found: list[SourceImage], patch: int) -> list[SourceImage]:
        """The images of the data set; ValueError if they are pairs already, or hold too few patches."""
        if any(image.paired for image in found):
            raise ValueError("freeze: data.source holds degraded images already; give clean ones")
        if self.what == "images":
            return [self._freeze(image, image.image_id, None) for image in found]
        generator = np.random.default_rng(self.seed)
        chosen: list[SourceImage] = []
        for split, count in (("train", self.train), ("test", self.test)):
            windows = _windows([image for image in found if image.split == split], patch, generator)
            if len(windows) < count:
                raise ValueError(
                    f"frozen.{split}: {count} patches are asked for, the {split} images hold {len(windows)} of "
                    f"{patch}x{patch} pixels that do not overlap; ask for fewer, or set a smaller data.patch"
                )
            for image, top, left in windows[:count]:
                chosen.append(self._freeze(image, f"{image.image_id}-{top}-{left}", (top, left, patch)))
        return chosen

    def digest(self, data: Data, frozen: list[SourceImage]) -> str:
        """Twelve hex digits that change with the source, with what is kept of it, and with the degradation."""
        made = [sources.digest(data, frozen), self.form, self.seed, self.what]
        return hashlib.sha256(json.dumps(made).encode()).hexdigest()[:12]

    def _freeze(self, image: SourceImage, image_id: str, window: tuple[int, int, int] | None) -> FrozenImage:
        own = dataclasses.asdict(image) | {"image_id": image_id}
        return FrozenImage(**own, degradation=self.degradation, seed=self.seed, window=window)


def prepare_frozen(config: PrepareConfig, progress: Progress | None = None, others: Sequence[Known] = ()) -> Path:
    """Prepare the data that the settings describe, degraded if ``freeze`` says so; the folder.

    Images are compared with `others` as ``prepare`` does.

    Raises:
        ValueError: as ``prepare``, or naming the setting that is impossible.
    """
    output = Path(config.data.output) if config.data.output else None
    if config.freeze is None:
        if config.degradation.kind in MADE:
            raise WrongSetting(
                f"degradation.kind={config.degradation.kind} changes nothing without freeze=patches or freeze=images; "
                "add one, or give the degradation to the search"
            )
        return builder.prepare(config.data, output, progress, config.workers, config.degradation, others)
    with checking_settings():
        freezing = _freezing(config)
    folder = builder.prepare(config.data, output, progress, config.workers, None, others, freezing)
    record = {"freeze": config.freeze, **dataclasses.asdict(config.frozen), "kind": config.degradation.kind}
    write_json(folder / RECORD, record | {"settings": own_settings(config.degradation)})
    return folder


def _freezing(config: PrepareConfig) -> Freezing:
    check_bounds(config)
    check_degradation(config.degradation)
    if config.degradation.kind == "paired":
        raise ValueError("freeze: degradation.kind=paired makes no degraded images; choose what does")
    if config.degradation.kind == "downscale":
        raise ValueError("freeze: nothing is random in degradation.kind=downscale; give it to the search instead")
    assert config.freeze is not None
    return Freezing(config.freeze, config.degradation, config.frozen.train, config.frozen.test, config.frozen.seed)


def _windows(
    found: list[SourceImage], patch: int, generator: np.random.Generator
) -> list[tuple[SourceImage, int, int]]:
    """Windows (image, top, left) that do not overlap: one of every image, then a second, and so on, in random order."""
    ranked = []
    for image in found:
        header = files.read_header(image.clean)
        rows, columns = header.height // patch, header.width // patch
        if not rows * columns:
            continue
        # The tiling is shifted at random, so that the right and lower borders are seen too.
        down = generator.integers(header.height - rows * patch + 1)
        right = generator.integers(header.width - columns * patch + 1)
        for turn, cell in enumerate(generator.permutation(rows * columns)):
            top, left = int(down + cell // columns * patch), int(right + cell % columns * patch)
            ranked.append((turn, generator.random(), image, top, left))
    return [(image, top, left) for *_, image, top, left in sorted(ranked, key=lambda row: row[:2])]


@contextmanager
def _one_thread() -> Iterator[None]:
    # Sums differ in their last bits with the number of threads, and processes share the cores already.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
