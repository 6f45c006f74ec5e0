"""Reading and writing of image files: every kind of file either gives the right pixels or a clear error."""

import os
import unicodedata
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from irnas_ray.images import files as images


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_lists_images_in_natural_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("10.png", "2.PNG", "1.jpg", "._1.jpg", "notes.txt", "a3.tif"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images.list_images(tmp_path)] == ["1.jpg", "2.PNG", "10.png", "a3.tif"]


def test_order_does_not_depend_on_how_accents_are_stored(tmp_path: Path) -> None:
    """On which images are held out, or the first of them, depends."""
    orders = []
    for form in ("NFC", "NFD"):
        (tmp_path / form).mkdir()
        for name in ("\u00e92", "f1", "e10", "\u00e910"):
            (tmp_path / form / f"{unicodedata.normalize(form, name)}.png").touch()
        listed = images.list_images(tmp_path / form)
        orders.append([unicodedata.normalize("NFC", path.stem) for path in listed])
    assert orders[0] == orders[1] == ["e10", "f1", "\u00e92", "\u00e910"]


def test_names_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.txt")).touch()
    assert len(images.list_images(tmp_path)) == 1
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.png")).touch()
    with pytest.raises(ValueError, match=r"caf\\xe9.png': this name is not UTF-8; rename"):
        images.list_images(tmp_path)
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/d\xe9j\xe0"))
    folder.mkdir()
    (folder / "a.png").touch()
    with pytest.raises(ValueError, match=r"d\\xe9j\\xe0/a.png': this name is not UTF-8"):
        images.list_images(folder)


def test_a_file_that_is_no_image_is_named_in_plain_words(tmp_path: Path) -> None:
    for name, content in {"empty.png": b"", "text.jpg": b"no image", "zeros.tif": bytes(99)}.items():
        (tmp_path / name).write_bytes(content)
        for read in (images.read_header, partial(images.read_image, color="gray")):
            with pytest.raises(ValueError, match=f"{name}: cannot be read as an image") as caught:
                read(tmp_path / name)
            assert not any(word in str(caught.value) for word in ("<", "_io", "0x"))


@given(names=st.lists(st.from_regex(r"[a-c0-9²]{1,6}", fullmatch=True), min_size=1, unique=True))
def test_natural_order_is_a_total_order(names: list[str]) -> None:
    paths = [Path(f"{name}.png") for name in names]
    assert sorted(paths, key=images.natural_key) == sorted(reversed(paths), key=images.natural_key)


def test_listing_says_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file.png").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    for name, expected in {
        "absent": "no such folder",
        "file.png": "not a folder",
        "empty": r"no image.*\.png",
        "outer": "inner",
    }.items():
        with pytest.raises(ValueError, match=f"{name}.*{expected}"):
            images.list_images(tmp_path / name)


def test_reads_rgb_without_alpha_and_gray_as_luma(tmp_path: Path) -> None:
    rgba = _noise(5, 7, 4)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    assert np.array_equal(images.read_image(tmp_path / "rgba.png", "rgb"), rgba[:, :, :3])
    luma = rgba[:, :, :3].astype(float) @ [0.299, 0.587, 0.114]
    gray = images.read_image(tmp_path / "rgba.png", "gray")
    assert gray.shape == (5, 7, 1) and gray.dtype == np.uint8
    assert np.abs(gray[:, :, 0] - luma).max() <= 0.51


def test_reads_palette_files_as_the_colors_they_show(tmp_path: Path) -> None:
    picture = Image.fromarray(_noise(6, 6, 3)).quantize(8)
    picture.save(tmp_path / "palette.png")
    assert np.array_equal(images.read_image(tmp_path / "palette.png", "rgb"), np.asarray(picture.convert("RGB")))


def test_honours_exif_orientation_in_pixels_and_header(tmp_path: Path) -> None:
    pixels = _noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(images.read_image(tmp_path / "turned.png", "gray")[:, :, 0], np.rot90(pixels, -1))
    header = images.read_header(tmp_path / "turned.png")
    assert (header.height, header.width, header.gray) == (6, 4, True)


def test_refuses_damaged_deep_and_gray_files_by_name(tmp_path: Path) -> None:
    Image.fromarray(_noise(64, 64)).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    Image.fromarray(_noise(4, 4).astype(np.float32)).save(tmp_path / "deep.tif")
    for name in ("cut.png", "text.jpg", "absent.png", "deep.tif"):
        with pytest.raises(ValueError, match=name):
            images.read_image(tmp_path / name, "gray")
    with pytest.raises(ValueError, match="whole.png: file is gray.*color=gray"):
        images.read_image(tmp_path / "whole.png", "rgb")
    with pytest.raises(ValueError, match="grey"):
        images.read_image(tmp_path / "whole.png", "grey")


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 1), (3, 5, 3)])
def test_written_images_are_clipped_and_rounded_never_wrapped(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).uniform(-0.5, 1.5, shape).astype(np.float32)
    images.write_image(tmp_path / "new" / "out.png", image)
    written = np.asarray(Image.open(tmp_path / "new" / "out.png")).reshape(shape)
    assert np.abs(written / 255.0 - np.clip(image, 0, 1)).max() <= 0.5 / 255 + 1e-6
    assert (written[image < 0] == 0).all() and (written[image > 1] == 255).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.png"]


def test_a_refused_image_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    images.write_image(path, np.full((2, 2), 0.5))
    before = path.read_bytes()
    bad = [np.array([[np.nan, 0.0]]), np.array([[np.inf, 0.0]]), np.zeros((2, 2), np.uint8), np.zeros((2, 2, 4))]
    for image in bad:
        with pytest.raises(ValueError, match="out.png"):
            images.write_image(path, image)
    with pytest.raises(ValueError, match="PNG"):
        images.write_image(tmp_path / "out.jpg", np.zeros((2, 2)))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
