"""What is told of one image: faults in its header, and, once it is read, what it is recognised and judged by."""

import base64
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import UInt

from irnas_ray.images.depth import Depth
from irnas_ray.images.files import ImageHeader
from irnas_ray.images.scenes import SIDE, Thumbnail, content_hash, correlation, fine_detail, thumbnail
from irnas_ray.images.sources import SourceImage
from irnas_ray.system.worker_pool import Tick, choose_workers, run_tasks

#: Kind of finding -> what is found, and whether scores made with such data would be false (or none could be made).
KINDS: dict[str, tuple[str, bool]] = {
    "unreadable": ("cannot be read", True),
    "mis-sized": ("do not fit each other or the settings", True),
    "tiny": ("are too small", True),
    "mis-paired": ("are not a pair", True),
    "leakage": ("show a scene of the training images", True),
    "leakage against": ("training images show a scene of the other set", True),
    "shared": ("test images show a scene of the other set, which is no leak by itself", False),
    "duplicate": ("scenes have several images in one split", False),
    "blank": ("hold next to nothing", False),
    "converted": ("are converted", False),
}
#: SSIM's window does not fit into smaller images.
SMALLEST = 11
#: Images whose headers one process reads alone, because starting others would take longer; and in a piece of the work.
_MANY, _PIECE = 1000, 100
#: Images that one line names.
_MOST_NAMES = 20
#: Brightest of 256 gray levels up to which an image is called nearly black.
_BLACK = 20
#: A pair's halves show two scenes if they correlate less, and the degraded one has not over 1.5 times the detail,
#: beyond which noise may hide the scene.
_UNRELATED, _MOST_DETAIL = 0.2, 1.5


@dataclass(frozen=True)
class Finding:
    """One thing that a user should know of an image or of several: its kind and a line that names them."""

    kind: str
    text: str

    @property
    def falsifies(self) -> bool:
        """Whether scores made with such data would be false, or none could be made."""
        return KINDS[self.kind][1]


@dataclass(frozen=True)
class Examined:
    """What is kept of an image that was read: no pixels, but what it is recognised by."""

    image_id: str
    split: str
    height: int
    width: int
    #: Content hash of the clean pixels.
    sha256: str
    thumbnail: Thumbnail | None = None
    #: The degraded image's, where the data are pairs.
    degraded: Thumbnail | None = None
    #: Faults that this image alone shows.
    findings: tuple[Finding, ...] = field(default=())
    #: Content hash of the degraded pixels, where the data are pairs.
    degraded_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which ``from_json`` makes an equal object."""
        packed = {
            name: None if image is None else base64.b64encode(image.tobytes()).decode()
            for name, image in (("thumbnail", self.thumbnail), ("degraded", self.degraded))
        }
        findings = [{"kind": finding.kind, "text": finding.text} for finding in self.findings]
        # not asdict, which copies arrays and takes as long as a tenth of reading the image
        return {own.name: getattr(self, own.name) for own in fields(self)} | packed | {"findings": findings}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Examined":
        """The object that ``to_json`` described; KeyError, TypeError or ValueError for anything else."""
        side = SIDE
        unpacked = {
            name: None
            if values[name] is None
            else np.frombuffer(base64.b64decode(values[name]), np.int8).reshape(side, side)
            for name in ("thumbnail", "degraded")
        }
        findings = tuple(Finding(**finding) for finding in values["findings"])
        return cls(**{**values, **unpacked, "findings": findings})


def examine(image: SourceImage, clean: UInt[np.ndarray, "c h w"], degraded: np.ndarray | None) -> Examined:
    """What is told of an image by its pixels (c, h, w)."""
    thumbnails = [None if side is None else thumbnail(side) for side in (clean, degraded)]
    findings = []
    low, high, white = int(clean.min()), int(clean.max()), Depth.of(clean).white
    if low == high or high * Depth.EIGHT.white <= _BLACK * white:
        nearly = f"its brightest pixel is {high} of {white} (12-bit values?)"
        what = f"all its pixels are {high}" if low == high else nearly
        findings.append(Finding("blank", f"{image.image_id}: {what}"))
    if degraded is not None and np.array_equal(clean, degraded):
        findings.append(Finding("mis-paired", f"{image.image_id}: clean and degraded image are equal"))
    elif degraded is not None and _unrelated(clean, degraded, *thumbnails):
        findings.append(Finding("mis-paired", f"{image.image_id}: clean and degraded image show two scenes"))
    return Examined(
        image.image_id,
        image.split,
        clean.shape[1],
        clean.shape[2],
        content_hash(clean),
        thumbnails[0],
        thumbnails[1],
        tuple(findings),
        None if degraded is None else content_hash(degraded),
    )


def examine_headers(
    found: Sequence[SourceImage], color: str, patch: int, workers: int | None = None, module: str = __name__
) -> tuple[list[SourceImage], list[tuple[int, int]], Depth, list[Finding]]:
    """The images whose files can be read and fit each other, their sizes (h, w), the depth that holds them all without
    loss, and what the headers show.

    Of many images `workers` processes (None: one a core) read the headers; they import `module`, what the same
    processes will be for next.
    """
    good, sizes, findings = [], [], []
    notices: dict[str, list[str]] = {}
    depths: dict[str, set[Depth]] = {}
    pieces = [_Piece(tuple(found[start : start + _PIECE]), color, patch) for start in range(0, len(found), _PIECE)]
    workers = choose_workers(workers, 0) if len(found) > _MANY else 1
    results = run_tasks(_read_headers, pieces, workers, module=module)
    for image, result in zip(found, itertools.chain.from_iterable(results), strict=True):
        if isinstance(result, Finding):
            findings.append(result)
            continue
        good.append(image)
        sizes.append(result.size)
        depths[image.image_id] = {header.depth for header in result.headers}
        notices[image.image_id] = [notice for header in result.headers for notice in header.notices]
    depth = max((of_file for of_image in depths.values() for of_file in of_image), default=Depth.EIGHT)
    for name, held in depths.items():
        notices[name] += [f"8 bits a channel, scaled to the {depth} of the other files"] * (min(held) < depth)
    findings += [Finding("converted", line) for line in conversions(notices)]
    return good, sizes, depth, findings


@dataclass(frozen=True)
class _Piece:
    """Images whose headers one process reads."""

    images: tuple[SourceImage, ...]
    color: str
    patch: int


@dataclass(frozen=True)
class _Read:
    """Size (h, w) of an image, and the headers of its files."""

    size: tuple[int, int]
    headers: tuple[ImageHeader, ...]


def _read_headers(piece: _Piece, tick: Tick) -> list[_Read | Finding]:
    """What each image's headers say, or what is wrong with it."""
    results: list[_Read | Finding] = []
    for image in piece.images:
        kind = "unreadable"
        try:
            headers = image.headers()
            kind = "mis-sized"
            size = image.size(piece.color, headers)
        except ValueError as error:
            results.append(Finding(kind, str(error)))
            continue
        tiny = _too_small(image, size, piece.patch)
        results.append(Finding("tiny", tiny) if tiny else _Read(size, tuple(headers)))
    return results


def conversions(notices: Mapping[str, Sequence[str]]) -> list[str]:
    """One line for each kind of notice that images' headers gave, by image id, with the images' names."""
    by_notice: dict[str, list[str]] = {}
    for name, given in notices.items():
        for notice in dict.fromkeys(given):
            by_notice.setdefault(notice, []).append(name)
    return [f"{notice}: {_names(names)}" for notice, names in sorted(by_notice.items())]


def _too_small(image: SourceImage, size: tuple[int, int], patch: int) -> str | None:
    height, width = size
    if image.split == "train" and min(size) < patch:
        return f"{image.image_id} is {height}x{width}, under data.patch={patch}; data.patch={min(size)} would fit"
    if min(size) < min(patch, SMALLEST):
        return f"{image.image_id} is {height}x{width}; SSIM needs {SMALLEST}x{SMALLEST}"
    return None


def _names(names: Sequence[str]) -> str:
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{len(names)} images: {', '.join(names[:_MOST_NAMES])}, ..."


def _unrelated(
    clean: np.ndarray, degraded: np.ndarray, clean_thumbnail: Thumbnail | None, degraded_thumbnail: Thumbnail | None
) -> bool:
    if clean_thumbnail is None or degraded_thumbnail is None:
        return False
    if correlation(clean_thumbnail, degraded_thumbnail) >= _UNRELATED:
        return False
    details = [fine_detail(side) for side in (clean, degraded)]
    spread = [0.0 if detail is None else float(np.sqrt(np.mean(detail**2))) for detail in details]
    return spread[1] <= _MOST_DETAIL * spread[0]
