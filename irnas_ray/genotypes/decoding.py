"""From the continuous architecture to the discrete one: alpha to a cell, beta to a path of widths, and the margins."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from irnas_ray.genotypes.cell import OPERATORS, Cell, Edge

#: Margins below this are no finding.
TIE = 0.02


@dataclass(frozen=True)
class Margin:
    """How clearly one decision was won: probability of the choice minus that of the best alternative.

    >>> import irnas_ray as ir
    >>> ir.Margin(decision="layer 0 level", chosen="0", runner_up="1", margin=0.01).tie
    True
    """

    decision: str
    chosen: str
    runner_up: str
    margin: float

    @property
    def tie(self) -> bool:
        """Whether the margin is under 0.02, which is no finding."""
        return self.margin < TIE


def decode_cell(
    alpha: Float[Tensor, "edges operators"], operators: Sequence[str] = OPERATORS
) -> tuple[Cell, list[Margin]]:
    """Keep for each node the two inputs with the largest non-``none`` weight, each with its best operator (3.1).

    ``alpha`` holds logits; rows are edges, node by node (node i has inputs 0 .. i+1), columns follow ``operators``.
    Weights are the softmax over a row, so that an edge whose ``none`` is strong ranks low. Ties go to the first.
    Returns the cell and the margin of every choice. Raises ValueError if the shape fits no cell.
    """
    names = [name for name in operators if name != "none"]
    columns = [index for index, name in enumerate(operators) if name != "none"]
    if alpha.ndim != 2 or alpha.shape[1] != len(operators) or not names:
        raise ValueError(f"alpha: shape {tuple(alpha.shape)} for the operators {list(operators)}")
    if not torch.isfinite(alpha).all():
        raise ValueError("alpha: holds NaN or infinity; the search diverged")
    weights = torch.softmax(alpha.detach().double(), dim=1)[:, columns].tolist()
    cell: list[tuple[Edge, Edge]] = []
    margins: list[Margin] = []
    for node in range(nodes_of(len(weights))):
        first = edges_of(node)
        rows = weights[first : first + node + 2]
        best = [max(row) for row in rows]
        ranked = sorted(range(node + 2), key=lambda source: -best[source])
        kept = sorted(ranked[:2])
        edges = [Edge(source, names[rows[source].index(best[source])]) for source in kept]
        cell.append((edges[0], edges[1]))
        margins += _operator_margins(node, edges, rows, names)
        if len(ranked) > 2:
            gap = best[ranked[1]] - best[ranked[2]]
            margins.append(Margin(f"node {node} input", str(ranked[1]), str(ranked[2]), gap))
    return tuple(cell), margins


def viterbi(log_beta: Float[Tensor, "layers levels 3"]) -> list[int]:
    """The most probable path of width levels, one level a layer, starting from the stem at level 0 (3.2).

    ``log_beta[l, s]`` holds the log-probabilities to leave level ``s`` into layer ``l`` by halving, keeping or doubling
    the width. Transitions over the border have no probability, whatever is written there. Of equal paths the one with
    the narrower last layers wins. Raises ValueError on a wrong shape, on NaN, or if no path has positive probability.

    >>> import torch
    >>> import irnas_ray as ir
    >>> doubling = torch.tensor([0.1, 0.2, 0.7]).log().expand(2, 3, 3)  # two layers, three levels
    >>> ir.genotypes.viterbi(doubling)
    [1, 2]
    """
    return _best_path(_checked_beta(log_beta), forbidden=None)[1]


def width_margins(log_beta: Float[Tensor, "layers levels 3"]) -> list[Margin]:
    """For every layer the best path against the best one that has another level there.

    The margin is the difference of the two paths' probabilities after normalising them to one, so that it lies in
    [0, 1] whatever the number of layers.
    """
    table = _checked_beta(log_beta)
    best, levels = _best_path(table, forbidden=None)
    margins = []
    for layer, level in enumerate(levels):
        rival, path = _best_path(table, forbidden=(layer, level))
        margin = 1.0 if rival == -math.inf else math.tanh((best - rival) / 2)
        margins.append(Margin(f"layer {layer} level", str(level), str(path[layer]) if path else "-", margin))
    return margins


def edges_of(node: int) -> int:
    """Index of a node's first edge, which is also the number of edges of the nodes before it."""
    return node * (node + 3) // 2


def nodes_of(edges: int) -> int:
    """Number of nodes of a cell with so many edges; ValueError if there is none."""
    nodes = (math.isqrt(9 + 8 * edges) - 3) // 2
    if nodes < 1 or edges_of(nodes) != edges:
        raise ValueError(f"alpha: {edges} rows; a cell of N nodes has N(N+3)/2 edges")
    return nodes


def _operator_margins(node: int, edges: list[Edge], rows: list[list[float]], names: list[str]) -> list[Margin]:
    if len(names) < 2:
        return []
    margins = []
    for edge in edges:
        ranked = sorted(zip(rows[edge.source], names, strict=True), key=lambda pair: -pair[0])
        gap = ranked[0][0] - ranked[1][0]
        margins.append(Margin(f"node {node} operator on input {edge.source}", edge.operator, ranked[1][1], gap))
    return margins


def _checked_beta(log_beta: Tensor) -> list[list[list[float]]]:
    table = torch.as_tensor(log_beta).detach().double()
    if table.ndim != 3 or table.shape[2] != 3 or table.shape[0] < 1 or table.shape[1] < 1:
        raise ValueError(f"log_beta: shape {tuple(table.shape)}; expected (layers, levels, 3)")
    if torch.isnan(table).any():
        raise ValueError("log_beta: holds NaN; the search diverged")
    inside = table.clone()
    inside[:, 0, 0] = inside[:, -1, 2] = -math.inf
    if (inside == math.inf).any():
        raise ValueError("log_beta: holds infinity; the search diverged")
    return table.tolist()


def _best_path(table: list[list[list[float]]], forbidden: tuple[int, int] | None) -> tuple[float, list[int]]:
    levels = len(table[0])
    scores = [0.0] + [-math.inf] * (levels - 1)
    history: list[list[int]] = []
    for layer, transitions in enumerate(table):
        reached, came_from = [], []
        for target in range(levels):
            sources = [s for s in (target - 1, target, target + 1) if 0 <= s < levels]
            source = max(sources, key=lambda s: scores[s] + transitions[s][target - s + 1])
            score = scores[source] + transitions[source][target - source + 1]
            reached.append(-math.inf if forbidden == (layer, target) else score)
            came_from.append(source)
        scores, history = reached, [*history, came_from]
    level = max(range(levels), key=lambda x: scores[x])
    if scores[level] == -math.inf:
        if forbidden is not None:
            return -math.inf, []
        raise ValueError("log_beta: no path of widths has positive probability")
    path = [level]
    for came_from in reversed(history[1:]):
        path.append(came_from[path[-1]])
    return scores[level], path[::-1]
