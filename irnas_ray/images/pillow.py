"""Image files as Pillow opens them, and what it would lose in silence: 16 bits, orientation, odd layouts."""

import contextlib
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageOps, UnidentifiedImageError

#: Pillow's name of a 16-bit layout -> the layout that takes the other byte of each value, the lower one, from the file.
_LOWER_BYTE = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if sys.byteorder == "little" else "L"))
}
_PLANAR, _BITS_PER_SAMPLE, _ORIENTATION = 284, 258, 274
#: Files that hold several images; a camera's MPO adds previews of the same one.
_PAGED = ("TIFF", "PNG", "WEBP")
#: PNG chunks that may hold an orientation.
_PNG_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")


@contextlib.contextmanager
def opened(path: Path | str) -> Iterator[Image.Image]:
    """The file as Pillow opens it, not yet decoded; raises whatever Pillow does for damaged files."""
    # Given a path, Pillow maps gray TIFFs into memory, and scrambles those that an orientation turns.
    with open(path, "rb") as file:
        try:
            image = Image.open(file)
        except UnidentifiedImageError:
            # Pillow's own words name the file object
            raise UnidentifiedImageError("is damaged at its beginning, or of no format that is known") from None
        with image:
            yield image


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an opened file with its EXIF orientation applied; decodes it only where that is needed."""
    width, height = image.size
    if image.format == "TIFF":
        return height, width  # Pillow has turned it already
    if image.format == "PNG" and _has_late_notes(image):
        image.load()
    # Not PngImageFile's own getexif, which decodes the image.
    turned = Image.Image.getexif(image).get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def notices(image: Image.Image) -> tuple[str, ...]:
    """What reading an opened file leaves out or converts, such as "alpha channel dropped"."""
    pages = getattr(image, "n_frames", 1) if image.format in _PAGED else 1
    found = {
        "alpha channel dropped": image.has_transparency_data,
        "16 bits a channel, rounded to 8": is_deep(image),
        "CMYK, converted to RGB without its colour profile": image.mode == "CMYK",
        "1 bit a pixel, read as black and white": image.mode == "1",
        "several images in one file, only the first is read": pages > 1,
    }
    return tuple(notice for notice, applies in found.items() if applies)


def refusal(image: Image.Image) -> str | None:
    """Why an opened file's depth or colours cannot become 8-bit gray or RGB without guessing; None if they can."""
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        return (
            f"has 32 bits a channel (mode {image.mode}), and nothing says which value is white; convert it to 16 bits"
        )
    if image.mode == "LAB":
        return "is in the colours of CIE Lab; convert it to RGB"
    # Pillow reads some of these as noise, and the others without their lower byte.
    tags = getattr(image, "tag_v2", {})
    planar = max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8 and tags.get(_PLANAR, 1) == 2
    if planar or (";16" in _layout(image) and not is_deep(image)):
        return "has 16 bits a channel in a layout that cannot be read; save it as a 16-bit RGB or gray PNG"
    return None


def is_deep(image: Image.Image) -> bool:
    """Whether an opened file that nothing refuses has 16 bits a channel."""
    return image.mode.startswith("I") or _layout(image) in _LOWER_BYTE


def read_deep(path: Path | str) -> Image.Image:
    """A 16-bit file as an 8-bit gray or RGB image, v -> round(v / 257); see ``deep_pixels``."""
    return Image.fromarray(rounded(deep_pixels(path)))


def deep_pixels(path: Path | str) -> UInt16[np.ndarray, "*shape"]:
    """The pixels of a 16-bit file, (h w) or (h w 3), at full depth; alpha is dropped, EXIF orientation applied.

    Raises whatever Pillow does for damaged files.
    """
    with opened(path) as image:
        layout = _layout(image)
        upper = _pixels(image)
    if layout not in _LOWER_BYTE:
        return upper.astype(np.uint16)
    # Pillow's colours have 8 bits: it takes the upper byte of a value and, told the other byte order, the lower one.
    with opened(path) as image:
        image.tile = [tile._replace(args=_relaid(tile.args)) for tile in image.tile]  # type: ignore[attr-defined]
        lower = _pixels(image)
    return (upper[:, :, :3].astype(np.uint16) << 8) | lower[:, :, :3]


def rounded(values: UInt16[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """16-bit values as the nearest 8-bit ones: 65535 becomes 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _pixels(image: Image.Image) -> np.ndarray:
    image.load()
    return np.asarray(ImageOps.exif_transpose(image))


def _layout(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    args = tiles[0].args
    return str(args if isinstance(args, str) else args[0] if args else "")


def _relaid(args: str | tuple) -> str | tuple:
    return _LOWER_BYTE[args] if isinstance(args, str) else (_LOWER_BYTE[args[0]], *args[1:])


def _has_late_notes(image: Image.Image) -> bool:
    """Whether a PNG has notes behind its pixels, where Pillow has not read them yet."""
    file = image.fp  # type: ignore[attr-defined]
    start = file.tell()
    file.seek(8)
    pixels_seen = late = False
    while len(head := file.read(8)) == 8 and not late:
        length, name = struct.unpack(">I4s", head)
        pixels_seen |= name == b"IDAT"
        late = pixels_seen and name in _PNG_NOTES
        file.seek(length + 4, 1)
    file.seek(start)
    return late
