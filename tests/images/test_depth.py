"""What 8 and 16 bits hold: steps between files, pixels and [0, 1] against exact arithmetic, for every value."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from picture_cases import save, scene, write_deep_png

from irnas_ray.images import samples
from irnas_ray.images.depth import Depth, unit_range
from irnas_ray.images.files import read_header, read_image
from irnas_ray.images.samples import Samples
from irnas_ray.images.scenes import thumbnail

BYTES, WORDS = (np.arange(2**bits, dtype=f"u{bits // 8}") for bits in (8, 16))


def rounded(values: np.ndarray, white: int, depth: Depth) -> list[int]:
    """The definition: the nearest of equally spaced values, the upper one of two."""
    return [int(Fraction(int(value) * depth.white, white) + Fraction(1, 2)) for value in values]


@pytest.mark.parametrize("white", [1, 255, 1023, 4095, 32767, 40000, 65535])
def test_values_of_any_white_become_the_nearest_pixels(white):
    values = np.unique(np.linspace(0, white, 3001).astype(np.uint16))
    for depth in Depth:
        assert depth.nearest(values, white).tolist() == rounded(values, white, depth)
        both = depth.nearest(np.stack([values, values], axis=1), np.array([white, 65535], np.uint32))
        assert both.T.tolist() == [rounded(values, top, depth) for top in (white, 65535)]


def test_8_bits_are_kept_by_16_and_are_the_same_numbers():
    words = Depth.SIXTEEN.nearest(BYTES)
    assert words.dtype == np.uint16 and np.array_equal(words, BYTES.astype(int) * 257)
    assert np.array_equal(Depth.EIGHT.nearest(words), BYTES) and Depth.EIGHT.nearest(BYTES) is BYTES
    assert np.array_equal(unit_range(words), unit_range(BYTES))


@pytest.mark.parametrize("values", [BYTES, WORDS], ids=["8 bits", "16 bits"])
def test_all_values_are_told_apart_in_the_unit_range_and_come_back(values):
    exact = (values.astype(np.float64) / int(values[-1])).astype(np.float32)
    unit, depth = unit_range(values), Depth.of(values)
    assert unit.dtype == np.float32 and np.array_equal(unit, exact) and len(np.unique(unit)) == len(values)
    assert torch.equal(unit_range(torch.from_numpy(values)), torch.from_numpy(exact))
    assert np.array_equal(depth.quantised(unit), values) and depth.quantised(unit).dtype == values.dtype
    assert depth.quantised(np.array([-0.1, 1.1, np.inf])).tolist() == [0, depth.white, depth.white]


def test_other_kinds_of_pixels_have_no_depth():
    for wrong in (np.zeros(2), np.zeros(2, np.int16), torch.zeros(2), np.zeros(2, bool)):
        with pytest.raises(ValueError, match="pixels must be uint8 or uint16, got"):
            unit_range(wrong)
    with pytest.raises(ValueError, match="bits: 12; it must be 8 or 16"):
        read_image("x.png", "gray", bits=12)


def test_gray_of_deep_colours_is_the_luma_of_itu_r_601():
    colors = np.random.default_rng(0).integers(0, 65536, (64, 64, 3), dtype=np.uint16)
    luma = colors.astype(float) @ [0.299, 0.587, 0.114]
    assert abs(samples.luma(colors) - luma).max() <= 0.5 + 65535 * 2e-5  # weights of 16 bits
    neutral = np.repeat(WORDS.reshape(256, 256, 1), 3, axis=2)
    assert np.array_equal(samples.luma(neutral), neutral[:, :, 0])


@pytest.mark.parametrize("color", ["gray", "rgb"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_deep_files_are_read_without_loss(tmp_path, color, suffix):
    values = np.random.default_rng(1).permutation(WORDS)[: 40 * 30 * 3].reshape(40, 30, 3)
    values = values if color == "rgb" else values[:, :, :1]
    path = tmp_path / f"deep{suffix}"
    if suffix == ".png":
        write_deep_png(path, values, 2 if color == "rgb" else 0)
    else:
        tifffile.imwrite(path, values.squeeze(), photometric="rgb" if color == "rgb" else "minisblack")
    for bits in (16, None):
        assert np.array_equal(read_image(path, color, bits), values)
    assert np.array_equal(read_image(path, color), Depth.EIGHT.nearest(values))
    assert read_header(path).depth is Depth.SIXTEEN and read_header(path).notices == ()


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_a_file_of_8_bits_is_scaled_by_257(tmp_path: Path, color: str):
    save(tmp_path / "plain.png", scene(0))
    plain = read_image(tmp_path / "plain.png", color)
    assert np.array_equal(read_image(tmp_path / "plain.png", color, 16), plain.astype(int) * 257)
    assert np.array_equal(read_image(tmp_path / "plain.png", color, None), plain)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_scene_is_recognised_alike_at_both_depths(channels: int):
    picture = scene(0, channels=channels).transpose(2, 0, 1)
    smooth = np.full_like(picture, 100) + (np.arange(64) // 32).astype(np.uint8)
    for pixels in (picture, smooth):
        plain, deep = thumbnail(pixels), thumbnail(pixels.astype(np.uint16) * 257)
        assert (plain is None and deep is None) if pixels is smooth else np.array_equal(plain, deep)


def test_fewer_significant_bits_are_stretched_to_either_depth():
    values = np.array([[0, 1, 15, 31]], np.uint8)
    samples = Samples(values, np.array([31], np.uint32))
    assert samples.pixels(1).tolist() == [[0, 8, 123, 255]]
    assert samples.pixels(1, Depth.SIXTEEN).tolist() == [[0, 8 * 257, 123 * 257, 65535]]
