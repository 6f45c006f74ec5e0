"""Image files as Pillow opens them, and what it would lose in silence: 16 bits, orientation, odd layouts."""

import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageOps, UnidentifiedImageError

from irnas_ray.images.depth import Depth
from irnas_ray.images.samples import Samples
from irnas_ray.images.tags import Refused, check_tiff, deep_range, png_chunks, significant, significant_bits, tiff_tags

#: Largest picture that is opened unasked, because small files can hold pictures that fill the memory.
MEGAPIXELS = 179
_GRAY_MODES = ("1", "L", "LA", "La")

#: Pillow's name of a 16-bit layout -> the layout that takes the other byte of each value, the lower one, from the file.
_LOWER_BYTE = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if sys.byteorder == "little" else "L"))
}
_ORIENTATION = 274
#: Pixels that are converted or copied at a time, because every whole copy of a large picture counts in its memory.
_STRIP_PIXELS = 2**20
#: Formats with samples of 16 bits; a BMP packs three samples into as many.
_DEEP_FORMATS = ("TIFF", "PNG")
#: Files that hold several images; a camera's MPO adds previews of the same one.
_PAGED = ("TIFF", "PNG", "WEBP")
#: PNG chunks that may hold an orientation.
_PNG_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")


@contextlib.contextmanager
def pictures_up_to(megapixels: float) -> Iterator[None]:
    """Inside, files of so many megapixels are opened; outside it is ``MEGAPIXELS``, as Pillow has it."""
    usual = Image.MAX_IMAGE_PIXELS
    # Pillow warns of half of what it refuses.
    Image.MAX_IMAGE_PIXELS = usual if megapixels == MEGAPIXELS else int(megapixels * 1e6 / 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = usual


@contextlib.contextmanager
def opened(path: Path | str) -> Iterator[Image.Image]:
    """The file as Pillow opens it, not yet decoded.

    ``Refused`` if it cannot become gray or RGB without guessing; raises whatever Pillow does for damaged files.
    """
    # Given a path, Pillow maps gray TIFFs into memory, and scrambles those that an orientation turns.
    with open(path, "rb") as file:
        try:
            image = Image.open(file)
        except Image.DecompressionBombError:
            most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
            raise Refused(
                f"is larger than {most:.0f} megapixels; if that is right, max_megapixels=N of `irnas-ray restore` and "
                "`irnas-ray evaluate` opens it, in tiles"
            ) from None
        except UnidentifiedImageError:
            tags = tiff_tags(file)
            if tags:
                check_tiff(tags, readable=False)
            # Pillow's own words name the file object
            raise UnidentifiedImageError("is damaged at its beginning, or of no format that is known") from None
        with image:
            if image.format == "EPS":
                # decoding runs Ghostscript, and PostScript is a program, whatever the file's name says
                raise UnidentifiedImageError("is PostScript, which is not run; save it as PNG")
            if image.format == "TIFF":
                check_tiff(image.tag_v2, readable=True)  # type: ignore[attr-defined]
            _check_layout(image)
            yield image


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an opened file with its EXIF orientation applied; decodes it only where that is needed."""
    width, height = image.size
    if image.format == "TIFF":
        return height, width  # Pillow has turned it already
    if image.format == "PNG" and has_late_notes(image):
        image.load()
    # Not PngImageFile's own getexif, which decodes the image.
    turned = Image.Image.getexif(image).get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def notices(image: Image.Image) -> tuple[str, ...]:
    """What reading an opened file leaves out or converts, such as "alpha channel dropped"."""
    pages = getattr(image, "n_frames", 1) if image.format in _PAGED else 1
    found = {
        "alpha channel dropped": image.has_transparency_data,
        f"{_bits(image)} bits a channel, scaled to 16": 8 < _bits(image) < 16,
        "CMYK, converted to RGB without its colour profile": image.mode == "CMYK",
        "1 bit a pixel, read as black and white": image.mode == "1",
        "several images in one file, only the first is read": pages > 1,
    }
    return tuple(notice for notice, applies in found.items() if applies)


def is_gray(image: Image.Image) -> bool:
    """Whether an opened file is gray."""
    return image.mode in _GRAY_MODES or image.mode.startswith("I")


def is_deep(image: Image.Image) -> bool:
    """Whether an opened file has more than 8 bits a channel."""
    return image.mode.startswith("I") or _layout(image) in _LOWER_BYTE


def depth_of(image: Image.Image) -> Depth:
    """The depth at which an opened file is read."""
    return Depth.SIXTEEN if is_deep(image) else Depth.EIGHT


def read(path: Path | str, alpha: bool = False, gray: bool = False) -> Samples:
    """The pixels of a file at full depth; EXIF orientation is applied, palettes and CMYK become RGB.

    Alpha is dropped unless it is asked for; with ``gray``, colours of 8 bits become ``luma``, which saves copies where
    nothing else is wanted of them. Raises as ``opened``.
    """
    with opened(path) as image:
        white = depth_of(image).white
        black_is_zero, told = True, None
        if is_deep(image) and image.format == "TIFF":
            white, negative = deep_range(image.tag_v2)  # type: ignore[attr-defined]
            black_is_zero = not negative
        if image.format == "PNG":
            told = significant_bits(image.fp)  # type: ignore[attr-defined]
        values, opacity = _deep(image, path) if is_deep(image) else _shallow(image, alpha, gray and told is None)
    if not black_is_zero:
        values = (white - values).astype(values.dtype)
    found = significant(values, *told) if told else None
    values, of_white = found or (values, white)
    return Samples(values, of_white, opacity if alpha else None)


def _check_layout(image: Image.Image) -> None:
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise Refused(
            f"has 32 bits a channel (mode {image.mode}), and nothing says which value is white; convert it to 16 bits"
        )
    # Pillow reads these without their lower byte.
    if image.format in _DEEP_FORMATS and ";16" in _layout(image) and not is_deep(image):
        raise Refused("has 16 bits a channel in a layout that cannot be read; save it as a 16-bit RGB or gray PNG")


def _shallow(
    image: Image.Image, alpha: bool, gray: bool
) -> tuple[UInt8[np.ndarray, "*shape"], UInt8[np.ndarray, "h w"] | None]:
    _load_upright(image)
    # Pillow leaves gray that is multiplied by alpha only in this way.
    shown = image.convert("LA") if image.mode == "La" else image
    opacity = _array(shown, ["RGBA"], "A") if alpha and shown.has_transparency_data else None
    modes = ["L"] if is_gray(shown) else ["RGB", "L"] if gray else ["RGB"]
    return _array(shown, modes), opacity


def _deep(
    image: Image.Image, path: Path | str
) -> tuple[UInt16[np.ndarray, "*shape"], UInt16[np.ndarray, "h w"] | None]:
    layout = _layout(image)
    _load_upright(image)
    if layout not in _LOWER_BYTE:
        return np.asarray(image).astype(np.uint16), None
    # Pillow's colours have 8 bits: it takes the upper byte of a value and, told the other byte order, the lower one.
    values = np.empty((image.height, image.width, len(image.getbands())), np.uint16)
    for place, strip in _strips(image):
        np.left_shift(strip, 8, out=values[place], dtype=np.uint16)
    image.close()  # which gives its memory back before the next is read
    with opened(path) as again:
        again.tile = [tile._replace(args=_relaid(tile.args)) for tile in again.tile]  # type: ignore[attr-defined]
        _load_upright(again)
        for place, strip in _strips(again):
            values[place] |= strip
    return values[:, :, :3], values[:, :, 3] if layout.startswith("RGBA") else None


def _load_upright(image: Image.Image) -> None:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)


def _array(image: Image.Image, modes: Sequence[str], channel: str | None = None) -> UInt8[np.ndarray, "*shape"]:
    """The pixels of a loaded image, converted to one mode after the other, or one channel of them."""
    strips = _strips(image, modes, channel)
    place, first = next(strips)
    if len(first) == image.height:
        return first
    pixels = np.empty((image.height, *first.shape[1:]), np.uint8)
    pixels[place] = first
    for place, strip in strips:
        pixels[place] = strip
    return pixels


def _strips(
    image: Image.Image, modes: Sequence[str] = (), channel: str | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Where some rows of a loaded image lie, and their pixels as ``_array`` gives them."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = image if bottom - top == image.height else image.crop((0, top, image.width, bottom))
        for mode in modes:
            strip = strip if strip.mode == mode else strip.convert(mode)
        yield slice(top, bottom), np.asarray(strip if channel is None else strip.getchannel(channel))


def _bits(image: Image.Image) -> int:
    if not is_deep(image):
        return 8
    tags = getattr(image, "tag_v2", None)
    return int(deep_range(tags)[0]).bit_length() if tags else 16


def _layout(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    args = tiles[0].args
    return str(args if isinstance(args, str) else args[0] if args else "")


def _relaid(args: str | tuple) -> str | tuple:
    return _LOWER_BYTE[args] if isinstance(args, str) else (_LOWER_BYTE[args[0]], *args[1:])


def has_late_notes(image: Image.Image) -> bool:
    """Whether a PNG has notes behind its pixels, where Pillow has not read them yet."""
    names = [name for name, *_ in png_chunks(image.fp)]  # type: ignore[attr-defined]
    return b"IDAT" in names and any(name in _PNG_NOTES for name in names[names.index(b"IDAT") :])
