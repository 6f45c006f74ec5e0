"""Blur is a convolution with the kernel that was drawn, and the noise has its level."""

import dataclasses

import numpy as np
import pytest
import torch

from irnas_ray.degradations.blur import BlurDraws, BlurWithNoise
from irnas_ray.settings.degradations import Blur


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(blur: BlurWithNoise, clean: torch.Tensor, **values: float | bool) -> BlurDraws:
    """Draws for a batch, with some of them fixed."""
    fixed = {name: torch.full((len(clean),), value) for name, value in values.items()}
    return dataclasses.replace(blur.draw(clean, generator()), **fixed)


def plain_convolution(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Pixel by pixel; what lies outside is the nearest pixel."""
    reach = len(kernel) // 2
    result = np.zeros_like(image)
    for row, column in np.ndindex(image.shape):
        for down, right in np.ndindex(kernel.shape):
            y = min(max(row + down - reach, 0), image.shape[0] - 1)
            x = min(max(column + right - reach, 0), image.shape[1] - 1)
            result[row, column] += kernel[down, right] * image[y, x]
    return result


def test_each_image_is_convolved_with_its_own_kernel():
    blur = BlurWithNoise(Blur(sigma=[0.5, 1.2], length=[2, 5]))
    clean = torch.rand(4, 3, 6, 7, dtype=torch.float64)
    draws = dataclasses.replace(drawn(blur, clean, noise=0.0), moved=torch.tensor([True, False, True, False]))
    blurred, kernels = blur.apply(clean, draws), blur.kernels(draws).double().numpy()
    for index, channel in np.ndindex(4, 3):
        expected = plain_convolution(clean[index, channel].numpy(), kernels[index])
        np.testing.assert_allclose(blurred[index, channel].numpy(), expected, atol=1e-6)
    for index in range(4):
        alone = BlurDraws(**{name: value[index : index + 1] for name, value in vars(draws).items()})
        torch.testing.assert_close(blur.apply(clean[index : index + 1], alone)[0], blurred[index])


def test_kernels_are_lines_and_gaussians():
    blur, clean = BlurWithNoise(Blur(length=[3, 9])), torch.zeros(1, 1, 4, 4)
    centre = blur.reach
    across, upwards, diagonal = (
        blur.kernels(drawn(blur, clean, moved=True, length=5.0, angle=angle))[0] for angle in (0.0, 90.0, 45.0)
    )
    torch.testing.assert_close(across[centre, centre - 3 : centre + 4], torch.tensor([0, 1, 1, 1, 1, 1, 0]) / 5)
    torch.testing.assert_close(across.T, upwards, atol=1e-6, rtol=0)
    # 45 degrees rise to the right
    assert diagonal[centre - 1, centre + 1] > 0.1 and diagonal[centre + 1, centre + 1] < 0.01
    gaussian = blur.kernels(drawn(blur, clean, moved=False, sigma=1.5))[0]
    ramp = torch.arange(-centre, centre + 1)
    spread = (gaussian.sum(dim=0) * ramp**2).sum().sqrt()
    assert abs(spread - 1.5) < 0.02
    for kernel in (across, diagonal, gaussian):
        assert abs(kernel.sum() - 1) < 1e-5 and kernel.min() >= 0


def test_both_ways_and_all_levels_of_noise_occur():
    blur = BlurWithNoise(Blur(motion=0.25, noise=[5, 15]))
    flat = torch.full((400, 1, 20, 20), 0.5)
    draws = blur.draw(flat, generator())
    assert 70 < draws.moved.sum() < 130
    measured = 255 * (blur.apply(flat, draws) - flat).flatten(1).std(dim=1)
    assert abs((measured / draws.noise).mean() - 1) < 0.01
    assert measured.min() < 6 and measured.max() > 14


@pytest.mark.parametrize(
    "wrong",
    [{"motion": 1.5}, {"sigma": [0, 1]}, {"length": [5, 3]}, {"noise": [-1, 2]}, {"length": [3, float("inf")]}],
    ids=str,
)
def test_impossible_settings_are_named(wrong):
    with pytest.raises(ValueError, match=f"blur.{next(iter(wrong))}: "):
        BlurWithNoise(Blur(**wrong))
