"""Decoding against enumeration: all paths of widths, and every way to read a table of alphas."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irnas_ray.genotypes.cell import OPERATORS, Edge
from irnas_ray.genotypes.decoding import Margin, decode_cell, edges_of, nodes_of, viterbi, width_margins


def enumerate_paths(log_beta: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Log-probability of every path of levels that starts at the stem's level 0 and moves by at most one level."""
    layers, levels, _ = log_beta.shape
    paths = {}
    for path in itertools.product(range(levels), repeat=layers):
        steps = list(zip((0, *path), path, strict=False))
        if all(abs(target - source) <= 1 for source, target in steps):
            moves = [float(log_beta[layer, s, t - s + 1]) for layer, (s, t) in enumerate(steps)]
            paths[path] = sum(moves)
    return paths


def random_beta(layers: int, levels: int, seed: int, forbidden: float = 0.0) -> torch.Tensor:
    """Logits with garbage over the borders, and a share of transitions at -inf."""
    random = torch.Generator().manual_seed(seed)
    table = torch.randn(layers, levels, 3, generator=random, dtype=torch.float64)
    table[torch.rand(table.shape, generator=random) < forbidden] = -math.inf
    table[:, 0, 0] = 50 * torch.rand(layers, generator=random)
    table[:, -1, 2] = 50 * torch.rand(layers, generator=random)
    return table


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("forbidden", [0.0, 0.3])
def test_viterbi_and_margins_equal_enumeration(layers, levels, forbidden):
    for seed in range(4):
        table = random_beta(layers, levels, seed, forbidden)
        paths = enumerate_paths(table)
        best = max(paths, key=lambda path: paths[path])
        if paths[best] == -math.inf:
            with pytest.raises(ValueError, match="no path"):
                viterbi(table)
            continue
        assert tuple(viterbi(table)) == best
        margins = width_margins(table)
        assert [margin.chosen for margin in margins] == [str(level) for level in best]
        for layer, margin in enumerate(margins):
            assert margin.decision == f"layer {layer} level"
            check_width_margin(margin, layer, best, paths)


def check_width_margin(margin: Margin, layer: int, best: tuple[int, ...], paths: dict[tuple[int, ...], float]) -> None:
    others = {path: score for path, score in paths.items() if path[layer] != best[layer] and score > -math.inf}
    if not others:
        assert margin.runner_up == "-" and margin.margin == 1.0
        return
    rival = max(others, key=lambda path: others[path])
    one, two = math.exp(paths[best]), math.exp(others[rival])
    assert margin.runner_up == str(rival[layer])
    assert margin.margin == pytest.approx((one - two) / (one + two), abs=1e-12)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_paths_start_at_the_stem_and_change_by_one_level(layers, levels, seed):
    path = viterbi(random_beta(layers, levels, seed))
    assert len(path) == layers and all(0 <= level < levels for level in path)
    assert all(abs(after - before) <= 1 for before, after in itertools.pairwise([0, *path]))


def test_of_equal_paths_the_narrower_last_layers_win():
    table = torch.zeros(3, 3, 3)
    assert viterbi(table) == [0, 0, 0]
    assert all(margin.margin == 0 and margin.tie for margin in width_margins(table))
    table[2, :, 2] = 1.0  # now the last layer doubles
    assert viterbi(table) == [0, 0, 1]
    table[2] = 0
    table[2, 0, 2] = table[2, 1, 1] = 1.0  # two equal ways into level 1
    assert viterbi(table) == [0, 0, 1]


def test_greedy_choices_do_not_make_the_best_path():
    table = torch.log(torch.tensor([[[0, 0.6, 0.4], [1, 1, 1]], [[0, 0.5, 0.5], [0.0, 1, 0]]]))
    assert viterbi(table) == [1, 1]


def test_of_the_path_only_allowed_transitions_count():
    """The finite garbage over the border must lose against any allowed transition."""
    table = torch.full((2, 2, 3), -20.0)
    table[:, 0, 0] = table[:, -1, 2] = 1000.0
    table[0, 0, 2] = -1.0
    assert viterbi(table) == [1, 0]


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (1, 2, 3, 3), (0, 3, 3), (2, 0, 3)])
@pytest.mark.parametrize("function", [viterbi, width_margins])
def test_wrong_shapes_of_beta(function, shape, unannotated):
    with pytest.raises(ValueError, match="log_beta: shape"):
        function(torch.zeros(shape))


@pytest.mark.parametrize("function", [viterbi, width_margins])
def test_beta_that_holds_no_path(function):
    for value, words in ((math.nan, "NaN"), (-math.inf, "no path"), (math.inf, "infinity")):
        table = torch.zeros(3, 3, 3)
        table[1, :2, :] = value
        with pytest.raises(ValueError, match=f"log_beta: .*{words}"):
            function(table)


def table_of(rows: list[dict[str, float]], operators=OPERATORS) -> torch.Tensor:
    """Logits, 0 besides what is named."""
    return torch.tensor([[row.get(name, 0.0) for name in operators] for row in rows])


def test_hand_made_cell():
    alpha = table_of([{"sep": 1}, {"def": 2}, {"conv": 3}, {"dil": 0.5}, {"skip": 1}])
    cell, margins = decode_cell(alpha)
    assert cell == ((Edge(0, "sep"), Edge(1, "def")), (Edge(0, "conv"), Edge(2, "skip")))
    decisions = {margin.decision: margin for margin in margins}
    assert list(decisions) == [
        "node 0 operator on input 0",
        "node 0 operator on input 1",
        "node 1 operator on input 0",
        "node 1 operator on input 2",
        "node 1 input",
    ]

    def weight(logit: float) -> float:
        return math.exp(logit) / (math.exp(logit) + 5)

    assert decisions["node 0 operator on input 1"].margin == pytest.approx(weight(2) - math.exp(-2) * weight(2))
    chosen = decisions["node 1 input"]
    assert (chosen.chosen, chosen.runner_up) == ("2", "1")
    assert chosen.margin == pytest.approx(weight(1) - weight(0.5))


def test_two_strong_operators_of_one_edge_do_not_keep_it_twice():
    alpha = table_of([{"conv": 0.1}, {}, {"conv": 5, "sep": 4.9}, {"skip": 0.2}, {"dil": 0.1}])
    cell, _ = decode_cell(alpha)
    assert cell[1] == (Edge(0, "conv"), Edge(1, "skip"))


def test_a_strong_none_ranks_an_edge_low_but_is_never_kept():
    alpha = table_of([{"none": 9}, {"none": 9, "dil": 1}, {"conv": 3, "none": 5}, {"skip": 1}, {"skip": 0.5}])
    cell, _ = decode_cell(alpha)
    assert cell == ((Edge(0, "conv"), Edge(1, "dil")), (Edge(1, "skip"), Edge(2, "skip")))


def test_ties_go_to_the_first_and_are_reported():
    cell, margins = decode_cell(torch.zeros(9, len(OPERATORS)))
    assert cell == ((Edge(0, "conv"), Edge(1, "conv")),) * 3
    assert all(margin.tie and margin.margin == 0 for margin in margins)


def test_a_margin_under_two_percent_is_a_tie():
    assert Margin("x", "a", "b", 0.0199).tie and not Margin("x", "a", "b", 0.02).tie


def test_columns_follow_the_given_operators():
    rows = [{"sep": 1.0}, {"def": 2.0}]
    mixed = ("none", "def", "skip", "sep")
    assert decode_cell(table_of(rows, mixed), mixed)[0] == decode_cell(table_of(rows))[0]


def test_one_operator_has_no_rival():
    cell, margins = decode_cell(torch.tensor([[0.0], [1.0], [2.0], [1.0], [1.0]]), ["conv"])
    assert cell == ((Edge(0, "conv"), Edge(1, "conv")),) * 2
    assert [margin.decision for margin in margins] == ["node 1 input"]


@given(st.integers(1, 5), st.integers(0, 10**6), st.permutations(OPERATORS), st.sampled_from([0.01, 1.0, 8.0]))
@settings(max_examples=80, deadline=None)
def test_decoding_equals_the_naive_reading(nodes, seed, operators, scale):
    alpha = scale * torch.randn(edges_of(nodes), len(operators), generator=torch.Generator().manual_seed(seed))
    cell, margins = decode_cell(alpha, operators)
    row = 0
    for node in range(nodes):
        candidates = []
        for source in range(node + 2):
            weights = torch.softmax(alpha[row].double(), dim=0)
            candidates.append(
                max((float(w), source, n) for w, n in zip(weights, operators, strict=True) if n != "none")
            )
            row += 1
        kept = sorted(sorted(candidates)[-2:], key=lambda candidate: candidate[1])
        assert cell[node] == tuple(Edge(source, name) for _, source, name in kept)
    assert all(0 <= margin.margin <= 1 for margin in margins)
    assert len(margins) == 2 * nodes + nodes - 1


@pytest.mark.parametrize("shape", [(5,), (3, 6), (0, 6), (5, 5), (5, 7), (1, 5, 6)])
def test_wrong_shapes_of_alpha(shape, unannotated):
    with pytest.raises(ValueError, match="alpha: "):
        decode_cell(torch.zeros(shape))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_diverged_alpha(value):
    alpha = torch.zeros(5, 6)
    alpha[3, 2] = value
    with pytest.raises(ValueError, match="alpha: .*diverged"):
        decode_cell(alpha)


def test_none_alone_is_no_operator():
    with pytest.raises(ValueError, match="none"):
        decode_cell(torch.zeros(2, 1), ["none"])


@pytest.mark.parametrize("nodes", range(1, 12))
def test_edges_of_a_cell(nodes):
    edges = sum(node + 2 for node in range(nodes))
    assert edges_of(nodes) == edges and nodes_of(edges) == nodes
    with pytest.raises(ValueError, match=f"{edges + 1} rows"):
        nodes_of(edges + 1)
