"""PSNR, SSIM and luma agree with scikit-image and with hand-made values."""

import math

import numpy as np
import pytest
import torch
from skimage import color, data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from irnas_ray.evaluation import metrics
from irnas_ray.evaluation.metrics import luma, psnr, ssim


def _images(channels: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Two photographs, one of them degraded twice: (3, channels, 60, 83)."""
    photograph = torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1)[:channels].to(torch.float64) / 255
    clean = torch.stack([photograph[:, 100:160, 150:233], photograph[:, 30:90, 200:283], photograph[:, :60, :83]])
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (clean + torch.tensor([0.1, 0.3, 0.02]).view(3, 1, 1, 1) * noise).to(dtype), clean.to(dtype)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ssim_equals_scikit_image(channels, dtype):
    prediction, target = _images(channels, dtype)
    expected = [
        structural_similarity(
            x.numpy(),
            y.numpy(),
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
        )
        for x, y in zip(prediction.double(), target.double(), strict=True)
    ]
    assert max(expected) - min(expected) > 0.3
    actual = ssim(prediction, target)
    assert actual.shape == (3,) and actual.dtype == dtype
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-7 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_equals_scikit_image(channels):
    prediction, target = _images(channels)
    expected = [
        peak_signal_noise_ratio(y.numpy(), x.numpy(), data_range=1) for x, y in zip(prediction, target, strict=True)
    ]
    np.testing.assert_allclose(psnr(prediction, target).numpy(), expected, rtol=1e-5)


def test_identical_images():
    _, target = _images(3)
    assert psnr(target, target).tolist() == [math.inf] * 3
    torch.testing.assert_close(ssim(target, target), torch.ones(3))
    flat = torch.full((1, 1, 11, 11), 0.5)
    torch.testing.assert_close(ssim(flat, flat), torch.ones(1))


@pytest.mark.parametrize("border", metrics.BORDERS)
@pytest.mark.parametrize("size", [(11, 11), (64, 64), (96, 97)])
def test_flat_images_have_the_ssim_of_their_levels(border, size):
    """Single precision gives 1.000125 for white beside 254, because its variances are rounding near c2."""
    for one, other in [(1.0, 1.0), (0.7, 0.7), (1.0, 254 / 255), (1.0, 0.9), (1.0, 0.5), (1.0, 0.0), (0.0, 0.0)]:
        value = ssim(torch.full((1, 1, *size), one), torch.full((1, 1, *size), other), border).item()
        assert value <= 1 + 1e-6
        if border == "cropped":
            assert value == pytest.approx((2 * one * other + 1e-4) / (one**2 + other**2 + 1e-4), abs=1e-6)
        elif one == other:
            assert value == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_zero_padded_ssim_counts_a_window_around_every_pixel(channels):
    """Against equation 13 of Wang et al. 2004, pixel by pixel, with zeros beyond the border."""
    prediction, target = _images(channels, torch.float64)
    place = np.arange(-5, 6)
    weight = np.exp(-(place[:, None] ** 2 + place**2) / (2 * 1.5**2))
    weight /= weight.sum()
    expected = []
    for x, y in zip(prediction.numpy(), target.numpy(), strict=True):
        values = []
        for one, other in zip(x, y, strict=True):
            one, other = np.pad(one, 5), np.pad(other, 5)
            for top, left in np.ndindex(*target.shape[-2:]):
                a, b = (image[top : top + 11, left : left + 11] for image in (one, other))
                mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
                variances = (weight * ((a - mean_a) ** 2 + (b - mean_b) ** 2)).sum()
                covariance = (weight * (a - mean_a) * (b - mean_b)).sum()
                luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
                values.append(luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2))
        expected.append(np.mean(values))
    np.testing.assert_allclose(ssim(prediction, target, "zero_padded").numpy(), expected, atol=1e-12)
    assert (ssim(prediction, target, "zero_padded") - ssim(prediction, target)).abs().min() > 1e-3


def test_an_unknown_border_is_refused(unannotated):
    with pytest.raises(ValueError, match="ssim: 'reflected'; possible: cropped, zero_padded"):
        ssim(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16), "reflected")


def test_a_loss_gets_the_same_value_and_gradient_in_single_precision():
    prediction, target = (image.requires_grad_(index == 0) for index, image in enumerate(_images(1)))
    exact, fast = ssim(prediction, target), metrics.fast_ssim(prediction, target)
    torch.testing.assert_close(fast, exact, atol=1e-5, rtol=0)
    gradients = [torch.autograd.grad(value.sum(), prediction)[0] for value in (exact, fast)]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-3)


def test_ssim_has_the_gradient_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    prediction = torch.rand(2, 1, 11, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 1, 11, 12, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: ssim(x, target), prediction)


def test_half_precision_and_autocast_do_not_spoil_the_scores():
    prediction, target = _images(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ssim(prediction, target), ssim(*_images(1)), atol=1e-6, rtol=0)
    rounded = prediction.bfloat16()
    torch.testing.assert_close(ssim(rounded, target), ssim(rounded.float(), target))
    torch.testing.assert_close(psnr(rounded, target), psnr(rounded.float(), target))


def test_ssim_can_be_trained_on_after_a_score_in_inference_mode():
    prediction, target = (image.to(torch.float64) for image in _images(1))
    metrics._window.cache_clear()
    with torch.inference_mode():
        ssim(prediction, target)
    prediction.requires_grad_()
    ssim(prediction, target).sum().backward()
    assert prediction.grad is not None and prediction.grad.abs().sum() > 0


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_different_shapes_are_refused(metric, unannotated):
    with pytest.raises(ValueError, match="shapes differ"):
        metric(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 17))
    with pytest.raises(ValueError, match="shapes differ"):
        metric(torch.rand(2, 1, 16, 16), torch.rand(1, 1, 16, 16))


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="11x11"):
        ssim(torch.rand(1, 1, 10, 40), torch.rand(1, 1, 10, 40))
    assert psnr(torch.rand(1, 1, 1, 1), torch.rand(1, 1, 1, 1)).shape == (1,)


def test_luma_equals_scikit_image():
    rgb = torch.from_numpy(data.astronaut()[:20, :30].copy()).double() / 255
    expected = color.rgb2ycbcr(rgb.numpy())[..., 0] / 255
    np.testing.assert_allclose(luma(rgb.permute(2, 0, 1)[None])[0, 0].numpy(), expected, atol=1e-12)
    ends = luma(torch.stack([torch.zeros(3, 1, 1), torch.ones(3, 1, 1)])) * 255
    torch.testing.assert_close(ends.flatten(), torch.tensor([16.0, 235.0]))
