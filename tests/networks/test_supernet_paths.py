"""One path through the supernet: what it computes, what it trains, and supernets of the macro choices."""

from typing import Any

import pytest
import torch
from reference import ReferenceSuperNet
from supernet_cases import assert_equal, images, make_net, one_hot_alpha, restoration

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.networks.operators import OPERATIONS, PlainOperator
from irnas_ray.networks.resolution import unshuffled

NAMES = tuple(OPERATIONS)
ONE_WIDTH: dict[str, Any] = {"multipliers": (1,), "nodes": 3, "operators": (*NAMES, "none")}
PLAIN: dict[str, Any] = ONE_WIDTH | {"normalisation": "none", "aspp": False, "low_level": False, "head": "plain"}
SPACES: dict[str, dict[str, Any]] = {
    "residual blocks": PLAIN,
    "unshuffled": PLAIN | {"unshuffle": 2, "residual": True},
    "unshuffled by four": PLAIN | {"unshuffle": 4, "operators": ("gate", "skip", "none")},
    "lower level": PLAIN | {"lower_level": True, "layers": 3, "nodes": 2},
    "untied, lower level, unshuffled": PLAIN
    | {"lower_level": True, "layers": 4, "unshuffle": 2, "tie_cells": False, "nodes": 1},
}


def one_hot_path(net: Any, seed: int) -> Genotype:
    """Set alpha so that one random path is left; its genotype."""
    cells = one_hot_alpha(net, seed)
    tied = len(net.alpha) == 1
    return Genotype(tuple(cells[:1] if tied else cells), (0,) * net.layers, (1.0,), net.macro)


@pytest.mark.parametrize("case", SPACES)
def test_without_normalisation_a_path_is_the_mixture_with_one_hot_weights(case):
    for seed in range(2):
        net = make_net(seed, **SPACES[case])
        path = one_hot_path(net, seed)
        image = images(2, 1, 5, 6)
        assert path.macro == net.macro and net.genotype() == path
        assert_equal("output", net(image, path=path), net(image), 1e-10)
        assert (net(image) - net(image, path=one_hot_path(net, seed + 7))).abs().max() > 1e-6


@pytest.mark.parametrize("normalise_skip", [False, True])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_path_with_batch_normalisation_is_the_plain_network_by_its_own_statistics(training, normalise_skip):
    """Operator by operator, each normalised by the batch; the stem, which all paths share, as its mode says."""
    for seed in range(3):
        net = make_net(seed, **ONE_WIDTH, normalise_skip=normalise_skip, sep_repeats=2).train(training)
        path = one_hot_path(net, seed)
        with torch.no_grad():
            net.alpha.normal_()  # means nothing to a path
        image = images(2, 1, 6, 5)
        reference = ReferenceSuperNet.from_supernet(net).train()
        for shared in (reference.stem, reference.entry):
            shared.train(training)
        for module in reference.modules():
            # the repeats inside sep, which all paths share as well
            if isinstance(module, torch.nn.Sequential) and len(module) > 4 and module is not reference.stem:
                module[3].train(training)
        cells = [path.cell(layer) for layer in range(net.layers)]
        assert_equal("output", net(image, path=path), reference.chosen(image, cells, [[0]] * net.layers), 1e-9)


@pytest.mark.parametrize("unshuffle", [1, 2])
def test_a_path_has_the_cells_of_its_final_network(unshuffle):
    """With the same weights the final network computes the features that the head of the path reads."""
    net = make_net(3, **(PLAIN | {"unshuffle": unshuffle, "layers": 3}))
    path = one_hot_path(net, 3)
    network = DerivedNetwork(path, channels=1, width=2).double()
    network.stem.load_state_dict(net.stem.state_dict())
    for layer, built in enumerate(network.cells):
        built: Any
        cell: Any = net.cells[f"layer{layer}_level0"]
        built.join.load_state_dict(cell.join.state_dict())
        for node, (kept, edges) in enumerate(zip(path.cell(layer), built.nodes, strict=True)):
            for place, edge in zip(kept, edges, strict=True):
                mixed = list(cell.edges.values())[place.source]
                destination = node - max(0, place.source - 1)
                copy_edge(edge.operator, mixed.operators[place.operator], destination, 2)
    image = images(2, 1, 5, 7)
    low = unshuffled(image, unshuffle, unshuffle)
    expected = net.head(network._features(network.stem(low)))
    if unshuffle > 1:
        expected = torch.nn.functional.pixel_shuffle(expected, unshuffle)[..., :5, :7]
    assert_equal("output", net(image, path=path), expected, 1e-10)


def copy_edge(mine: Any, fused: Any, destination: int, width: int) -> None:
    """Copy the rows of one destination to an operator of one edge."""
    if isinstance(fused, PlainOperator):
        mine.edges[0].load_state_dict(fused.edges[destination].state_dict())
        return
    with torch.no_grad():
        for (name, parameter), theirs in zip(mine.named_parameters(), fused.parameters(), strict=True):
            rows = 27 if "predictor" in name else width
            parameter.copy_(theirs[destination * rows : (destination + 1) * rows])


@pytest.mark.parametrize("space", [ONE_WIDTH, PLAIN], ids=["normalised", "residual blocks"])
def test_gradients_reach_the_path_alone(space):
    net = make_net(1, **space)
    path = one_hot_path(net, 1)
    restoration(net(images(2, 1, 6, 6), path=path)).backward()
    assert net.alpha.grad is None and net.beta.grad is None
    reached = 0
    for layer in range(net.layers):
        cell: Any = net.cells[f"layer{layer}_level0"]
        kept = {(e.source, e.operator, node) for node, edges in enumerate(path.cell(layer)) for e in edges}
        for source, mixed in enumerate(cell.edges.values()):
            for name, operator in mixed.operators.items():
                for destination in range(mixed.destinations):
                    on_path = (source, name, max(0, source - 1) + destination) in kept
                    found = gradients(operator, destination, mixed.width)
                    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in found) or not on_path
                    assert on_path or all(gradient is None or not gradient.any() for gradient in found)
                    reached += on_path and bool(found)
    assert reached > 2


def gradients(operator: Any, destination: int, width: int) -> list[Any]:
    """The gradients of all weights of one edge."""
    if isinstance(operator, PlainOperator):
        return [parameter.grad for parameter in operator.edges[destination].parameters()]
    found = []
    for name, parameter in operator.named_parameters():
        rows = 27 if "predictor" in name else width
        part = slice(destination * rows, (destination + 1) * rows)
        found.append(None if parameter.grad is None else parameter.grad[part])
    return found


def test_a_path_leaves_the_statistics_of_the_mixture():
    net = make_net(**ONE_WIDTH)
    before = {name: value.clone() for name, value in net.named_buffers() if "running" in name}
    net(images(2, 1, 5, 5), path=one_hot_path(net, 0))
    moved = {name for name, value in net.named_buffers() if "running" in name and not torch.equal(value, before[name])}
    assert moved and all(name.startswith(("stem.", "entry.")) for name in moved)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 3), (8, 8)], ids=str)
@pytest.mark.parametrize("case", SPACES)
def test_any_size(case, size):
    net = make_net(**SPACES[case])
    image = images(1, 1, *size)
    for output in (net(image), net(image, path=one_hot_path(net, 0))):
        assert output.shape == image.shape and torch.isfinite(output).all()


def test_a_lower_level_stands_in_the_middle_third():
    net = make_net(**(PLAIN | {"lower_level": True, "layers": 4, "nodes": 1, "width": 2}))
    seen: list[tuple[int, ...]] = []
    for layer in range(4):
        net.cells[f"layer{layer}_level0"].register_forward_hook(lambda _, inputs, output: seen.append(output.shape[1:]))
    net(images(1, 1, 7, 6))
    assert seen == [(2, 8, 6), (4, 4, 3), (4, 4, 3), (2, 8, 6)]


def test_a_path_needs_one_width():
    net = make_net()
    with pytest.raises(ValueError, match="path: needs a supernet of one width, not of 3"):
        net(images(1, 1, 4, 4), path=net.genotype())
    with pytest.raises(
        ValueError, match=r"lower_level: a supernet with it has one width, not 3; set architecture.multipliers=\[1\]"
    ):
        make_net(lower_level=True)


def test_skip_is_not_normalised_where_nothing_is():
    with pytest.raises(ValueError, match="normalise_skip: architecture.normalisation=none normalises nothing else"):
        make_net(normalise_skip=True, normalisation="none")
