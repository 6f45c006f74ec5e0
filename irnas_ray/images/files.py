"""Image files as arrays of 8 or 16 bits: list, read, write, and the photographs that come with scikit-image."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt
from PIL import Image

from irnas_ray.images import pillow
from irnas_ray.images.depth import Depth
from irnas_ray.images.tags import Refused
from irnas_ray.system.files import written
from irnas_ray.system.names import check_names, normalised

#: File name endings that are taken for images, whatever their case.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

COLORS = ("gray", "rgb")

#: Rows that are rounded at a time when an image is written.
STRIP = 64


@dataclass(frozen=True)
class ImageHeader:
    """Height and width in pixels as shown (EXIF orientation applied), whether the file is gray, and its depth."""

    height: int
    width: int
    gray: bool
    #: What reading leaves out or converts, such as "alpha channel dropped".
    notices: tuple[str, ...] = ()
    depth: Depth = Depth.EIGHT


def channels_of(color: str) -> int:
    """The number of channels of `color`: 1 for gray, 3 for rgb; anything else is a ValueError."""
    if color not in COLORS:
        raise ValueError(f"color is {color!r}; it must be gray or rgb")
    return 1 if color == "gray" else 3


def list_images(folder: Path | str) -> list[Path]:
    """The image files directly in `folder`, in natural order (2.jpg before 10.jpg).

    Hidden files and other suffixes are passed over. ValueError if the folder is missing or holds no image, or
    one whose name is not UTF-8.
    """
    folder = Path(folder)
    if not folder.exists():
        raise ValueError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder; give the folder that holds the images")
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    paths = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]
    if not paths:
        looked = ", ".join(IMAGE_SUFFIXES)
        folders = sorted(entry.name for entry in entries if entry.is_dir())[:5]
        hint = f"; it holds the folders {', '.join(folders)}" if folders else ""
        raise ValueError(f"{folder}: holds no image (looked for {looked}){hint}")
    check_names(paths)
    return sorted(paths, key=natural_key)


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """A sorting key by which numbers in a file's name count as numbers."""
    # Text and digits alternate in the split, so that equal positions always hold the same type.
    parts = re.split(r"(\d+)", normalised(path.name).lower())
    return [int(part) if part.isdecimal() else part for part in parts], path.name


def read_header(path: Path | str) -> ImageHeader:
    """Size and kind of an image file without decoding it; ValueError with the path if it cannot be read."""
    with named(path), pillow.opened(path) as image:
        gray, notices, depth = pillow.is_gray(image), pillow.notices(image), pillow.depth_of(image)
        height, width = pillow.shown_size(image)
    return ImageHeader(height, width, gray, notices, depth)


def read_image(path: Path | str, color: str, bits: int | None = 8) -> UInt[np.ndarray, "h w c"]:
    """The pixels of an image file: (h, w, 1) luma of ITU-R 601 for gray, (h, w, 3) for rgb, uint8 or uint16.

    `bits` is 8 (values 0-255), 16 (0-65535), or None for the file's own; files of the other depth are rounded, or
    scaled by 257. EXIF orientation is applied, alpha is dropped, palettes and CMYK become RGB;
    ``read_header(path).notices`` says which. ValueError with the path if the file is damaged or cut short, has 32 bits
    a channel or colours that cannot be converted, or is gray where rgb is asked for; and for other `bits`.
    """
    channels, depth = channels_of(color), None if bits is None else Depth(bits)
    with named(path):
        samples = pillow.read(path, gray=color == "gray")
    if color == "rgb" and samples.gray:
        raise ValueError(f"{path}: file is gray, but color=rgb is asked for; set color=gray or remove the file")
    pixels = samples.pixels(channels, depth)
    return pixels.reshape(*pixels.shape[:2], channels)


@contextlib.contextmanager
def named(path: Path | str) -> Iterator[None]:
    """Inside, whatever reading the file raises becomes a ValueError that names it."""
    try:
        yield
    except Refused as error:
        raise ValueError(f"{path}: {error}") from None
    # Pillow's plugins raise almost any exception on damaged files (struct.error, SyntaxError, EOFError, ...).
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as an image ({error})") from error


def write_image(path: Path | str, image: np.ndarray) -> None:
    """Write a float image in [0, 1] as an 8-bit PNG: clipped, rounded, and complete or not there at all.

    `image` is (h, w), (h, w, 1) or (h, w, 3). ValueError for other shapes or types, for NaN or infinity, and for a
    path that does not end in .png. Missing folders are made.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: images are written as PNG, which loses nothing; end the name in .png")
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"{path}: the image is {image.dtype}; give floats in [0, 1]")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if 0 in image.shape or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"{path}: the image's shape is {image.shape}; give (h, w), (h, w, 1) or (h, w, 3)")
    if not np.isfinite(image).all():
        raise ValueError(f"{path}: the image holds NaN or infinity; nothing was written")
    pixels = np.empty(image.shape, Depth.EIGHT.dtype)
    # In strips, because double precision copies of a large picture would be the largest need of memory.
    for top in range(0, len(image), STRIP):
        pixels[top : top + STRIP] = Depth.EIGHT.quantised(image[top : top + STRIP].astype(np.float64))
    with written(path) as file:
        Image.fromarray(pixels).save(file, format="PNG")
