"""Uniform paths through a supernet: strictly fair, complete, and continued where they stopped."""

import copy
from collections import Counter, defaultdict

import pytest
import torch
from searching_cases import make_net

from irnas_ray.search.paths import FairPaths, PathNetwork, encoding_of


def make_paths(**arguments) -> FairPaths:
    torch.manual_seed(0)
    return FairPaths(make_net(multipliers=(1,), **arguments))


@pytest.mark.parametrize("tied", [True, False])
def test_every_operator_of_an_edge_has_its_turn(tied):
    """Of as many paths over an edge as there are operators each has another one; the same with pairs of inputs."""
    operators = ("conv", "skip", "none", "dil")
    paths = make_paths(nodes=3, operators=operators, tie_cells=tied)
    turns: defaultdict[tuple, list] = defaultdict(list)
    for _ in range(36):
        genotype = paths.next()
        paths.encoding.check(genotype)
        assert len(genotype.cells) == (1 if tied else 2)
        for place, cell in enumerate(genotype.cells):
            for node, edges in enumerate(cell):
                turns["pair", place, node].append(tuple(edge.source for edge in edges))
                for edge in edges:
                    turns["edge", place, node, edge.source].append(edge.operator)
    for (kind, _, node, *_), chosen in turns.items():
        size = 3 if kind == "edge" else [1, 3, 6][node]
        for start in range(0, len(chosen) - size + 1, size):
            assert len(set(chosen[start : start + size])) == size
    assert len(turns) == (1 if tied else 2) * (3 + 2 + 3 + 4)


def test_every_genotype_comes_about_equally_often():
    paths = make_paths(operators=("conv", "skip", "dil"))
    counts = Counter(paths.next() for _ in range(900))
    assert set(counts) == set(paths.encoding.enumerate()) and len(counts) == 9
    assert all(60 < count < 140 for count in counts.values())


def test_paths_go_on_where_they_stopped():
    first = make_paths(nodes=2)
    for _ in range(4):
        first.next()
    second = make_paths(nodes=2)
    second.left = copy.deepcopy(first.left)
    state = torch.get_rng_state()
    expected = [first.next() for _ in range(9)]
    torch.set_rng_state(state)
    assert [second.next() for _ in range(9)] == expected


def test_a_supernet_has_the_encoding_of_its_genotypes():
    for arguments in ({}, {"tie_cells": False, "multipliers": (1,), "unshuffle": 2}):
        net = make_net(**arguments)
        encoding_of(net).check(net.genotype())


def test_a_path_is_a_network_with_shared_weights():
    net = make_net(multipliers=(1,))
    network, image = PathNetwork(net, net.genotype()), torch.rand(1, 1, 5, 5)
    assert torch.equal(network(image), net(image, path=net.genotype()))
    assert {id(parameter) for parameter in network.parameters()} == {id(parameter) for parameter in net.parameters()}
