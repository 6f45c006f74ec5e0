"""What an image file holds beside its colours, and PNG files that hold it too, of 8 or 16 bits a channel."""

import contextlib
import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt
from PIL import Image, PngImagePlugin

from irnas_ray.images import pillow
from irnas_ray.system.files import written

_ORIENTATION, _EXIF, _GPS = 274, 0x8769, 0x8825
#: Tags that say who, when and with what; the others of a TIFF say how its own samples are stored.
_DESCRIPTIVE = (270, 271, 272, 305, 306, 315, 316, 33432)
_COLOR_SPACES = {1: b"GRAY", 3: b"RGB "}
_PNG_KINDS = {1: 0, 2: 4, 3: 2, 4: 6}
_INCH = 0.0254


@dataclass(frozen=True)
class Attributes:
    """A colour profile, a resolution in pixels an inch (across, down), EXIF without orientation, and short texts."""

    profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    exif: bytes | None = None
    texts: dict[str, str] = field(default_factory=dict)


def read_attributes(path: Path | str, channels: int) -> Attributes:
    """The attributes of a file that still hold for its pixels as shown, in gray (1) or RGB (3).

    A profile of other colours is left out, and so is EXIF that is damaged. Raises as ``pillow.opened``.
    """
    with pillow.opened(path) as image:
        if image.format == "PNG" and pillow.has_late_notes(image):
            image.load()
        profile, resolution, exif = image.info.get("icc_profile"), image.info.get("dpi"), None
        turned = False
        with contextlib.suppress(Exception):  # Pillow raises almost anything for damaged EXIF
            found = Image.Image.getexif(image)
            turned = found.get(_ORIENTATION, 1) in (5, 6, 7, 8)
            exif = _described(found, image.format == "TIFF")
    if profile is not None and profile[16:20] != _COLOR_SPACES[channels]:
        profile = None
    if resolution is not None:
        across, down = (float(value) for value in resolution)
        resolution = (down, across) if turned else (across, down)
        if not all(0 < value < 1e6 for value in resolution):
            resolution = None
    return Attributes(profile, resolution, exif)


def _described(exif: Image.Exif, tiff: bool) -> bytes | None:
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag in _DESCRIPTIVE or not (tiff or tag in (_ORIENTATION, _EXIF, _GPS)):
            kept[tag] = value
    for directory in (_EXIF, _GPS):
        if values := exif.get_ifd(directory):
            kept.get_ifd(directory).update(values)
            kept[directory] = kept.get_ifd(directory)
    return kept.tobytes() if len(kept) else None


def write_png(
    path: Path | str, bands: Iterable[UInt[np.ndarray, "_ w *c"]], height: int, attributes: Attributes
) -> None:
    """Write uint8 or uint16 pixels, gray or RGB, with alpha or without, complete or not at all.

    They come in bands of rows, from top to bottom, ``height`` rows in all. OSError naming the file if it cannot be
    written; what making a band raises, and no file.
    """
    with written(path) as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in _chunks(iter(bands), height, attributes):
            file.write(struct.pack(">I", len(content)) + name + content)
            file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(name))))


def _chunks(bands: Iterator[np.ndarray], height: int, attributes: Attributes) -> Iterator[tuple[bytes, bytes]]:
    # Written here, because Pillow writes no 16-bit colours, and whole pictures only.
    first = np.atleast_3d(next(bands))
    depth, kind = 8 * first.itemsize, _PNG_KINDS[first.shape[2]]
    yield b"IHDR", struct.pack(">IIBBBBB", first.shape[1], height, depth, kind, 0, 0, 0)
    if attributes.profile is not None:
        yield b"iCCP", b"ICC Profile\0\0" + zlib.compress(attributes.profile)
    if attributes.resolution is not None:
        across, down = (round(value / _INCH) for value in attributes.resolution)
        yield b"pHYs", struct.pack(">IIB", across, down, 1)
    if attributes.exif is not None:
        yield b"eXIf", attributes.exif.removeprefix(b"Exif\0\0")
    for name, text in attributes.texts.items():
        yield b"tEXt", f"{name}\0{text}".encode("latin-1")
    compressor, above = zlib.compressobj(6), np.zeros((1, first[0].nbytes), np.uint8)
    for band in itertools.chain([first], bands):
        for start in range(0, len(band), _ROWS):
            strip = np.ascontiguousarray(band[start : start + _ROWS], f">u{first.itemsize}")
            rows = strip.view(np.uint8).reshape(len(strip), -1)
            # Each row as its difference from the one above, which compresses better.
            filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
            filtered[:, 0] = _UP
            np.subtract(rows[:1], above, out=filtered[:1, 1:])
            np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
            above = rows[-1:].copy()
            if content := compressor.compress(filtered.data):
                yield b"IDAT", content
    yield b"IDAT", compressor.flush()
    yield b"IEND", b""


#: Rows that are filtered and compressed at a time, and PNG's number of the filter.
_ROWS, _UP = 64, 2


def read_text(path: Path | str, name: str) -> str | None:
    """A short text in a PNG; None if it holds none or cannot be read."""
    with contextlib.suppress(Exception), Image.open(path, formats=("PNG",)) as image:  # as above
        text = image.info.get(name)
        return str(text) if isinstance(image, PngImagePlugin.PngImageFile) and text is not None else None
    return None
