"""The camera's filters against direct formulas, and the bilateral grid against the exact filter."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage import data

from irnas_ray.degradations.bilateral import EXACT_SIGMA, bilateral, bilateral_grid
from irnas_ray.degradations.filters import gaussian_blur, jpeg, plus_median, unsharp_mask


def images(count: int = 2, channels: int = 3, size: int = 20, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(count, channels, size, size + 3, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_median_is_that_of_a_plus():
    image = images()
    plus = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    expected = [
        [ndimage.median_filter(p, footprint=plus, mode="nearest") for p in picture] for picture in image.numpy()
    ]
    np.testing.assert_array_equal(plus_median(image).numpy(), np.array(expected))


def test_blur_and_unsharp_mask_are_scipys():
    image, sigma, threshold = images(), 4.0, 3 / 255
    blurred = [
        [ndimage.gaussian_filter(p, sigma, mode="nearest", truncate=3) for p in picture] for picture in image.numpy()
    ]
    np.testing.assert_allclose(gaussian_blur(image, sigma).numpy(), np.array(blurred), atol=1e-12)
    detail = image.numpy() - np.array(blurred)
    amount = torch.tensor([0.2, 0.0])
    expected = image.numpy() + amount.numpy()[:, None, None, None] * np.where(abs(detail) > threshold, detail, 0)
    np.testing.assert_allclose(unsharp_mask(image, amount, sigma, threshold).numpy(), expected, atol=1e-8)
    flat = torch.full((1, 1, 3, 40), 0.4)
    torch.testing.assert_close(unsharp_mask(flat, torch.tensor([0.25]), sigma, threshold), flat)


def test_jpeg_is_pillows_with_each_images_own_quality():
    picture = data.astronaut()[:37, 100:150]
    batch = torch.from_numpy(picture.transpose(2, 0, 1) / 255).float().expand(2, -1, -1, -1)
    squeezed = jpeg(batch, torch.tensor([20, 95]))
    for index, quality in enumerate((20, 95)):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, format="JPEG", quality=quality, subsampling="4:2:0")
        np.testing.assert_array_equal(
            (squeezed[index] * 255).round().byte().permute(1, 2, 0), np.asarray(Image.open(file))
        )
    assert (squeezed[0] - batch[0]).square().mean() > 2 * (squeezed[1] - batch[1]).square().mean()


def plain_bilateral(
    values: torch.Tensor, guide: torch.Tensor, spatial: float, tonal: float, cut: float
) -> torch.Tensor:
    """Every pixel against every other."""
    height, width = guide.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([y, x], dim=-1).reshape(-1, 2).double()
    distance = (places[:, None] - places).square().sum(-1)
    differs = (guide.reshape(-1, 1) - guide.reshape(-1)).square()
    weight = torch.exp(-distance / (2 * spatial**2) - differs / (2 * tonal**2))
    weight = weight * (distance <= (cut * spatial) ** 2)
    return ((values.flatten(1) @ weight.T) / weight.sum(1)).view(values.shape)


def test_the_small_filter_is_exact_whatever_else_is_in_the_batch():
    values, guide = images(3, 2), images(3, 1)
    spatial, tonal = torch.tensor([0.5, 2.0, EXACT_SIGMA]).double(), torch.tensor([0.03, 0.2, 0.1]).double()
    together = bilateral(values, guide, spatial, tonal)
    for index in range(3):
        own = slice(index, index + 1)
        expected = plain_bilateral(values[index], guide[index, 0], spatial[index].item(), tonal[index].item(), 3)
        torch.testing.assert_close(together[index], expected, atol=1e-10, rtol=0)
        alone = bilateral(values[own], guide[own], spatial[own], tonal[own])
        torch.testing.assert_close(alone[0], together[index], atol=1e-14, rtol=0)


@pytest.mark.parametrize(("spatial", "tonal"), [(3.5, 0.04), (8.0, 0.15), (64.0, 0.04), (64.0, 0.15)])
def test_the_grid_is_near_the_exact_filter(spatial, tonal):
    picture = torch.from_numpy(data.astronaut()[40:72, 190:220].transpose(2, 0, 1) / 255)
    guide = picture.mean(dim=0)
    values = picture[:2] + 0.1 * torch.randn(2, 32, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = plain_bilateral(values, guide, spatial, tonal, 100)
    error = (bilateral_grid(values, guide, spatial, tonal) - expected).square().mean().sqrt()
    changed = (values - expected).square().mean().sqrt()
    assert error < 0.0012 and changed > 0.08


def test_the_grid_takes_flat_and_narrow_images():
    flat = torch.full((1, 1, 1, 30), 0.5)
    filtered = bilateral(flat, flat, torch.tensor([20.0]), torch.tensor([0.01]))
    torch.testing.assert_close(filtered, flat)
    # two levels that no weight connects: each keeps to itself
    steps = torch.zeros(1, 1, 16, 16)
    steps[..., 8:] = 1
    torch.testing.assert_close(bilateral(steps, steps, torch.tensor([9.0]), torch.tensor([0.03])), steps)
