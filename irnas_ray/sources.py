"""What a data set is made from: finds the images of each form, splits them, and checks them before long work."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from irnas_ray import images
from irnas_ray.settings import Data

FORMS = ("photographs", "images", "halves", "pairs")

#: Names of subfolders that are splits, and the split they belong to.
SPLIT_FOLDERS = dict.fromkeys(("train", "training", "val", "valid", "validation"), "train") | dict.fromkeys(
    ("test", "testing", "test_syn"), "test"
)

#: Names of the two folders of pairs.
CLEAN_FOLDERS = ("clean", "target", "gt")
DEGRADED_FOLDERS = ("degraded", "input", "noisy")


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

    def size(self, color: str) -> tuple[int, int]:
        """Height and width of the clean image from the files' headers; ValueError if the files do not fit together."""
        header = images.read_header(self.clean)
        others = [images.read_header(self.degraded)] if self.degraded else []
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

    def read(self, color: str) -> tuple[UInt8[np.ndarray, "h w c"], UInt8[np.ndarray, "h w c"] | None]:
        """Clean and degraded pixels, 0-255; the second is None where the source has clean images only."""
        clean = images.read_image(self.clean, color)
        if self.halves:
            middle = clean.shape[1] // 2
            return clean[:, :middle], clean[:, middle:]
        return clean, images.read_image(self.degraded, color) if self.degraded else None


def form_of(data: Data) -> str:
    """The form of `data`; a source given without one is told by its folders (pairs or images)."""
    if data.form not in FORMS:
        raise ValueError(f"data.form is {data.form!r}; it must be one of {', '.join(FORMS)}")
    if data.form != "photographs" or data.source is None:
        return data.form
    folders = [Path(data.source), *_split_folders(Path(data.source))]
    return "pairs" if any(_named(folder, CLEAN_FOLDERS + DEGRADED_FOLDERS) for folder in folders) else "images"


def find_images(data: Data) -> list[SourceImage]:
    """All images of the source, in natural order, each with a unique id and its split.

    Split folders decide the split; without a test folder a seeded share `data.test_fraction` of the images, at least
    one, is held out. ValueError if the source is missing or empty, or if its files cannot be told apart or paired.
    """
    found = _find_all(data)
    root = Path(data.source or "")
    if not any(image.split == "test" for image in found):
        found = _hold_out(root, found, data.test_fraction, data.split_seed)
    if not any(image.split == "train" for image in found):
        raise ValueError(f"{root}: holds test images only; add a folder named train")
    return found


def find_test_images(data: Data) -> list[SourceImage]:
    """The images to score a network on: the test folder's, every one of a folder without split folders, or the
    held-out photographs. ValueError as ``find_images``.
    """
    found = _find_all(data)
    flat = form_of(data) != "photographs" and not _split_folders(Path(data.source or ""))
    chosen = [image for image in found if flat or image.split == "test"]
    if not chosen:
        raise ValueError(f"{data.source}: holds no test images; name the folder of the images to score")
    return chosen


def _find_all(data: Data) -> list[SourceImage]:
    form = form_of(data)
    if form == "photographs":
        return _photographs(data.color)
    if data.source is None:
        raise ValueError(f"data.form={form} needs data.source, the folder that holds the images")
    root = Path(data.source)
    folders = _split_folders(root)
    if folders:
        loose = [path.name for path in root.iterdir() if path.suffix.lower() in images.IMAGE_SUFFIXES]
        if loose:
            raise ValueError(f"{root}: holds both split folders and images ({loose[0]}, ...); move the images into one")
        found = [image for folder in folders for image in _folder(folder, form, f"{folder.name}/")]
    else:
        found = _folder(root, form, "")
    _check_unique(root, found)
    return found


def check_sizes(found: list[SourceImage], color: str, patch: int) -> None:
    """Read the header of every file; ValueError naming those that do not fit each other, the color or the patch."""
    sizes = [image.size(color) for image in found]
    small = [(min(size), image.image_id) for image, size in zip(found, sizes, strict=True) if image.split == "train"]
    small = sorted(entry for entry in small if entry[0] < patch)
    if small:
        names = ", ".join(name for _, name in small[:5]) + (", ..." if len(small) > 5 else "")
        raise ValueError(
            f"{len(small)} training images are smaller than data.patch={patch}: {names}; "
            f"data.patch={small[0][0]} would fit all, or remove them"
        )


def digest(data: Data, found: list[SourceImage]) -> str:
    """Twelve hex digits over the settings that shape a data set and its files' names, sizes and times."""
    shape = [form_of(data), data.color, data.patch, data.stride or data.patch]
    rows = []
    for image in found:
        files = [path for path in (image.clean, image.degraded) if path]
        # A package's files get the time of its installation, which says nothing about their content.
        stats = [
            (path.name, path.stat().st_size, 0 if data.source is None else path.stat().st_mtime_ns) for path in files
        ]
        rows.append([image.image_id, image.split, stats])
    return hashlib.sha256(json.dumps([shape, rows]).encode()).hexdigest()[:12]


def _photographs(color: str) -> list[SourceImage]:
    found = []
    for name, path in images.photograph_files().items():
        if color == "rgb" and images.read_header(path).gray:
            continue
        found.append(SourceImage(name, "test" if name in images.HELD_OUT_PHOTOGRAPHS else "train", path))
    return found


def _split_folders(root: Path) -> list[Path]:
    return _named(root, tuple(SPLIT_FOLDERS))


def _named(root: Path, names: tuple[str, ...]) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.name.lower() in names and path.is_dir())


def _folder(folder: Path, form: str, prefix: str) -> list[SourceImage]:
    split = SPLIT_FOLDERS.get(folder.name.lower(), "train") if prefix else "train"
    if form == "pairs":
        return [SourceImage(prefix + clean.stem, split, clean, degraded) for clean, degraded in _pairs(folder)]
    return [
        SourceImage(prefix + path.stem, split, path, halves=form == "halves") for path in images.list_images(folder)
    ]


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    sides = []
    for names in (CLEAN_FOLDERS, DEGRADED_FOLDERS):
        folders = _named(folder, names)
        if len(folders) != 1:
            raise ValueError(f"{folder}: pairs need one folder named {' or '.join(names)}, found {len(folders)}")
        listed = images.list_images(folders[0])
        by_stem = {path.stem: path for path in listed}
        if len(by_stem) < len(listed):
            raise ValueError(f"{folders[0]}: two files have one name but for the suffix; rename or remove one")
        sides.append(by_stem)
    clean, degraded = sides
    alone = [f"{stem} (not in degraded)" for stem in clean if stem not in degraded]
    alone += [f"{stem} (not in clean)" for stem in degraded if stem not in clean]
    if alone:
        more = ", ..." if len(alone) > 5 else ""
        raise ValueError(f"{folder}: {len(alone)} images have no partner: {', '.join(alone[:5])}{more}")
    return [(clean[stem], degraded[stem]) for stem in clean]


def _check_unique(root: Path, found: list[SourceImage]) -> None:
    seen: dict[str, Path] = {}
    for image in found:
        if image.image_id in seen:
            other = seen[image.image_id].name
            raise ValueError(f"{root}: {other} and {image.clean.name} have one name but for the suffix; rename one")
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
