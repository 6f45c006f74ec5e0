"""Every operator: shapes, gradients, and that one with several destinations is several with one."""

import math
import re
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from reference import operator as reference_operator
from reference_links import operator_links
from torch import nn

from irnas_ray.networks.operators import OPERATIONS, PlainOperator, activate, check_operators, level_width, projection
from irnas_ray.networks.supercell import MixedEdges

NAMES = list(OPERATIONS)
UNLEARNED = partial(nn.BatchNorm2d, affine=False)
VARIANTS = [(name, 1) for name in NAMES] + [("sep", 2), ("sep", 3)]


def make(name: str, width: int = 2, destinations: int = 1, repeats: int = 1, activation: str = "relu") -> Any:
    """An operator in float64 whose offsets are random, so that positions are not whole numbers."""
    torch.manual_seed(0)
    operator: Any = OPERATIONS[name](width, destinations, activation, repeats, UNLEARNED).double()
    if name == "def":
        with torch.no_grad():
            operator.predictor.weight.normal_(0, 0.5)
            operator.predictor.bias.normal_(0, 0.5)
    return operator


def features(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("name,repeats", VARIANTS)
@pytest.mark.parametrize("destinations", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 4)])
def test_shape(name, repeats, destinations, size):
    source = features(2, 3, *size)
    operator = make(name, 3, destinations, repeats)
    expected = 3 if name == "skip" else 3 * destinations  # the same for every destination, so once
    assert operator(source, activate("relu", source)).shape == (2, expected, *size)


@pytest.mark.parametrize("name,repeats", VARIANTS)
def test_gradcheck(name, repeats):
    """In the input through the activation, and in every weight."""
    operator = make(name, 2, 2, repeats).eval()
    source = features(1, 2, 3, 2).requires_grad_()
    names = [key for key, _ in operator.named_parameters()]

    def evaluate(x, *weights):
        return torch.func.functional_call(
            operator, dict(zip(names, weights, strict=True)), (x, activate("leaky_relu", x))
        )

    assert torch.autograd.gradcheck(evaluate, (source, *operator.parameters()))


@pytest.mark.parametrize("name,repeats", VARIANTS)
def test_same_input_same_output(name, repeats):
    operator, source = make(name, 3, 2, repeats), features(2, 3, 5, 5)
    assert torch.equal(operator(source, source.relu()), operator(source, source.relu()))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("name,repeats", VARIANTS)
def test_several_destinations_are_several_operators(name, repeats, activation):
    """Every destination equals a single-destination operator that holds its slice of the weights."""
    width, destinations = 3, 4
    torch.manual_seed(0)
    fused = MixedEdges(width, destinations, [name], activation, repeats).double()
    for parameter in fused.parameters():
        nn.init.normal_(parameter, 0, 0.5)
    source = features(2, width, 5, 4)
    outputs = fused(source, torch.ones(destinations, 1, dtype=torch.float64))
    for destination in range(destinations):
        alone = MixedEdges(width, 1, [name], activation, repeats).double()
        plain = reference_operator(name, width, activation, repeats).double()
        with torch.no_grad():
            for small, large in zip(
                operator_links("", name, plain, alone, 0),
                operator_links("", name, plain, fused, destination),
                strict=True,
            ):
                small.theirs[small.rows] = large.theirs[large.rows]
                small.mine.copy_(large.theirs[large.rows])
        one = alone(source, torch.ones(1, 1, dtype=torch.float64))
        torch.testing.assert_close(outputs[:, destination], one[:, 0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(outputs[:, destination], plain(source), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_changes_nothing(name):
    source = features(2, 3, 6, 4)
    operator, rearranged = (make(name, 3, destinations=2) for _ in range(2))
    last = source.to(memory_format=torch.channels_last)
    output = rearranged.to(memory_format=torch.channels_last)(last, activate("relu", last))
    torch.testing.assert_close(output, operator(source, activate("relu", source)))


def test_conv_and_dil_are_torch_convolutions():
    source = features(1, 2, 6, 7)
    for name, dilation in (("conv", 1), ("dil", 2)):
        operator = make(name)
        expected = F.conv2d(source, operator.convolution.weight, padding=dilation, dilation=dilation)
        torch.testing.assert_close(operator(features(1, 2, 6, 7) * 9, source), expected)


def test_a_new_def_halves_a_convolution():
    """Predicted offsets and mask logits start at zero, and the sigmoid of zero is a half."""
    operator: Any = OPERATIONS["def"](2, 3, "relu", 1, UNLEARNED).double()
    source = features(1, 2, 5, 6)
    expected = 0.5 * F.conv2d(source, operator.convolution.weight, padding=1)
    torch.testing.assert_close(operator(source, source), expected, rtol=1e-10, atol=1e-10)


def test_skip_is_the_source_itself():
    source = features(1, 2, 3, 3)
    assert torch.equal(make("skip")(source, source.relu()), source)
    assert torch.equal(make("skip", destinations=3)(source, source.relu()), source)
    assert not any(operator.normalised != (name != "skip") for name, operator in OPERATIONS.items())


def test_sep_repeats_add_pairs():
    counts = [sum(p.numel() for p in make("sep", 4, 2, repeats).parameters()) for repeats in (1, 2, 3)]
    pair = 2 * (4 * 9 + 4 * 4)
    assert counts == [pair, 2 * pair, 3 * pair]


@pytest.mark.parametrize("activation,slope", [("relu", 0.0), ("leaky_relu", 0.2)])
def test_activation(activation, slope):
    values = torch.tensor([-2.0, 0.0, 3.0]).reshape(1, 1, 1, 3)
    expected = torch.tensor([-2.0 * slope, 0.0, 3.0]).reshape(1, 1, 1, 3)
    torch.testing.assert_close(activate(activation, values), expected)
    before = projection(1, 1, activation, affine=True)[0](values)
    torch.testing.assert_close(before, expected)


def test_projection_starts_with_the_activation():
    block: Any = projection(3, 5, "relu", affine=True).eval()
    source = torch.randn(2, 3, 4, 4)
    expected = block[2](F.conv2d(source.clamp(min=0), block[1].weight))
    torch.testing.assert_close(block(source), expected)
    assert [p.shape for p in projection(3, 5, "relu", affine=False).parameters()] == [(5, 3, 1, 1)]


@pytest.mark.parametrize("width,multiplier,channels", [(10, 4, 40), (10, 1.5, 15), (2, 0.5, 1), (3, 1.0, 3)])
def test_width_of_a_level(width, multiplier, channels):
    assert level_width(width, multiplier) == channels


@pytest.mark.parametrize(
    "width,multiplier",
    [(3, 1.5), (1, 0.5), (0, 2), (-2, 1), (10, 0.01), (8, 1e308), (8, 1e300), (8, 10**400), (2, 500_001), (8, math.inf)]
    + [(10**400, 1.5), (8, math.nan), (8, -math.inf)],
)
def test_impossible_width(width, multiplier):
    with pytest.raises(ValueError, match=re.escape(f"width: {width} times {multiplier}")):
        level_width(width, multiplier)


def test_operators_are_checked_by_name():
    check_operators(["conv", "none"])
    for names in (["conv", "Conv"], ["none"], [], ["skip", "skip"]):
        with pytest.raises(ValueError, match="operators: "):
            check_operators(names)


class Blur(PlainOperator):
    """An operator that nothing in the package knows."""

    def make_edge(self, width: int) -> nn.Module:
        return nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False)


def test_a_new_operator_needs_no_form_for_several_destinations(monkeypatch):
    """Evaluated edge by edge it gives the equations' sum, in training with gradients for alpha and its weights."""
    monkeypatch.setitem(OPERATIONS, "blur", Blur)
    torch.manual_seed(0)
    mixed = MixedEdges(3, 2, ["conv", "blur", "skip", "none"], "relu", 1).double()
    source = features(2, 3, 6, 5)
    weights = torch.rand(2, 4, dtype=torch.float64, requires_grad=True)
    outputs = mixed(source, weights)
    parts: Any = mixed.operators
    for destination in range(2):
        rows = slice(3 * destination, 3 * destination + 3)
        conv = F.conv2d(source.relu(), parts["conv"].convolution.weight[rows], padding=1)
        blur = parts["blur"].edges[destination](source.relu())
        normal = [F.batch_norm(term, None, None, training=True) for term in (conv, blur)]
        row = weights[destination]
        expected = row[0] * normal[0] + row[1] * normal[1] + row[2] * source
        torch.testing.assert_close(outputs[:, destination], expected)
    outputs.square().sum().backward()
    assert weights.grad is not None and weights.grad[:, :3].abs().min() > 0
    assert all(edge.weight.grad is not None for edge in parts["blur"].edges)


@pytest.mark.parametrize("repeats", [1, 2])
def test_one_edge_of_sep_gives_the_same_in_either_layout(repeats):
    edge = make("sep", 4, 1, repeats)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        image = features(2, 4, 6, 5).contiguous(memory_format=layout)
        image.requires_grad_()
        output = edge(image, image)
        gradients = torch.autograd.grad(output.square().sum(), [image, *edge.parameters()])
        results.append([output, *gradients])
    assert results[1][0].is_contiguous(memory_format=torch.channels_last)
    for first, second in zip(*results, strict=True):
        assert torch.allclose(first, second, rtol=1e-5, atol=1e-5)
