"""The fused supernet against the paper's equations evaluated operator by operator."""

import math

import pytest
import torch
from reference import ReferenceSuperNet
from torch import Tensor, nn

from irnas_ray.cells import OPERATORS
from irnas_ray.decoding import decode_cell, viterbi
from irnas_ray.supernet import SuperNet

BASE = {"channels": 1, "layers": 2, "nodes": 2, "width": 2, "stem_channels": 8}
CASES = {
    "all operators": {},
    "three layers": {"layers": 3, "nodes": 1},
    "one layer, one node": {"layers": 1, "nodes": 1, "width": 1},
    "colour": {"channels": 3, "residual": True},
    "eq. 6": {"share_cells": False},
    "eq. 6, three layers": {"share_cells": False, "layers": 3, "nodes": 1, "operators": ("sep", "skip")},
    "untied": {"tie_cells": False},
    "leaky": {"activation": "leaky_relu"},
    "sep twice": {"sep_repeats": 2, "nodes": 1},
    "sep three times, leaky": {"sep_repeats": 3, "activation": "leaky_relu", "operators": ("none", "sep")},
    "other widths": {"multipliers": (1, 1.5, 2)},
    "two widths": {"multipliers": (1, 2), "layers": 3, "nodes": 1},
    "one width": {"multipliers": (1,), "layers": 3, "nodes": 1},
    "without def": {"operators": ("conv", "sep", "dil", "skip", "none")},
    "other order": {"operators": ("none", "skip", "def", "conv")},
    "skip alone": {"operators": ("skip",), "nodes": 3},
    "conv alone": {"operators": ("conv",), "nodes": 3},
}


def make_net(seed: int = 0, dtype: torch.dtype = torch.float64, **arguments) -> SuperNet:
    """A supernet with nothing left at its initial value: offsets, running statistics, alpha and beta are random."""
    torch.manual_seed(seed)
    net = SuperNet(**(BASE | arguments)).to(dtype)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "predictor" in name or name in ("alpha", "beta"):
                parameter.normal_(0, 0.5)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    return net


def restoration(output: Tensor, seed: int = 1) -> Tensor:
    """A scalar loss like that of restoration: distance to a fixed clean image."""
    random = torch.Generator().manual_seed(seed)
    target = torch.rand(output.shape, generator=random, dtype=output.dtype)
    return ((output - target) ** 2).mean()


def images(batch: int, channels: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    random = torch.Generator().manual_seed(batch + height + width)
    return torch.rand(batch, channels, height, width, generator=random, dtype=dtype)


def assert_equal(name: str, mine: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = max(expected.abs().max().item(), 1e-3)
    assert (mine - expected).abs().max().item() <= tolerance * scale, name


def compare(net: SuperNet, image: Tensor, tolerance: float) -> None:
    """Outputs, the gradients in the image and in every parameter, and running statistics of net and reference."""
    reference = ReferenceSuperNet.from_supernet(net)
    mine, theirs = image.clone().requires_grad_(), image.clone().requires_grad_()
    output, expected = net(mine), reference(theirs)
    assert_equal("output", output, expected, tolerance)
    restoration(output).backward()
    restoration(expected).backward()
    assert_equal("image", mine.grad, theirs.grad, tolerance)
    for link in reference.links:
        assert_equal(link.name, link.theirs[link.rows], link.mine, tolerance)
        if link.mine.requires_grad:
            assert_equal(f"gradient of {link.name}", link.theirs.grad[link.rows], link.mine.grad, tolerance)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_equations(case, training):
    net = make_net(**CASES[case]).train(training)
    compare(net, images(2, net.channels, 5, 7), 1e-9)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("size", [(1, 9, 3), (1, 1, 6), (3, 4, 4)], ids=str)
def test_any_size(size, training):
    batch, height, width = size
    compare(make_net().train(training), images(batch, 1, height, width), 1e-9)


def test_one_pixel():
    compare(make_net().eval(), images(1, 1, 1, 1), 1e-9)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_single_precision(training):
    compare(make_net(dtype=torch.float32).train(training), images(2, 1, 9, 8, torch.float32), 2e-4)


def test_a_second_step_starts_from_the_same_statistics():
    net = make_net()
    reference = ReferenceSuperNet.from_supernet(net)
    for size in (5, 6):
        assert_equal("output", net(images(2, 1, size, size)), reference(images(2, 1, size, size)), 1e-9)
    for link in reference.links:
        assert_equal(link.name, link.theirs[link.rows], link.mine, 1e-9)


@pytest.mark.parametrize("case", ["all operators", "eq. 6", "sep twice", "untied", "two widths"])
def test_the_reference_holds_every_value_once(case):
    """Otherwise the comparison above could leave out what it should compare."""
    net = make_net(**CASES[case])
    seen = {
        id(tensor): torch.zeros_like(tensor)
        for name, tensor in net.state_dict(keep_vars=True).items()
        if "num_batches" not in name
    }
    reference = ReferenceSuperNet.from_supernet(net)
    linked = {id(link.mine) for link in reference.links}
    assert linked == {id(t) for n, t in reference.state_dict(keep_vars=True).items() if "num_batches" not in n}
    for link in reference.links:
        seen[id(link.theirs)].detach()[link.rows] += 1
    assert all((count == 1).all() for count in seen.values())


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("case", ["all operators", "eq. 6", "untied"])
def test_gradients_of_alpha_and_beta_are_finite_differences(case, training):
    net = make_net(**(CASES[case] | {"nodes": 1})).train(training)
    image, step = images(2, 1, 5, 4), 1e-5
    restoration(net(image)).backward()
    for parameter in net.arch_parameters():
        flat, difference = parameter.detach().view(-1), torch.zeros(parameter.numel(), dtype=parameter.dtype)
        for index in range(len(flat)):
            value, losses = flat[index].item(), []
            for sign in (1, -1):
                flat[index] = value + sign * step
                with torch.no_grad():
                    losses.append(restoration(net(image)).item())
            flat[index] = value
            difference[index] = (losses[0] - losses[1]) / (2 * step)
        assert difference.abs().max() > 1e-6
        torch.testing.assert_close(parameter.grad.view(-1), difference, rtol=1e-6, atol=1e-9)


def one_hot_alpha(net: SuperNet, seed: int) -> list:
    """Set alpha so that only two random operators a node are left; the cells they make."""
    random = torch.Generator().manual_seed(seed)
    preferred = torch.randn(net.alpha.shape, generator=random, dtype=net.alpha.dtype)
    cells = [decode_cell(rows, net.operators)[0] for rows in preferred]
    with torch.no_grad():
        net.alpha.fill_(-1e4)
        net.alpha[:, :, net.operators.index("none")] = 0
        for index, cell in enumerate(cells):
            for node, edges in enumerate(cell):
                for edge in edges:
                    row = node * (node + 3) // 2 + edge.source
                    net.alpha[index, row, net.operators.index(edge.operator)] = 1e4
    return cells if len(cells) > 1 else cells * net.layers


def one_hot_beta(net: SuperNet, seed: int) -> list[list[int]]:
    """Set beta so that every level has one way out; the level it leads to."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        net.beta.fill_(-1e4)
        moves = []
        for layer in range(net.layers):
            moves.append([])
            for level in range(len(net.widths)):
                targets = [t for t in (level - 1, level, level + 1) if 0 <= t < len(net.widths)]
                target = targets[int(torch.randint(len(targets), (), generator=random))]
                net.beta[layer, level, target - level + 1] = 1e4
                moves[-1].append(target)
    return moves


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("case", ["all operators", "three layers", "eq. 6", "untied", "leaky", "colour"])
def test_one_hot_weights_leave_the_chosen_network(case, training):
    for seed in range(3):
        net = make_net(seed, **(CASES[case] | {"nodes": 3})).train(training)
        cells, moves = one_hot_alpha(net, seed), one_hot_beta(net, seed)
        image = images(2, net.channels, 5, 6)
        expected = ReferenceSuperNet.from_supernet(net).chosen(image, cells, moves)
        assert_equal("output", net(image), expected, 1e-10)
        genotype = net.genotype()
        assert [genotype.cell(layer) for layer in range(net.layers)] == cells
        path = [0]
        for targets in moves:
            path.append(targets[path[-1]])
        assert list(genotype.levels) == path[1:]
        assert all(margin.margin > 0.99 for margin in net.margins())


@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (1, 2, 4), (1, 2, 3, 4)], ids=len)
def test_beta_is_a_probability_over_the_ways_out(multipliers):
    net = make_net(multipliers=multipliers, layers=4, nodes=1, operators=("skip", "conv"))
    beta = net.log_beta().exp()
    torch.testing.assert_close(beta.sum(dim=-1), torch.ones_like(beta[:, :, 0]), rtol=0, atol=1e-12)
    forbidden = torch.zeros_like(beta, dtype=torch.bool)
    forbidden[:, 0, 0] = forbidden[:, -1, 2] = True
    assert (beta[forbidden] == 0).all() and (beta[~forbidden] > 0).all()
    assert (net.log_beta()[forbidden] == -math.inf).all()
    restoration(net(images(2, 1, 4, 4))).backward()
    assert torch.isfinite(net.beta.grad).all() and (net.beta.grad[forbidden] == 0).all()


def test_weight_of_a_path_is_a_product_of_probabilities():
    """Followed from the stem, the mass over all levels stays one in every layer."""
    net = make_net(layers=4, nodes=1, operators=("skip",))
    mass = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    for beta in net.log_beta().exp().detach():
        moved = torch.zeros(3, dtype=torch.float64)
        for level in range(3):
            for move in range(3):
                if 0 <= level + move - 1 < 3:
                    moved[level + move - 1] += mass[level] * beta[level, move]
        mass = moved
        torch.testing.assert_close(mass.sum(), torch.ones((), dtype=torch.float64))


def test_large_logits_stay_finite():
    net = make_net()
    with torch.no_grad():
        net.beta.mul_(1e4)
        net.alpha.mul_(1e4)
    restoration(net(images(2, 1, 4, 4))).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


@pytest.mark.parametrize("case", ["all operators", "untied", "eq. 6"])
def test_parameters_are_either_weights_or_architecture(case):
    net = make_net(**CASES[case])
    weights = {id(parameter) for parameter in net.weight_parameters()}
    architecture = {id(parameter) for parameter in net.arch_parameters()}
    assert not weights & architecture
    assert weights | architecture == {id(parameter) for parameter in net.parameters()}
    assert architecture == {id(net.alpha), id(net.beta)}
    assert net.alpha.shape == (2 if case == "untied" else 1, 5, 6) and net.beta.shape == (2, 3, 3)


def cell_parameters(net: SuperNet, layer: int, level: int) -> int:
    prefix = f"cells.layer{layer}_level{level}"
    return sum(p.numel() for name, p in net.named_parameters() if name.startswith((f"{prefix}.", f"{prefix}_")))


def test_separate_cells_have_the_parameters_of_every_incoming_path():
    """Eq. 6 against eq. 5: as many cells as ways in, so three times at the middle level of an inner layer.

    Ways into levels 0, 1, 2: 1, 1 in layer 1; 2, 2, 1 in layer 2; then 2, 3, 2.
    """
    shared, separate = (make_net(layers=4, share_cells=share) for share in (True, False))
    ways = [[1, 1], [2, 2, 1], [2, 3, 2], [2, 3, 2]]
    for layer, levels in enumerate(ways):
        for level, count in enumerate(levels):
            one = cell_parameters(shared, layer, level)
            assert one > 0 and cell_parameters(separate, layer, level) == count * one
    others = [sum(p.numel() for n, p in net.named_parameters() if "cells." not in n) for net in (shared, separate)]
    assert others[0] == others[1]


@pytest.mark.parametrize(
    "arguments,words",
    [
        *[
            ({name: value}, f"{name}: {value}")
            for name in ("channels", "layers", "nodes", "width")
            for value in (0, -1)
        ],
        ({"operators": ("conv", "pool")}, "operators: unknown operator 'pool'.*conv, sep, dil, def, skip, none"),
        ({"operators": ("none",)}, "operators: .*none"),
        ({"operators": ()}, "operators: "),
        ({"operators": ("conv", "conv")}, "operators: .*different"),
        ({"activation": "gelu"}, "activation: .*gelu.*relu"),
        ({"sep_repeats": 0}, "sep_repeats: 0"),
        ({"width": 3, "multipliers": (1, 1.5, 2)}, "width: 3 times 1.5"),
        ({"multipliers": (0, 1)}, "width: 2 times 0"),
        ({"multipliers": ()}, "multipliers: "),
    ],
    ids=str,
)
def test_impossible_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        SuperNet(**(BASE | arguments))


def test_genotype_decodes_alpha_and_beta():
    net = make_net(tie_cells=False, layers=3)
    genotype = net.genotype()
    assert genotype.cells == tuple(decode_cell(alpha, OPERATORS)[0] for alpha in net.alpha)
    assert list(genotype.levels) == viterbi(net.log_beta()) and genotype.multipliers == (1.0, 2.0, 4.0)
    decisions = [margin.decision for margin in net.margins()]
    assert len(decisions) == len(set(decisions)) == 3 * 5 + 3
    assert decisions[0].startswith("cell 0 ") and decisions[-1] == "layer 2 level"
