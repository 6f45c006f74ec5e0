"""Odd image files, deep, turned, transparent or in other colours: the right 8-bit pixels or a clear refusal."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from picture_cases import write_deep_png
from PIL import Image, UnidentifiedImageError

from irnas_ray.images import files as images
from irnas_ray.images import pillow
from irnas_ray.images.depth import Depth
from irnas_ray.images.samples import Samples

ORIENTATION = 274
GRAY, RGB, GRAY_ALPHA, RGB_ALPHA = 0, 2, 4, 6


def deep(*shape: int, top: int = 65536) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, shape, dtype=np.uint16)


def eight_bit(values: np.ndarray, top: int = 65535) -> np.ndarray:
    """The definition: the nearest of 256 equally spaced values."""
    return np.floor(values.astype(float) / top * 255 + 0.5).astype(np.uint8)


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=path.name) as header:
        images.read_header(path)
    with pytest.raises(ValueError, match=path.name) as pixels:
        images.read_image(path, "gray")
    assert str(header.value) == str(pixels.value)
    return str(header.value)


def test_every_16_bit_value_becomes_the_nearest_8_bit_one():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = Samples(values, 65535).pixels(1, Depth.EIGHT)
    assert np.array_equal(found, eight_bit(values)) and found.min() == 0 and found.max() == 255
    assert (np.diff(found.ravel().astype(int)) >= 0).all()  # nothing wraps


@pytest.mark.parametrize(("kind", "channels"), [(GRAY, 1), (RGB, 3), (RGB_ALPHA, 4)])
def test_16_bit_png_is_rounded_and_its_alpha_dropped(tmp_path, kind, channels):
    values = deep(7, 9, channels)
    write_deep_png(tmp_path / "deep.png", values, kind)
    found = images.read_image(tmp_path / "deep.png", "gray" if channels == 1 else "rgb")
    assert np.array_equal(found, eight_bit(values[:, :, :3]))
    header = images.read_header(tmp_path / "deep.png")
    assert (header.height, header.width, header.gray, header.depth) == (7, 9, channels == 1, 16)
    assert header.notices == (("alpha channel dropped",) if channels == 4 else ())


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    "options",
    [{}, {"byteorder": ">"}, {"compression": "zlib"}, {"byteorder": ">", "compression": "zlib"}, {"tile": (16, 16)}],
    ids=str,
)
def test_16_bit_tiff_is_rounded_whatever_its_layout(tmp_path, channels, options):
    values = deep(20, 33, channels)
    color = {"photometric": "minisblack"} if channels == 1 else {"photometric": "rgb"}
    alpha = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(tmp_path / "deep.tif", values.squeeze(), **color, **alpha, **options)
    found = images.read_image(tmp_path / "deep.tif", "gray" if channels == 1 else "rgb")
    assert np.array_equal(found, eight_bit(values[:, :, :3]))


@pytest.mark.parametrize("top", [4095, 65535])
def test_deep_pgm_is_scaled_by_its_own_white(tmp_path, top):
    values = deep(5, 6, top=top + 1)
    (tmp_path / "deep.pgm").write_bytes(b"P5\n6 5\n%d\n" % top + values.astype(">u2").tobytes())
    found = images.read_image(tmp_path / "deep.pgm", "gray")[:, :, 0]
    assert np.abs(found - values / top * 255).max() <= 0.51


def test_what_would_be_guessed_or_misread_is_refused(tmp_path):
    write_deep_png(tmp_path / "gray_alpha.png", deep(4, 5, 2), GRAY_ALPHA)
    tifffile.imwrite(tmp_path / "planes.tif", deep(3, 20, 30), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "planes_zip.tif", deep(3, 20, 30), planarconfig="separate", compression="zlib")
    for name in ("gray_alpha.png", "planes.tif", "planes_zip.tif"):
        assert "16 bits a channel in a layout" in refused(tmp_path / name)
    Image.new("F", (4, 4)).save(tmp_path / "float.tif")
    Image.new("I", (4, 4)).save(tmp_path / "integer.tif")
    Image.new("LAB", (4, 4)).save(tmp_path / "lab.tif")
    assert "32 bits" in refused(tmp_path / "float.tif") and "32 bits" in refused(tmp_path / "integer.tif")
    assert "CIE Lab" in refused(tmp_path / "lab.tif")


def test_other_colours_and_depths_are_read_as_they_look_and_named(tmp_path):
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(images.read_image(tmp_path / "cmyk.jpg", "rgb")[0, 0].astype(int) - (0, 255, 255)).max() <= 2
    bits = deep(6, 8, top=2).astype(bool)
    Image.fromarray(bits).save(tmp_path / "bits.png")
    assert np.array_equal(images.read_image(tmp_path / "bits.png", "gray")[:, :, 0], np.where(bits, 255, 0))
    pages = [Image.fromarray(eight_bit(deep(4, 4) // (page + 1))) for page in range(2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    assert np.array_equal(images.read_image(tmp_path / "pages.tif", "gray")[:, :, 0], np.asarray(pages[0]))
    clear = Image.fromarray(eight_bit(deep(6, 6, 3))).quantize(4)
    clear.save(tmp_path / "clear.png", transparency=0)
    opaque = clear.convert("RGB")
    assert np.array_equal(images.read_image(tmp_path / "clear.png", "rgb"), np.asarray(opaque))
    opaque.save(tmp_path / "plain.bmp")
    expected = {"cmyk.jpg": "CMYK", "bits.png": "1 bit", "pages.tif": "only the first", "clear.png": "alpha"}
    for name, part in expected.items():
        (notice,) = images.read_header(tmp_path / name).notices
        assert part in notice
    assert images.read_header(tmp_path / "plain.bmp").notices == ()


#: What EXIF says must be done to the stored rows and columns to see the image.
TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["gray.png", "rgb.png", "gray.tif", "rgb.tif", "deep.tif", "deep_rgb.tif"])
def test_orientation_is_honoured_in_pixels_and_header(tmp_path, kind, orientation):
    stored = deep(4, 6, 3) if "rgb" in kind else deep(4, 6)
    if not kind.startswith("deep"):
        stored = eight_bit(stored)
    if kind.endswith("png"):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        Image.fromarray(stored).save(tmp_path / kind, exif=exif)
    else:
        tag = (ORIENTATION, 3, 1, orientation, True)
        tifffile.imwrite(tmp_path / kind, stored, photometric="rgb" if "rgb" in kind else None, extratags=[tag])
    shown = TURNS[orientation](stored if stored.dtype == np.uint8 else eight_bit(stored))
    found = images.read_image(tmp_path / kind, "rgb" if "rgb" in kind else "gray")
    assert np.array_equal(found.squeeze(), shown)
    header = images.read_header(tmp_path / kind)
    assert (header.height, header.width) == shown.shape[:2]


def test_an_orientation_behind_a_png_s_pixels_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(eight_bit(deep(4, 6))).save(tmp_path / "turned.png", exif=exif)
    content = (tmp_path / "turned.png").read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", content[start : start + 4])[0]
    rest = content[:start] + content[end:]
    last = rest.index(b"IEND") - 4
    (tmp_path / "late.png").write_bytes(rest[:last] + content[start:end] + rest[last:])
    header = images.read_header(tmp_path / "late.png")
    assert (header.height, header.width) == images.read_image(tmp_path / "late.png", "gray").shape[:2] == (6, 4)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "deep RGB", "deep RGBA"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_that_is_read_in_strips_is_the_same(tmp_path, monkeypatch, mode, orientation):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.tif" if mode.startswith("deep") else "a.png")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if mode.startswith("deep"):
        alpha = {"extrasamples": ["unassalpha"]} if mode == "deep RGBA" else {}
        tag = (ORIENTATION, 3, 1, orientation, True)
        tifffile.imwrite(path, deep(13, 9, len(mode) - 5), photometric="rgb", extratags=[tag], **alpha)
    elif mode == "I;16":
        Image.fromarray(deep(13, 9)).save(path, exif=exif)
    else:
        picture = Image.fromarray(eight_bit(deep(13, 9, 4)), "RGBA")
        options = {"transparency": 3} if mode == "P" else {}
        (picture.convert("RGB").quantize(8) if mode == "P" else picture.convert(mode)).save(path, exif=exif, **options)
    whole = pillow.read(path, alpha=True)
    monkeypatch.setattr(pillow, "_STRIP_PIXELS", 30)
    strips = pillow.read(path, alpha=True)
    assert strips.values.shape[:2] == ((13, 9) if orientation == 1 else (9, 13)) and strips.white == whole.white
    assert np.array_equal(strips.values, whole.values) and strips.values.dtype == whole.values.dtype
    assert (whole.alpha is None) == (mode not in ("LA", "P", "RGBA", "deep RGBA"))
    assert np.array_equal(strips.alpha, whole.alpha) if whole.alpha is not None else strips.alpha is None
    gray = pillow.read(path, gray=True)
    assert np.array_equal(gray.pixels(1), whole.pixels(1))
    rows = whole.rows(2, 5)
    assert np.array_equal(rows.values, whole.values[2:5]) and np.array_equal(rows.pixels(1), whole.pixels(1)[2:5])


def test_postscript_is_not_run_whatever_its_name(tmp_path):
    """Pillow would hand it to Ghostscript."""
    path = tmp_path / "photo.png"
    Image.new("L", (8, 8)).save(path, format="EPS")
    with pytest.raises(UnidentifiedImageError, match="is PostScript, which is not run"), pillow.opened(path):
        pass
