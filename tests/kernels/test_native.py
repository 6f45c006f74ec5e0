"""The compiled sampling against ``grid_sample``: both compute the same products and the same derivatives."""

import math
import os
import subprocess
import sys

import pytest
import torch

from irnas_ray.kernels import compiled, grid_sample, native, sampled_product
from irnas_ray.kernels.geometry import Geometry
from irnas_ray.kernels.sampled_product import SampledProduct

pytestmark = pytest.mark.skipif(not compiled.available, reason="the package was installed without a C compiler")

SAME = Geometry((3, 3), (1, 1), (1, 1), (1, 1), (9, 7))
CASES = {
    "shared image": (SAME, 2, 3, True, 5, (9, 7)),
    "own images": (SAME, 2, 3, False, 8, (9, 7)),
    "one item": (SAME, 1, 1, True, 20, (9, 7)),
    "one pixel": (Geometry((3, 3), (1, 1), (1, 1), (1, 1), (1, 1)), 2, 2, True, 3, (1, 1)),
    "stride, dilation": (Geometry((2, 3), (2, 1), (1, 2), (1, 2), (5, 6)), 1, 2, False, 17, (8, 6)),
}


def arguments(case: str, spread: float = 1.5, mask: bool = True) -> tuple:
    geometry, batch, groups, shared, channels, size = CASES[case]
    random = torch.Generator().manual_seed(len(case))

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    image = draw(batch, 1 if shared else groups, channels, *size).requires_grad_()
    offset = (spread * draw(batch, groups, geometry.taps, 2, *geometry.size)).requires_grad_()
    weight = draw(groups, 4, channels * geometry.taps).requires_grad_()
    factors = draw(batch, groups, geometry.taps, *geometry.size).requires_grad_() if mask else None
    return image, offset, factors, weight, geometry


def both(monkeypatch, values: tuple) -> list[list[torch.Tensor]]:
    """Outputs and gradients of the compiled and of the portable form."""
    results = []
    for backend in (native, grid_sample):
        monkeypatch.setattr(sampled_product, "_backend", lambda *tensors, backend=backend: backend)
        output = SampledProduct.apply(*values)
        outer = torch.sin(torch.arange(output.numel(), dtype=torch.float32)).view_as(output)
        wanted = [value for value in values[:4] if value is not None]
        results.append([output.detach(), *torch.autograd.grad(output, wanted, outer)])
    return results


@pytest.mark.parametrize("mask", [True, False], ids=["mask", "no mask"])
@pytest.mark.parametrize("case", CASES)
def test_equals_grid_sample(case, mask, monkeypatch):
    mine, expected = both(monkeypatch, arguments(case, mask=mask))
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spread", [0.0, 40.0], ids=["whole positions", "far outside"])
def test_kinks_and_borders(spread, monkeypatch):
    mine, expected = both(monkeypatch, arguments("shared image", spread))
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_the_result(threads, monkeypatch):
    values, before = arguments("one item"), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        mine, expected = both(monkeypatch, values)
    finally:
        torch.set_num_threads(before)
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_positions_that_are_no_place_give_zero_or_no_number(bad, monkeypatch):
    image, offset, mask, weight, geometry = arguments("one item")
    monkeypatch.setattr(sampled_product, "_backend", lambda *tensors: native)
    output = SampledProduct.apply(image, torch.full_like(offset, bad), mask, weight, geometry)
    assert output.isnan().all() if math.isnan(bad) else torch.equal(output, torch.zeros_like(output))


def test_buffers_made_in_inference_mode_serve_training_later():
    values = arguments("own images")
    native._rooms.__dict__.clear()
    with torch.inference_mode():
        SampledProduct.apply(*values)
    SampledProduct.apply(*values).sum().backward()
    assert torch.isfinite(values[0].grad).all()


def test_other_memory_is_left_to_grid_sample():
    """Every tensor counts, not the image alone."""
    single = torch.zeros(2, 2)
    assert compiled.takes(single) and compiled.takes(single, None, single.mT)
    for other in (single.double(), single.half(), single.to("meta"), single.to_sparse(), torch._neg_view(single)):
        assert not compiled.takes(other) and not compiled.takes(single, None, other)


def test_no_pointer_to_other_values_reaches_c(unannotated):
    """The last door before C, whoever forgets to look: type, device, order and number of values."""
    image, offset, mask, weight, geometry = arguments("own images")
    prepared = native.prepare(image.detach())
    good = {"image": prepared, "offset": offset.detach(), "mask": mask.detach(), "weight": weight.detach()}
    native.product(**good, geometry=geometry)
    wrong = {
        "image": [prepared.double(), prepared[..., :5], prepared[:1], prepared.to("meta")],
        "offset": [offset.double(), offset[..., :5], offset[:, :, :4]],
        "mask": [mask.half(), mask[:1], mask[..., 1:]],
    }
    for name, tensors in wrong.items():
        for tensor in tensors:
            with pytest.raises(ValueError, match="expected|channels"):
                native.product(**(good | {name: tensor.detach()}), geometry=geometry)


def test_products_whose_tensors_do_not_fit_are_refused(unannotated):
    values = arguments("own images")
    image, offset, mask, weight, geometry = values
    wrong = [
        (image, offset.double(), mask, weight, geometry),
        (image[:, :2], offset, mask, weight, geometry),
        (image[:1], offset, mask, weight, geometry),
        (image, offset[..., :5], mask, weight, geometry),
        (image, offset, mask[:, :, :8], weight, geometry),
        (image, offset, mask, weight[..., 1:], geometry),
        (image[..., :0], offset, mask, weight, geometry),
        (image[0], offset, mask, weight, geometry),
    ]
    for arguments_ in wrong:
        with pytest.raises(ValueError, match="^(image|offset|mask|weight)[:,] "):
            SampledProduct.apply(*arguments_)


@pytest.mark.parametrize("own", [None, "ACTIVE"])
def test_threads_wait_asleep_unless_the_user_wants_it_otherwise(own):
    """Where other processes compute on the same cores, two that spin were slower than one (448 against 130 ms)."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "TRUE"} | ({} if own is None else {"OMP_WAIT_POLICY": own})
    program = [sys.executable, "-c", "import irnas_ray, torch"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=400)
    assert f"OMP_WAIT_POLICY = '{own or 'PASSIVE'}'" in done.stderr, done.stderr
