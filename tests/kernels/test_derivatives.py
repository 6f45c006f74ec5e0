"""Hand-written derivatives: none is differentiated twice in silence, and autocast does not reach into them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from irnas_ray.kernels.deform_conv import deform_conv2d
from irnas_ray.kernels.mixed_batch_norm import normalised_sum
from irnas_ray.kernels.separable_conv import SeparableProduct
from irnas_ray.kernels.sync_batch_norm import _Normalise

OFFSET = torch.linspace(-1.4, 1.3, 18 * 30).reshape(1, 18, 5, 6)


def norms(training: bool) -> list[nn.BatchNorm2d]:
    return [nn.BatchNorm2d(4, affine=False).train(training) for _ in range(2)]


def deformable(image: Tensor) -> Tensor:
    weight = torch.linspace(-1, 1, 3 * 4 * 9, dtype=image.dtype).sin().reshape(3, 4, 3, 3)
    return deform_conv2d(image, OFFSET.to(image.dtype), weight, padding=1)


def separable(image: Tensor) -> Tensor:
    depthwise = torch.linspace(-1, 1, 8 * 9).reshape(8, 1, 3, 3)
    return SeparableProduct.apply(image, depthwise, torch.linspace(-1, 1, 8 * 4).reshape(8, 4, 1, 1))


def normalised(image: Tensor, training: bool = True) -> Tensor:
    return normalised_sum([image, image.square()], torch.tensor([[0.3, 0.7], [0.9, 0.2]]), norms(training))


def synchronised(image: Tensor) -> Tensor:
    return _Normalise.apply(image, None, None, image.detach().mean((0, 2, 3)), torch.ones(4), image.numel() // 4, 1e-5)


OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "deformable, compiled": deformable,
    "deformable, grid_sample": lambda image: deformable(image.double()).float(),
    "separable": separable,
    "batch normalisation": normalised,
    "batch normalisation in evaluation": lambda image: normalised(image, training=False),
    "synchronised batch normalisation": synchronised,
}


@pytest.fixture(autouse=True)
def one_process(tmp_path):
    """Synchronised normalisation adds up over all processes, of which there is one here."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def image() -> Tensor:
    return torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(3)).requires_grad_()


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("outer", ["sum", "weighted"])
def test_a_second_derivative_is_refused(name, outer):
    """A penalty on the gradient of a sum: the incoming gradient is constant, yet the derivative depends on the image.

    The square of the image gives the penalty a second way to it, without which autograd itself would complain.
    """
    source = image()
    output = OPERATORS[name](source)
    total = output.sum() if outer == "sum" else (output * source.sum()).sum()
    (into,) = torch.autograd.grad(total, source, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        (into.square().sum() + source.square().sum()).backward()


@pytest.mark.parametrize("name", OPERATORS)
def test_first_derivatives_in_a_graph_are_the_same(name):
    source = image()
    plain, graph = (
        torch.autograd.grad(OPERATORS[name](source).sum(), source, create_graph=wanted)[0] for wanted in (False, True)
    )
    assert torch.equal(plain, graph.detach()) and not plain.requires_grad


def test_other_parts_of_a_graph_may_be_differentiated_twice():
    """Only where a second derivative would pass through the operator is one refused."""
    source, factor = image(), torch.tensor(2.0, requires_grad=True)
    output = separable(source).sum() + factor**3
    into_source, into_factor = torch.autograd.grad(output, (source, factor), create_graph=True)
    assert torch.autograd.grad(into_factor, factor)[0] == 12 and into_source.shape == source.shape


@pytest.mark.parametrize("name", ["deformable, compiled", "separable"])
def test_autocast_does_not_reach_into_a_backward_pass(name):
    parameters = torch.randn(1, 4, 5, 6).requires_grad_(), torch.randn(3, 4, 3, 3).requires_grad_()
    depthwise, pointwise = torch.randn(8, 1, 3, 3).requires_grad_(), torch.randn(8, 4, 1, 1).requires_grad_()
    inputs = parameters if "deformable" in name else (parameters[0], depthwise, pointwise)
    output = (
        deform_conv2d(inputs[0], OFFSET, inputs[1], padding=1)
        if "deformable" in name
        else SeparableProduct.apply(*inputs)
    )
    expected = torch.autograd.grad(output.sum(), inputs, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = torch.autograd.grad(output.sum(), inputs)
    for one, other in zip(within, expected, strict=True):
        assert torch.equal(one, other)
