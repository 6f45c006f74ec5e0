"""Images are reduced and enlarged as MATLAB's imresize does it, pixel by pixel, and rounded to 8 bits in between."""

import numpy as np
import pytest
import torch

from irnas_ray.degradations.downscale import BicubicDownscaling, enlarged, reduced
from irnas_ray.settings.degradations import Downscale


def kernel(distance: float) -> float:
    """Keys 1981 with a = -1/2."""
    x = abs(distance)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def plain(line: np.ndarray, size: int, scale: float) -> np.ndarray:
    """A line of pixels resized: the kernel is as wide as a new pixel where that is the wider one; borders mirror."""
    narrow, result = min(scale, 1.0), np.zeros(size)
    for place in range(size):
        centre, total = (place + 0.5) / scale - 0.5, 0.0
        for index in range(int(centre - 2 / narrow) - 2, int(centre + 2 / narrow) + 3):
            weight = kernel(narrow * (centre - index))
            mirrored = index % (2 * len(line))
            result[place] += weight * line[min(mirrored, 2 * len(line) - 1 - mirrored)]
            total += weight
        result[place] /= total
    return result


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("size", [(12, 24), (7, 9), (3, 5), (1, 1)])
def test_both_ways_are_the_plain_sum_over_the_kernel(size, factor):
    image = np.random.default_rng(0).random(size)
    tensor = torch.from_numpy(image)[None, None].expand(2, 3, -1, -1)
    low = [-(-side // factor) for side in size]
    for made, sizes, scale in (
        (reduced(tensor, factor), low, 1 / factor),
        (enlarged(tensor, factor), [factor * side for side in size], factor),
    ):
        rows = np.stack([plain(row, sizes[1], scale) for row in image])
        expected = np.stack([plain(column, sizes[0], scale) for column in rows.T], axis=1)
        assert made.shape == (2, 3, *sizes)
        np.testing.assert_allclose(made[1, 2].numpy(), expected, atol=1e-13)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_degradation_is_a_small_image_of_8_bits_enlarged(factor):
    degrade, generator = BicubicDownscaling(Downscale(factor)), torch.Generator()
    clean = torch.rand(2, 1, 13, 24)
    degraded = degrade(clean, generator)
    small = (reduced(clean, factor).clamp(0, 1) * 255).round() / 255
    torch.testing.assert_close(degraded, enlarged(small, factor)[..., :13, :24], rtol=0, atol=0)
    assert degraded.shape == clean.shape and not torch.equal(degraded, enlarged(reduced(clean, factor), factor))
    torch.testing.assert_close(degrade(clean[1:], generator), degraded[1:])
    # what is even stays so, up to the borders
    even = torch.full((1, 3, 6, 7), 100 / 255)
    torch.testing.assert_close(degrade(even, generator), even)


def test_turned_and_mirrored_images_are_degraded_alike():
    """Training turns and mirrors crops before they are degraded."""
    degrade, generator = BicubicDownscaling(Downscale(3)), torch.Generator()
    clean = torch.rand(1, 1, 12, 12, dtype=torch.float64)
    for turn in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2)):
        torch.testing.assert_close(degrade(turn(clean), generator), turn(degrade(clean, generator)))


@pytest.mark.parametrize("factor", [0, 1, 5])
def test_impossible_factors_are_named(factor):
    with pytest.raises(ValueError, match=rf"downscale.factor: {factor}; possible: 2, 3, 4"):
        BicubicDownscaling(Downscale(factor))
