"""The compiled depthwise convolutions and normalised sums against their definitions in float64."""

import ctypes

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from irnas_ray.kernels import compiled, mixed_batch_norm, planes
from irnas_ray.kernels.separable_conv import SeparableProduct

pytestmark = pytest.mark.skipif(not compiled.available, reason="the package was installed without a C compiler")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filtered(source: Tensor, kernels: Tensor) -> Tensor:
    """Every kernel over its channel, pixel by pixel: the sum of nine neighbours, zero outside."""
    padded = F.pad(source, (1, 1, 1, 1))
    height, width = source.shape[2:]
    outputs = []
    for number, kernel in enumerate(kernels[:, 0]):
        plane = padded[:, number % source.shape[1]]
        outputs.append(sum(kernel[y, x] * plane[:, y : y + height, x : x + width] for y in range(3) for x in range(3)))
    return torch.stack(outputs, dim=1)


@settings(deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    copies=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 35),
)
def test_depthwise_and_its_derivatives_are_what_is_defined(batch, channels, copies, height, width):
    source, kernels = drawn(batch, channels, height, width), drawn(copies * channels, 1, 3, 3, seed=1)
    outer = drawn(batch, copies * channels, height, width, seed=2)
    exact = [source.double().requires_grad_(), kernels.double().requires_grad_()]
    expected = filtered(*exact)
    derivatives = torch.autograd.grad((expected * outer).sum(), exact)
    torch.testing.assert_close(planes.depthwise(source, kernels), expected.float(), atol=1e-5, rtol=1e-5)
    for want in (True, False):
        into_source, into_kernels = planes.depthwise_gradients(source, kernels, outer, want)
        torch.testing.assert_close(into_source, derivatives[0].float(), atol=1e-5, rtol=1e-5)
        assert (into_kernels is not None) == want
        if into_kernels is not None:
            torch.testing.assert_close(into_kernels, derivatives[1].float(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_a_bit(threads):
    source, kernels, outer = drawn(2, 5, 9, 11), drawn(15, 1, 3, 3, seed=1), drawn(2, 15, 9, 11, seed=2)
    terms, scales = [drawn(2, 15, 9, 11, seed=seed) for seed in (3, 4)], drawn(2, 15, seed=5)

    def everything() -> list[Tensor]:
        sums = planes.normalised_sum(terms, scales, 1e-5)
        into_terms, into_scales = planes.normalised_sum_gradients(terms, scales, sums[1], sums[3], outer)
        into = planes.depthwise_gradients(source, kernels, outer, True)
        return [planes.depthwise(source, kernels), *into, *sums, *into_terms, into_scales]  # type: ignore[list-item]

    before = torch.get_num_threads()
    expected = everything()
    try:
        torch.set_num_threads(threads)
        found = everything()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_both_forms_of_a_separable_convolution_agree(layout, monkeypatch):
    source = drawn(2, 4, 9, 13).to(memory_format=layout).requires_grad_()
    values = [source, drawn(12, 1, 3, 3, seed=1).requires_grad_(), drawn(12, 4, 1, 1, seed=2).requires_grad_()]
    outer = drawn(2, 12, 9, 13, seed=3).to(memory_format=layout)

    def everything() -> list[Tensor]:
        output = SeparableProduct.apply(*values)
        return [output.detach(), *torch.autograd.grad(output, values, outer)]

    found = everything()
    monkeypatch.setattr(compiled, "available", False)
    for one, other in zip(found, everything(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


def test_a_sum_of_many_values_far_from_zero_keeps_its_digits():
    """A mean of ten thousand deviations, over more values than a float32 can count in ones."""
    term = 10_000 + drawn(1, 1, 512, 512)
    total, means, variances, _ = planes.normalised_sum([term], torch.ones(1, 1), 0.0)
    exact = term.double()
    assert means.item() == pytest.approx(exact.mean().item(), rel=1e-7)
    # the mean itself is rounded to a thousandth
    assert variances.item() == pytest.approx(exact.var(correction=0).item(), rel=1e-3)
    torch.testing.assert_close(total, ((exact - exact.mean()) / exact.std()).float(), atol=2e-3, rtol=0)


def test_numbers_that_are_none_stay_none():
    """So that a search whose loss is lost says so."""
    terms = [drawn(1, 3, 4, 20), drawn(1, 3, 4, 20, seed=1)]
    terms[1][0, 1, 2, 3] = torch.nan
    total, *statistics = planes.normalised_sum(terms, torch.ones(2, 3), 1e-5)
    assert total[:, 1].isnan().all() and total[:, [0, 2]].isfinite().all()
    outer = torch.ones_like(total)
    into_terms, _ = planes.normalised_sum_gradients(terms, torch.ones(2, 3), statistics[0], statistics[2], outer)
    assert into_terms[0].isfinite().all() and into_terms[1][:, 1].isnan().all()


def test_other_memory_never_reaches_c(unannotated):
    source, kernels = drawn(1, 2, 3, 3), drawn(4, 1, 3, 3)
    for wrong in (kernels[:3], kernels[:, :, :2], drawn(4, 2, 3, 3)):
        with pytest.raises(ValueError, match="kernels: shape"):
            planes.depthwise(source, wrong)
    bad = [(source.double(), kernels), (source, kernels.to("meta")), (torch._neg_view(source), kernels)]
    for values in bad:
        with pytest.raises(ValueError, match="contiguous torch.float32 values on cpu"):
            planes.depthwise(*values)
    with pytest.raises(ValueError, match="expected"):
        planes.depthwise_gradients(source, kernels, drawn(1, 4, 3, 2), True)
    terms, scales = [drawn(1, 2, 3, 3), drawn(1, 2, 3, 4)], torch.ones(2, 2)
    with pytest.raises(ValueError, match="expected 18"):
        planes.normalised_sum(terms, scales, 1e-5)
    with pytest.raises(ValueError, match="expected 2"):
        planes.normalised_sum(terms[:1], scales, 1e-5)


def test_what_is_copied_for_c_lives_until_it_returns():
    """A gradient of a sum is one number for all values, of which C needs as many."""
    source, kernels = drawn(1, 2, 40, 40), drawn(4, 1, 3, 3)
    ones = torch.ones(1, 4, 40, 40)
    expected = planes.depthwise_gradients(source, kernels, ones, True)
    found = planes.depthwise_gradients(source, kernels, torch.ones(()).expand_as(ones), True)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_no_memory_is_told(monkeypatch):
    class Failing:
        def depthwise(self, *arguments: object) -> int:
            assert isinstance(arguments[1], ctypes.c_void_p)
            return 1

    monkeypatch.setattr(compiled, "_LIBRARY", Failing())
    with pytest.raises(MemoryError, match="depthwise"):
        planes.depthwise(drawn(1, 1, 3, 3), drawn(1, 1, 3, 3))


def test_a_sum_uses_the_compiled_form_in_training_alone(monkeypatch):
    calls = []
    own = planes.normalised_sum
    monkeypatch.setattr(planes, "normalised_sum", lambda *values: calls.append(1) or own(*values))
    norms = [torch.nn.BatchNorm2d(3, affine=False)]
    for _ in range(2):
        mixed_batch_norm.normalised_sum([drawn(1, 3, 4, 4)], torch.ones(1, 1), norms)
        norms[0].eval()
    assert len(calls) == 1


def test_no_kernels_at_all_are_refused():
    """Nothing would write the source's gradient."""
    with pytest.raises(ValueError, match=r"kernels: shape \(0, 1, 3, 3\)"):
        planes.depthwise_gradients(drawn(1, 2, 5, 5), drawn(0, 1, 3, 3), drawn(1, 0, 5, 5), False)


def test_an_empty_batch_is_pytorchs_to_refuse_and_moves_no_statistics():
    norm = torch.nn.BatchNorm2d(4, affine=False)
    with pytest.raises(RuntimeError):
        mixed_batch_norm.normalised_sum([torch.empty(0, 4, 5, 5)], torch.ones(1, 2), [norm])
    assert norm.running_mean is not None and norm.running_mean.eq(0).all()
