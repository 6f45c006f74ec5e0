"""What alpha and beta mean: choices, probabilities, decoded genotypes, and which arguments make a supernet."""

import math

import pytest
import torch
from reference import ReferenceSuperNet
from supernet_cases import BASE, CASES, assert_equal, images, make_net, one_hot_alpha, restoration

from irnas_ray.genotypes.cell import FURTHER_OPERATORS, OPERATORS
from irnas_ray.genotypes.decoding import decode_cell, viterbi
from irnas_ray.networks.supernet import SuperNet


def one_hot_beta(net: SuperNet, seed: int) -> list[list[int]]:
    """Set beta so that every level has one way out; the level it leads to."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        net.beta.fill_(-1e4)
        moves: list[list[int]] = []
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
            for name in ("channels", "layers", "nodes", "width", "stem_channels")
            for value in (0, -1)
        ],
        (
            {"operators": ("conv", "pool")},
            f"operators: unknown operator 'pool'.*{', '.join([*OPERATORS[:-1], *FURTHER_OPERATORS, 'none'])}",
        ),
        ({"operators": ("none",)}, "operators: .*none"),
        ({"operators": ()}, "operators: "),
        ({"operators": ("conv", "conv")}, "operators: .*different"),
        ({"activation": "gelu"}, "activation: .*gelu.*relu"),
        ({"sep_repeats": 0}, "sep_repeats: 0"),
        ({"sep_repeats": 10**9}, "sep_repeats: 1000000000; .*at most 100"),
        ({"width": 3, "multipliers": (1, 1.5, 2)}, "width: 3 times 1.5"),
        ({"multipliers": (0, 1)}, "multipliers: 0; a positive number"),
        *[({"multipliers": (1, value)}, "multipliers: .*at most 1000000") for value in (1e308, 1e300, 10**400)],
        ({"width": 10**400}, "width: .*at most 1000000 channels"),
        ({"channels": 10**400}, "a network of more than 1.0e.99 parameters; at most"),
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
