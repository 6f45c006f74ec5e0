"""The loss is the paper's, and its gradient is right and finite."""

import pytest
import torch
from torch.nn.functional import mse_loss

from irnas_ray.evaluation.metrics import ssim
from irnas_ray.training.loss import SSIM_FLOOR, restoration_loss


def _batch(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 1, 13, 12, generator=generator, dtype=dtype)
    return target + 0.1 * torch.randn(2, 1, 13, 12, generator=generator, dtype=dtype), target


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.6])
def test_equals_equation_7(weight):
    prediction, target = _batch()
    expected = mse_loss(prediction, target) + weight * torch.log10(1 / ssim(prediction, target).mean())
    torch.testing.assert_close(restoration_loss(prediction, target, weight), expected)


def test_default_weight_is_the_papers_and_a_perfect_image_costs_nothing():
    prediction, target = _batch()
    assert restoration_loss(prediction, target) == restoration_loss(prediction, target, 0.5)
    assert abs(restoration_loss(target, target)) < 1e-6


def test_gradient_equals_finite_differences():
    prediction, target = _batch(torch.float64)
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: restoration_loss(x, target), prediction)


@pytest.mark.parametrize("kind", ["inverted", "constant", "zero", "far out", "identical"])
def test_loss_and_gradient_are_finite_for_any_network(kind):
    _, target = _batch()
    prediction = {
        "inverted": 1 - target,
        "constant": torch.full_like(target, 0.5),
        "zero": torch.zeros_like(target),
        "far out": 1e4 * (target - 0.5),
        "identical": target.clone(),
    }[kind].requires_grad_()
    loss = restoration_loss(prediction, target)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(prediction.grad).all()


def test_below_the_floor_the_squared_error_leads_alone():
    _, target = _batch()
    prediction = (1 - target).requires_grad_()
    assert ssim(prediction, target).mean() < SSIM_FLOOR
    expected = mse_loss(prediction, target) + 0.5 * torch.log10(torch.tensor(1 / SSIM_FLOOR))
    torch.testing.assert_close(restoration_loss(prediction, target), expected)
    (gradient,) = torch.autograd.grad(restoration_loss(prediction, target), prediction)
    (alone,) = torch.autograd.grad(mse_loss(prediction, target), prediction)
    torch.testing.assert_close(gradient, alone)


def test_weight_zero_needs_no_window_of_pixels():
    small = torch.rand(1, 1, 4, 4)
    assert restoration_loss(small, small + 0.5, ssim_weight=0.0) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="11x11"):
        restoration_loss(small, small)


def test_half_precision_prediction_gives_a_full_precision_loss():
    prediction, target = _batch()
    assert restoration_loss(prediction.bfloat16(), target).dtype == torch.float32


def test_different_shapes_are_refused_rather_than_broadcast(unannotated):
    with pytest.raises(ValueError, match="shapes differ"):
        restoration_loss(torch.rand(2, 1, 16, 16), torch.rand(1, 1, 16, 16), ssim_weight=0.0)
