"""Mosaic and demosaicing pixel by pixel, and colour spaces against their formulas."""

import math

import numpy as np
import pytest
import torch
from skimage import color, data

from irnas_ray.degradations.colors import linear_to_srgb, luma601, rgb_to_yuv, srgb_to_linear, to_bits, yuv_to_rgb
from irnas_ray.degradations.mosaic import bayer_masks, demosaic, mosaic

PHASES = [(down, right) for down in (0, 1) for right in (0, 1)]
PATTERN = ("GR", "BG")


def rgb_of(height: int = 9, width: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def colour_at(y: int, x: int, phase: tuple[int, int]) -> int:
    return "RGB".index(PATTERN[(y + phase[0]) % 2][(x + phase[1]) % 2])


@pytest.mark.parametrize("phase", PHASES)
def test_each_pixel_measures_the_colour_of_its_place(phase):
    rgb = rgb_of()
    raw = mosaic(rgb, torch.tensor([phase]))[0, 0]
    for y in range(9):
        for x in range(8):
            assert raw[y, x] == rgb[0, colour_at(y, x, phase), y, x]
    assert (bayer_masks(torch.tensor([phase]), 9, 8).sum(dim=1) == 1).all()


def plain_demosaic(raw: np.ndarray, phase: tuple[int, int]) -> np.ndarray:
    """Pixel by pixel, on a mosaic that is reflected at its borders."""
    height, width = raw.shape
    big = np.pad(raw, 3, mode="reflect")
    parity = (phase[0] + 3) % 2, (phase[1] + 3) % 2  # of the padded mosaic's first pixel
    green = big.copy()
    for y in range(1, height + 5):
        for x in range(1, width + 5):
            if colour_at(y, x, parity) != 1:
                left, right, up, down = big[y, x - 1], big[y, x + 1], big[y - 1, x], big[y + 1, x]
                across, along = abs(left - right), abs(up - down)
                green[y, x] = (left + right) / 2 if across < along else (up + down) / 2
                green[y, x] = (left + right + up + down) / 4 if across == along else green[y, x]
    rgb = np.empty((3, height, width))
    for y in range(3, height + 3):
        for x in range(3, width + 3):
            for channel in (0, 1, 2):
                near = [
                    (v, u) for v in (y - 1, y, y + 1) for u in (x - 1, x, x + 1) if colour_at(v, u, parity) == channel
                ]
                if colour_at(y, x, parity) == channel:
                    near = [(y, x)]
                difference = np.mean([big[place] - green[place] for place in near])
                rgb[channel, y - 3, x - 3] = green[y, x] + (difference if channel != 1 else 0)
    return rgb


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("size", [(9, 8), (6, 7), (2, 2), (2, 5)])
def test_demosaicing_is_what_it_says_at_every_pixel(phase, size):
    if min(size) < 4:
        # reflecting by three pixels needs four; small images are covered by their flat case
        flat = torch.full((1, 1, *size), 0.3, dtype=torch.float64)
        assert torch.equal(demosaic(flat, torch.tensor([phase])), flat.expand(-1, 3, -1, -1))
        return
    raw = mosaic(rgb_of(*size), torch.tensor([phase]))
    np.testing.assert_allclose(
        demosaic(raw, torch.tensor([phase]))[0].numpy(), plain_demosaic(raw[0, 0].numpy(), phase), atol=1e-14
    )


@pytest.mark.parametrize("phase", PHASES)
def test_a_flat_patch_comes_back_exactly(phase):
    gray = torch.full((1, 3, 7, 10), 0.1)
    assert torch.equal(demosaic(mosaic(gray, torch.tensor([phase])), torch.tensor([phase])), gray)
    colour = torch.tensor([0.9, 0.3, 0.2]).view(1, 3, 1, 1).expand(1, 3, 7, 10)
    back = demosaic(mosaic(colour, torch.tensor([phase])), torch.tensor([phase]))
    torch.testing.assert_close(back, colour, rtol=0, atol=1e-7)


def test_images_of_a_batch_keep_their_own_phase():
    rgb = torch.cat([rgb_of(seed=index) for index in range(4)])
    phases = torch.tensor(PHASES)
    together = demosaic(mosaic(rgb, phases), phases)
    for index in range(4):
        own = phases[index : index + 1]
        assert torch.equal(together[index], demosaic(mosaic(rgb[index : index + 1], own), own)[0])
    with pytest.raises(ValueError, match="2x2"):
        demosaic(torch.zeros(1, 1, 1, 4), phases[:1])


def test_linear_light_is_that_of_the_standard():
    values = torch.linspace(0, 1, 2001, dtype=torch.float64)
    expected = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in values.tolist()]
    torch.testing.assert_close(srgb_to_linear(values), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(values)), values, rtol=0, atol=1e-7)
    assert linear_to_srgb(torch.tensor([1.0])).item() == pytest.approx(1)
    shown = torch.from_numpy(data.astronaut()[:4, :4].transpose(2, 0, 1) / 255)
    xyz = color.rgb2xyz(shown.numpy().transpose(1, 2, 0))
    # scikit-image's Y is that of linear light (BT.709 weights)
    weights = torch.tensor([0.212671, 0.715160, 0.072169], dtype=torch.float64).view(3, 1, 1)
    np.testing.assert_allclose((srgb_to_linear(shown) * weights).sum(0).numpy(), xyz[..., 1], atol=1e-5)


def test_yuv_is_that_of_scikit_image_and_comes_back():
    rgb = rgb_of(16, 16)
    expected = color.rgb2yuv(rgb[0].numpy().transpose(1, 2, 0)).transpose(2, 0, 1)
    np.testing.assert_allclose(rgb_to_yuv(rgb)[0].numpy(), expected, atol=1e-3)
    torch.testing.assert_close(yuv_to_rgb(rgb_to_yuv(rgb)), rgb)
    torch.testing.assert_close(luma601(rgb), rgb_to_yuv(rgb)[:, :1])


def test_rounding_has_the_promised_levels():
    values = torch.tensor([-0.2, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 1.7])
    assert (to_bits(values, 8) * 255).tolist() == [0, 0, 0, 1, 255, 255]
    many = to_bits(torch.rand(20000), 4)
    assert len(many.unique()) == 16 and math.isclose(many.max().item(), 1)
