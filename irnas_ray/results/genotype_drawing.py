"""A genotype as a picture: its cells as directed graphs, and the path that the widths take through the layers."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from irnas_ray.genotypes.genotype import Cell, Genotype, Margin
from irnas_ray.results.tables import input_name

#: Colours that stay apart for colour-blind readers (Okabe and Ito).
COLORS = {"conv": "#0072B2", "sep": "#007F5F", "dil": "#B35900", "def": "#A8417F", "skip": "#5F6670"}
INK, FAINT = "#22262B", "#C9CED6"
#: Half width and half height of a node, and of the label on an edge.
NODE, LABEL = (0.36, 0.26), (0.27, 0.15)
#: Inches for a unit of the drawing, and the room around the nodes in units; the lower margin holds a line of text.
INCH, MARGIN = 0.95, (1.2, 1.3)


def draw_genotype(genotype: Genotype, margins: Sequence[Margin] = ()) -> Figure:
    """Draw every cell and the width path; edges and levels whose decision is a tie are dashed and hollow."""
    count = len(genotype.cells)
    columns = min(2, count)
    rows = -(-count // columns)
    places = [_arrange(_links(cell), len(cell) + 2) for cell in genotype.cells]
    spans = np.array([np.ptp(points, axis=0) for points, _ in places]) + MARGIN
    heights = [INCH * spans[:, 1].max() + 0.4] * rows + [1.1 + 0.42 * len(genotype.multipliers)]
    figure = Figure(figsize=(max(5.5, INCH * spans[:, 0].max() * columns), sum(heights) + 0.5))
    figure.set_layout_engine("constrained", h_pad=0.1)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=heights)
    ties = [margin for margin in margins if margin.tie]
    for index, (cell, (points, labels)) in enumerate(zip(genotype.cells, places, strict=True)):
        axes = figure.add_subplot(grid[divmod(index, columns)])
        axes.set_title("cell, shared by all layers" if count == 1 else f"cell of layer {index}", color=INK, fontsize=11)
        prefix = "node " if count == 1 else f"cell {index} node "
        _draw_cell(axes, cell, points, labels, _tied_edges([t for t in ties if t.decision.startswith(prefix)]))
    decisions = {tie.decision for tie in ties}
    tied_layers = {layer for layer in range(genotype.layers) if f"layer {layer} level" in decisions}
    _draw_path(figure.add_subplot(grid[rows, :]), genotype, tied_layers)
    if ties:
        note = "dashed or hollow: decided by a margin under 0.02, which is a tie and not a finding"
        figure.supxlabel(note, fontsize=9, color=INK)
    return figure


def _tied_edges(ties: Sequence[Margin]) -> set[tuple[int, int]]:
    """The (node, input) whose operator, or whose being kept at all, is a tie."""
    edges = set()
    for tie in ties:
        operator = re.search(r"node (\d+) operator on input (\d+)$", tie.decision)
        kept = re.search(r"node (\d+) input$", tie.decision)
        if operator:
            edges.add((int(operator[1]), int(operator[2])))
        elif kept:
            edges.add((int(kept[1]), int(tie.chosen)))
    return edges


def _links(cell: Cell) -> list[tuple[int, int]]:
    return [(edge.source, node + 2) for node, edges in enumerate(cell) for edge in edges]


def _draw_cell(axes: Axes, cell: Cell, points: np.ndarray, labels: np.ndarray, tied: set[tuple[int, int]]) -> None:
    operators = [edge.operator for edges in cell for edge in edges]
    for (source, target), operator, label in zip(_links(cell), operators, labels, strict=True):
        dashed = (target - 2, source) in tied
        arrow = FancyArrowPatch(
            tuple(points[source]),
            tuple(points[target]),
            arrowstyle="-|>",
            mutation_scale=13,
            linewidth=1.6,
            linestyle=(0, (4, 2.5)) if dashed else "-",
            color=COLORS[operator],
            shrinkA=17,
            shrinkB=17,
            zorder=1,
        )
        axes.add_patch(arrow)
        _write(axes, label, operator, COLORS[operator], {"boxstyle": "round,pad=0.16", "fc": "white", "ec": "none"})
    for index, point in enumerate(points):
        face = "#E8EDF4" if index < 2 else "#FFF3D6"
        _write(axes, point, input_name(index), INK, {"boxstyle": "round,pad=0.4", "fc": face, "ec": INK, "lw": 1.0}, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    last = len(cell) - 1
    output = "n0" if last == 0 else "n0 and n1" if last == 1 else f"n0 … n{last}"
    axes.text(
        (low[0] + high[0]) / 2, low[1] - 0.62, f"h(l) = concatenation of {output}", ha="center", va="center", color=INK
    )
    axes.set_xlim(low[0] - MARGIN[0] / 2, high[0] + MARGIN[0] / 2)
    axes.set_ylim(low[1] - MARGIN[1] + 0.4, high[1] + 0.4)
    axes.set_aspect("equal")
    axes.axis("off")


def _write(axes: Axes, place: np.ndarray, text: str, color: str, box: dict[str, Any], zorder: int = 2) -> None:
    x, y = float(place[0]), float(place[1])
    axes.text(x, y, text, color=color, fontsize=10, ha="center", va="center", bbox=box, zorder=zorder)


def _arrange(links: list[tuple[int, int]], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the nodes, and of the label on each link, with few crossings and overlaps: the best of many draws."""
    generator = np.random.default_rng(0)
    draws = max(200, 1_200_000 // len(links) ** 2)
    heights = generator.integers(-3, 4, (draws, count)) * 0.5
    heights[:, 0], heights[:, 1] = 0.65, -0.65
    along = np.concatenate([[0.0, 0.0], 1.9 + 1.35 * np.arange(count - 2)])
    points = np.stack([np.broadcast_to(along, heights.shape), heights], axis=-1)
    shares = generator.choice([0.4, 0.5, 0.6], (draws, len(links), 1))
    starts, ends = points[:, [s for s, _ in links]], points[:, [t for _, t in links]]
    labels = starts + shares * (ends - starts)
    best = int(np.argmin(_untidiness(points, labels, starts, ends, links)))
    return points[best], labels[best]


def _untidiness(
    points: np.ndarray, labels: np.ndarray, starts: np.ndarray, ends: np.ndarray, links: list[tuple[int, int]]
) -> np.ndarray:
    """How badly each draw can be read: texts on texts and lines through texts count most, then crossings and length."""
    others = ~np.eye(len(links), dtype=bool)
    foreign = np.array([[node not in link for node in range(points.shape[1])] for link in links])
    apart = np.array([[not set(a) & set(b) for b in links] for a in links])
    both = np.add(LABEL, LABEL)
    cost = 20 * _inside(labels[:, :, None] - labels[:, None], both).sum((1, 2))
    cost = cost + 20 * _inside(labels[:, :, None] - points[:, None], np.add(LABEL, NODE)).sum((1, 2))
    cost = cost + 20 * (_distance(starts, ends, points, 0.46) * foreign).sum((1, 2))
    cost = cost + 8 * (_distance(starts, ends, labels, 0.26) * others).sum((1, 2))
    cost = cost + 2 * (_crossing(starts, ends) * apart).sum((1, 2)) / 2
    return cost + 0.3 * np.linalg.norm(ends - starts, axis=-1).sum(1)


def _inside(gap: np.ndarray, reach: np.ndarray) -> np.ndarray:
    return (np.abs(gap) < reach).all(-1)


def _distance(starts: np.ndarray, ends: np.ndarray, points: np.ndarray, least: float) -> np.ndarray:
    """Whether each point is nearer to each link than ``least``."""
    along = (ends - starts)[:, :, None]
    offset = points[:, None] - starts[:, :, None]
    share = np.clip((offset * along).sum(-1) / (along**2).sum(-1), 0, 1)
    return np.linalg.norm(offset - share[..., None] * along, axis=-1) < least


def _crossing(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whether each link crosses each other one."""

    def side(point: np.ndarray) -> np.ndarray:
        along, offset = (ends - starts)[:, :, None], point[:, None] - starts[:, :, None]
        return np.sign(along[..., 0] * offset[..., 1] - along[..., 1] * offset[..., 0])

    split = side(starts) * side(ends) < 0
    return split & split.transpose(0, 2, 1)


def _draw_path(axes: Axes, genotype: Genotype, tied_layers: set[int]) -> None:
    levels = (0, *genotype.levels)
    for layer in range(genotype.layers + 1):
        reachable = min(layer + 1, len(genotype.multipliers)) if layer else 1
        axes.scatter([layer] * reachable, range(reachable), s=42, color=FAINT, zorder=1)
    axes.plot(range(len(levels)), levels, color=COLORS["conv"], linewidth=2, zorder=2)
    faces = ["white" if layer - 1 in tied_layers else COLORS["conv"] for layer in range(len(levels))]
    axes.scatter(range(len(levels)), levels, s=80, c=faces, edgecolors=COLORS["conv"], linewidths=2, zorder=3)
    axes.set_xticks(range(len(levels)), ["stem", *(str(layer) for layer in range(genotype.layers))])
    axes.set_yticks(range(len(genotype.multipliers)), [f"{m:g} W" for m in genotype.multipliers])
    axes.set_xlim(-0.5, len(levels) - 0.5)
    axes.set_ylim(-0.5, len(genotype.multipliers) - 0.5)
    axes.set_xlabel("layer", color=INK)
    axes.set_ylabel("cell width", color=INK)
    axes.set_title("width path (W: basic width)", color=INK, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
