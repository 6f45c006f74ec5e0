"""A folder of restored images is scored at full depth, and whatever does not match is said."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from evaluation_cases import camera, pair
from PIL import Image

from irnas_ray.evaluation.external import evaluate_restored, match_files, read_restored
from irnas_ray.evaluation.protocols import get_protocol
from irnas_ray.evaluation.scores import evaluate, save_pictures


def _deep(channels: int) -> np.ndarray:
    shape = (5, 7, 3) if channels == 3 else (5, 7)
    return np.random.default_rng(0).integers(0, 2**16, shape).astype(np.uint16)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _write_deep_png(path, pixels: np.ndarray) -> None:
    """A 16-bit RGB PNG, which Pillow cannot write; every other line as differences to the line above."""
    height, width = pixels.shape[:2]
    lines = pixels.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    rows = [bytes([2 * (y % 2), *((lines[y] - lines[y - 1] * (y % 2)) % 256)]) for y in range(height)]
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(b"".join(rows))), _chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_a_folder_scores_as_the_method_that_made_it(tmp_path):
    images = [camera("test/a"), camera("test/b", (40, 44))]
    expected = evaluate(lambda degraded: degraded * 0.5 + 0.2, images, "images-gray", 20.0, pictures=tmp_path / "ours")
    seen = {}
    found = evaluate_restored(tmp_path / "ours", images, "images-gray", 20.0, keep=seen.__setitem__)
    assert (found.method, found.protocol, found.sigma) == ("ours", "images-gray", 20.0)
    for one, other in zip(found.scores, expected.scores, strict=True):
        # 8 bit adds an error of 1 / 255 / sqrt(12), far below that of the method
        assert one.psnr == pytest.approx(other.psnr, abs=0.02) and one.ssim == pytest.approx(other.ssim, abs=0.01)
        assert np.isnan(one.seconds)
    assert list(seen) == ["test/a", "test/b"] and found.to_dict()["seconds"] is None


def test_paired_protocols_score_folders_too(tmp_path):
    Image.fromarray(pair().clean.transpose(1, 2, 0).copy()).save(tmp_path / "pair.bmp")
    found = evaluate_restored(tmp_path, [pair()], get_protocol("pairs-rgb"), 50.0, "copy")
    assert found.psnr == np.inf and found.sigma is None and found.method == "copy"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["png", "tif", "big-endian.tif"])
def test_sixteen_bits_are_kept(tmp_path, channels, kind):
    pixels, path = _deep(channels), tmp_path / f"x.{kind}"
    if kind == "png":
        _write_deep_png(path, pixels) if channels == 3 else Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels, byteorder=">" if "big" in kind else "<")
    expected = np.atleast_3d(pixels).transpose(2, 0, 1)
    read = read_restored(path, channels)
    np.testing.assert_array_equal(np.rint(read.double().numpy() * 65535), expected)
    assert read.max() <= 1


def test_alpha_palettes_and_gray_stored_as_colour_are_read(tmp_path):
    gray = (_deep(1) >> 8).astype(np.uint8)
    forms = {"L": gray, "RGB": np.stack([gray] * 3, 2), "RGBA": np.stack([gray] * 4, 2), "LA": np.stack([gray] * 2, 2)}
    for mode, pixels in forms.items():
        Image.fromarray(pixels, mode).save(tmp_path / f"{mode}.png")
    Image.fromarray(gray).convert("P").save(tmp_path / "P.png")
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal((read_restored(path, 1)[0] * 255).round().numpy(), gray)


def test_names_with_and_without_folders_match(tmp_path):
    for name in ("test/6.png", "7.tif", "notes.txt", "extra.png", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = match_files(tmp_path, ["test/6", "test/7"])
    assert {key: path.relative_to(tmp_path).as_posix() for key, path in found.items()} == {
        "test/6": "test/6.png",
        "test/7": "7.tif",
    }


@pytest.mark.parametrize("nested", [True, False])
def test_names_match_however_accents_are_stored(tmp_path, nested):
    nfc, nfd = "d\u00e9j\u00e0", "de\u0301ja\u0300"
    for stored, asked in ((nfc, nfd), (nfd, nfc)):
        path = tmp_path / stored / (f"{stored}/{stored}.png" if nested else f"{stored}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert match_files(tmp_path / stored, [f"{asked}/{asked}"]) == {f"{asked}/{asked}": path}
    (path.parent / f"{nfc}.png").touch()
    with pytest.raises(ValueError, match="are all"):
        match_files(tmp_path / nfd, [f"{nfc}/{nfc}"])


def test_files_that_do_not_match_are_named(tmp_path, caplog):
    for name in ("1.png", "1.tif", "2.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match="1.png, 1.tif are all 1"):
        match_files(tmp_path, ["1"])
    with pytest.raises(ValueError, match="no file for 2 of 3 images: 3, 4; .*it holds 1, 2"):
        match_files(tmp_path, ["2", "3", "4"])
    # 2.png could be either
    with pytest.raises(ValueError, match="no file for 2 of 2"):
        match_files(tmp_path, ["a/2", "b/2"])
    with pytest.raises(ValueError, match="no such folder"):
        match_files(tmp_path / "none", ["1"])
    with caplog.at_level("INFO"):
        match_files(tmp_path, ["2"])
    assert "1 files are of no test image" in caplog.text


def test_pictures_that_do_not_fit_are_named(tmp_path):
    image = camera("x")
    save_pictures(tmp_path / "half", {"x": get_protocol("bsd200-gray-half").degrade(image.clean, "x", 0.0)[0]})
    with pytest.raises(ValueError, match="x.png is 24x30 .*bsd200-gray-full scores x at 48x60"):
        evaluate_restored(tmp_path / "half", [image], "bsd200-gray-full", 50.0)
    assert evaluate_restored(tmp_path / "half", [image], "bsd200-gray-half", 50.0).psnr == np.inf
    Image.fromarray(pair().clean.transpose(1, 2, 0).copy()).save(tmp_path / "colour.png")
    with pytest.raises(ValueError, match="colour.png is RGB, but the protocol scores gray"):
        read_restored(tmp_path / "colour.png", 1)
    Image.fromarray(pair().clean[0]).save(tmp_path / "gray.png")
    with pytest.raises(ValueError, match="gray.png is gray, but the protocol scores RGB"):
        read_restored(tmp_path / "gray.png", 3)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="broken.png: cannot be read"):
        read_restored(tmp_path / "broken.png", 1)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match="float.tif: has 32 bits a channel .*convert it to unsigned 16 bits"):
        read_restored(tmp_path / "float.tif", 1)
