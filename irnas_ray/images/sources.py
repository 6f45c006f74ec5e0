"""What a data set is made from: finds the images of each form, splits them, and checks them before long work."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt

from irnas_ray.images.depth import Depth
from irnas_ray.images.files import IMAGE_SUFFIXES, ImageHeader, list_images, read_header, read_image
from irnas_ray.images.pairs import ONE_NAME, csv_pairs, folder_pairs, has_pairs, is_csv, subfolders
from irnas_ray.images.photographs import HELD_OUT_PHOTOGRAPHS, photograph_files
from irnas_ray.settings.study import Data
from irnas_ray.system.names import normalised

FORMS = ("photographs", "images", "halves", "pairs")

#: Names of subfolders that are splits, and the split they belong to.
SPLIT_FOLDERS = dict.fromkeys(("train", "training", "val", "valid", "validation"), "train") | dict.fromkeys(
    ("test", "testing", "test_syn"), "test"
)


@dataclass(frozen=True)
class SourceImage:
    """One image of a source: its unique id, its split (train or test) and the files that hold it."""

    image_id: str
    split: str
    clean: Path
    degraded: Path | None = None
    #: The clean file's right half is the degraded image.
    halves: bool = False

    @property
    def paired(self) -> bool:
        """Whether the source gives a degraded image."""
        return self.halves or self.degraded is not None

    def headers(self) -> list[ImageHeader]:
        """Headers of the clean file and, where there is one, of the degraded file; ValueError if one cannot be read."""
        return [read_header(path) for path in (self.clean, self.degraded) if path]

    def size(self, color: str, headers: Sequence[ImageHeader]) -> tuple[int, int]:
        """Height and width of the clean image by its ``headers()``; ValueError if they do not fit together."""
        header, *others = headers
        if color == "rgb" and (header.gray or any(other.gray for other in others)):
            path = self.clean if header.gray else self.degraded
            raise ValueError(f"{path}: file is gray, but color=rgb is asked for; set color=gray or remove the file")
        if self.halves and header.width % 2:
            raise ValueError(f"{self.clean}: width {header.width} is odd, so it has no two halves; is it a pair?")
        for other in others:
            if (other.height, other.width) != (header.height, header.width):
                raise ValueError(
                    f"{self.degraded} is {other.height}x{other.width}, its clean image {self.clean} is "
                    f"{header.height}x{header.width}; the images of a pair must have one size"
                )
        return header.height, header.width // 2 if self.halves else header.width

    def read(
        self, color: str, depth: Depth | None = None
    ) -> tuple[UInt[np.ndarray, "h w c"], UInt[np.ndarray, "h w c"] | None]:
        """Clean and degraded pixels; the second is None where the source has clean images only.

        `depth` None: each file's own.
        """
        clean = read_image(self.clean, color, depth)
        if self.halves:
            middle = clean.shape[1] // 2
            return clean[:, :middle], clean[:, middle:]
        return clean, read_image(self.degraded, color, depth) if self.degraded else None

    def planes(
        self, color: str, depth: Depth | None = None
    ) -> tuple[UInt[np.ndarray, "c h w"], UInt[np.ndarray, "c h w"] | None]:
        """As ``read``, with the channels first, as they are stored."""
        clean, degraded = (
            None if side is None else np.ascontiguousarray(side.transpose(2, 0, 1)) for side in self.read(color, depth)
        )
        assert clean is not None
        return clean, degraded


def form_of(data: Data) -> str:
    """The form of `data`; a source given without one is told by its folders and names (pairs or images)."""
    if data.form not in FORMS:
        raise ValueError(f"data.form is {data.form!r}; it must be one of {', '.join(FORMS)}")
    if data.form != "photographs" or data.source is None:
        return data.form
    root = Path(data.source)
    folders = [root, *_split_folders(root)]
    paired = any(has_pairs(folder, data.clean_names, data.degraded_names) for folder in folders)
    return "pairs" if paired or is_csv(root) else "images"


def find_images(data: Data, alone: list[str] | None = None) -> list[SourceImage]:
    """All images of the source, in natural order, each with a unique id and its split.

    Split folders, or the CSV, decide the split; where they name no test images a seeded share `data.test_fraction` of
    the images, at least one, is held out. `alone` takes what should be a pair and has no partner. ValueError if the
    source is missing or empty, if its files cannot be told apart, or, without `alone`, cannot be paired.
    """
    found = find_all(data, alone)
    root = Path(data.source or "")
    if not any(image.split == "test" for image in found):
        found = _hold_out(root, found, data.test_fraction, data.split_seed)
    if not any(image.split == "train" for image in found):
        raise ValueError(f"{root}: holds test images only; add a folder named train")
    return found


def find_test_images(data: Data) -> list[SourceImage]:
    """The images to score a network on: the test folder's, every one of a source without splits, or the held-out
    photographs. ValueError as ``find_images``.
    """
    found = find_all(data)
    split = bool(_split_folders(Path(data.source or ""))) or any(image.split == "test" for image in found)
    chosen = [image for image in found if not split or image.split == "test"]
    if not chosen:
        raise ValueError(f"{data.source}: holds no test images; name the folder of the images to score")
    return chosen


def find_all(data: Data, alone: list[str] | None = None) -> list[SourceImage]:
    """All images of the source as ``find_images``, but with none held out: without splits all are training images."""
    form = form_of(data)
    if form == "photographs":
        return _photographs(data.color)
    if data.source is None:
        raise ValueError(f"data.form={form} needs data.source, the folder that holds the images")
    root = Path(data.source)
    folders = _split_folders(root)
    if is_csv(root):
        if form != "pairs":
            raise ValueError(f"{root}: is a CSV, which lists pairs; set data.form=pairs")
        rows = csv_pairs(root, SPLIT_FOLDERS)
        found = [SourceImage(pair.name, pair.split or "train", pair.clean, pair.degraded) for pair in rows]
    elif folders:
        loose = [path.name for path in root.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
        if loose:
            raise ValueError(f"{root}: holds both split folders and images ({loose[0]}, ...); move the images into one")
        found = [image for folder in folders for image in _folder(folder, data, form, f"{folder.name}/", alone)]
    else:
        found = _folder(root, data, form, "", alone)
    _check_unique(root, found)
    return found


def digest(data: Data, found: list[SourceImage]) -> str:
    """Twelve hex digits over the settings that shape a data set and its files' names, sizes and times."""
    shape = [form_of(data), data.color, data.patch, data.stride or data.patch]
    rows = []
    for image in found:
        files = [path for path in (image.clean, image.degraded) if path]
        # A package's files get the time of its installation, which says nothing about their content.
        found_stats = [path.stat() for path in files]
        stats = [
            (path.name, stat.st_size, 0 if data.source is None else stat.st_mtime_ns)
            for path, stat in zip(files, found_stats, strict=True)
        ]
        rows.append([image.image_id, image.split, stats])
    return hashlib.sha256(json.dumps([shape, rows]).encode()).hexdigest()[:12]


def _photographs(color: str) -> list[SourceImage]:
    found = []
    for name, path in photograph_files().items():
        if color == "rgb" and read_header(path).gray:
            continue
        found.append(SourceImage(name, "test" if name in HELD_OUT_PHOTOGRAPHS else "train", path))
    return found


def _split_folders(root: Path) -> list[Path]:
    return subfolders(root, tuple(SPLIT_FOLDERS))


def _folder(folder: Path, data: Data, form: str, prefix: str, alone: list[str] | None) -> list[SourceImage]:
    split = SPLIT_FOLDERS.get(folder.name.lower(), "train") if prefix else "train"
    if form == "pairs":
        pairs = folder_pairs(folder, data.clean_names, data.degraded_names, alone)
        return [SourceImage(prefix + pair.name, split, pair.clean, pair.degraded) for pair in pairs]
    return [
        SourceImage(prefix + normalised(path.stem), split, path, halves=form == "halves")
        for path in list_images(folder)
    ]


def _check_unique(root: Path, found: list[SourceImage]) -> None:
    seen: dict[str, Path] = {}
    for image in found:
        if image.image_id in seen:
            other = seen[image.image_id].name
            raise ValueError(f"{root}: {other} and {image.clean.name} {ONE_NAME}")
        seen[image.image_id] = image.clean


def _hold_out(root: Path, found: list[SourceImage], fraction: float, seed: int) -> list[SourceImage]:
    if not 0 <= fraction < 1:
        raise ValueError(f"data.test_fraction is {fraction}; it must be at least 0 and below 1")
    if len(found) < 2:
        raise ValueError(f"{root}: holds one image; at least two are needed to hold one out for the test")
    count = min(max(1, round(fraction * len(found))), len(found) - 1)
    held_out = set(np.random.default_rng(seed).permutation(len(found))[:count].tolist())
    return [
        dataclasses.replace(image, split="test") if index in held_out else image for index, image in enumerate(found)
    ]
