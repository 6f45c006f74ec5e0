"""Normalisation, factor and sum in one step against their definition, in values, derivatives and running statistics."""

import pytest
import torch
from torch import Tensor, nn

from irnas_ray.kernels.mixed_batch_norm import normalised_sum

MOMENTUM, EPS = 0.1, 1e-5


def defined(terms: list[Tensor], factors: Tensor) -> Tensor:
    """The sum over all terms of the factor of each group of channels times (x - mean) / sqrt(variance + eps)."""
    total = torch.zeros_like(terms[0])
    for term, row in zip(terms, factors, strict=True):
        mean = term.mean((0, 2, 3), keepdim=True)
        variance = (term - mean).square().mean((0, 2, 3), keepdim=True)
        scale = row.repeat_interleave(term.shape[1] // len(row)).view(1, -1, 1, 1)
        total = total + scale * (term - mean) / (variance + EPS).sqrt()
    return total


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("shape", "mean"), [((1, 4, 17, 9), 0.0), ((3, 6, 8, 8), 100.0), ((12, 2, 40, 40), -3.0)])
def test_it_is_what_is_defined(shape: tuple[int, ...], mean: float, layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(len(shape) + shape[0])
    values = [mean + (1 + index) * torch.randn(shape, generator=generator) for index in range(3)]
    terms = [value.to(memory_format=layout).requires_grad_() for value in values]
    factors = torch.randn(3, 2, generator=generator).requires_grad_()
    norms = [nn.BatchNorm2d(shape[1], eps=EPS, momentum=MOMENTUM, affine=False) for _ in terms]
    seen = torch.randn(shape, generator=generator)
    output = normalised_sum(terms, factors, norms)
    found = torch.autograd.grad((output * seen).sum(), [factors, *terms])
    exact = [value.double().requires_grad_() for value in values]
    weights = factors.detach().double().requires_grad_()
    expected = defined(exact, weights)
    # subtracting a mean of a hundred deviations costs two digits
    tolerance = 1e-5 * max(1.0, abs(mean))
    torch.testing.assert_close(output.double(), expected, atol=tolerance, rtol=tolerance)
    derivatives = torch.autograd.grad((expected * seen).sum(), [weights, *exact])
    for one, other in zip(found, derivatives, strict=True):
        torch.testing.assert_close(one.double(), other, atol=10 * tolerance * len(seen), rtol=10 * tolerance)
    for norm, term in zip(norms, exact, strict=True):
        variance = term.var((0, 2, 3))
        torch.testing.assert_close(norm.running_mean.double(), MOMENTUM * term.mean((0, 2, 3)), atol=1e-5, rtol=1e-5)
        expected_variance = 1 - MOMENTUM + MOMENTUM * variance
        torch.testing.assert_close(norm.running_var.double(), expected_variance, atol=1e-4, rtol=1e-4)
