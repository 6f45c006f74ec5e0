"""A genotype as a picture: its cells as directed graphs, and the path that the widths take through the layers."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from irnas_ray.genotypes.cell import Cell, Edge
from irnas_ray.genotypes.decoding import Margin
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.results.tables import input_name

#: Colours that stay apart for colour-blind readers (Okabe and Ito).
COLORS = {
    "conv": "#0072B2",
    "sep": "#007F5F",
    "dil": "#B35900",
    "def": "#A8417F",
    "skip": "#5F6670",
    "gate": "#7A4FB5",
}
INK, FAINT = "#22262B", "#C9CED6"
#: Inches between two columns, and by which an arc rises for each column that it spans.
PITCH, RISE = 1.28, 0.45
#: Inches around a cell's columns and arcs; below them stands a line of text.
MARGIN = 0.55


def draw_genotype(genotype: Genotype, margins: Sequence[Margin] = ()) -> Figure:
    """Draw every cell and the width path; edges and levels whose decision is a tie are dashed and hollow."""
    count = len(genotype.cells)
    columns = min(2, count)
    rows = -(-count // columns)
    low, high = np.transpose([_reach(cell) for cell in genotype.cells])
    height = max(high) - min(low) + 3 * MARGIN
    width = PITCH * (genotype.nodes + 1) + 2 * MARGIN
    heights = [height + 0.3] * rows + [1.1 + 0.42 * len(genotype.multipliers)]
    figure = Figure(figsize=(max(5.5, width * columns), sum(heights) + 0.5))
    figure.set_layout_engine("constrained", h_pad=0.1)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=heights)
    ties = [margin for margin in margins if margin.tie]
    for index, cell in enumerate(genotype.cells):
        axes = figure.add_subplot(grid[divmod(index, columns)])
        axes.set_title("cell, shared by all layers" if count == 1 else f"cell of layer {index}", color=INK, fontsize=11)
        prefix = "node " if count == 1 else f"cell {index} node "
        _draw_cell(axes, cell, _tied_edges([t for t in ties if t.decision.startswith(prefix)]))
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


def _arcs(cell: Cell) -> list[tuple[Edge, int, float]]:
    """Every edge with the column it leads to and the height of its arc, which is negative below the columns.

    Of a node's two edges one comes from above and one from below; arcs of one height span as many columns each, so that
    no two labels on their tops meet.
    """
    arcs = []
    for node, edges in enumerate(cell):
        for place, edge in enumerate(edges):
            side = 1 if (node + place) % 2 == 0 else -1
            arcs.append((edge, node + 2, side * RISE * (node + 2 - edge.source)))
    return arcs


def _reach(cell: Cell) -> tuple[float, float]:
    """The lowest and the highest point of a cell's arcs."""
    heights = [height for _, _, height in _arcs(cell)]
    return min(heights), max(heights)


def _draw_cell(axes: Axes, cell: Cell, tied: set[tuple[int, int]]) -> None:
    """Inputs and nodes as columns in their order, edges as arcs over and under them with the operator on the top."""
    for edge, target, height in _arcs(cell):
        start, end = PITCH * edge.source, PITCH * target
        color = COLORS[edge.operator]
        arrow = FancyArrowPatch(
            (start, 0),
            (end, 0),
            arrowstyle="-|>",
            # a parabola through its ends and its top, which is half as high as the control point
            connectionstyle=f"arc3,rad={-2 * height / (end - start)}",
            mutation_scale=13,
            linewidth=1.6,
            linestyle=(0, (4, 2.5)) if (target - 2, edge.source) in tied else "-",
            color=color,
            shrinkA=17,
            shrinkB=17,
            zorder=1,
        )
        axes.add_patch(arrow)
        label = {"boxstyle": "round,pad=0.16", "fc": "white", "ec": "none"}
        _write(axes, (start + end) / 2, height, edge.operator, color, label, 2)
    for index in range(len(cell) + 2):
        face = "#E8EDF4" if index < 2 else "#FFF3D6"
        box = {"boxstyle": "round,pad=0.4", "fc": face, "ec": INK}
        _write(axes, PITCH * index, 0, input_name(index), INK, box, 3)
    (low, high), last = _reach(cell), len(cell) - 1
    output = "n0" if last == 0 else "n0 and n1" if last == 1 else f"n0 … n{last}"
    middle = PITCH * (last + 2) / 2
    axes.text(middle, low - MARGIN, f"h(l) = concatenation of {output}", ha="center", va="center", color=INK)
    axes.set_xlim(-MARGIN, 2 * middle + MARGIN)
    axes.set_ylim(low - 2 * MARGIN, high + MARGIN)
    axes.set_aspect("equal")
    axes.axis("off")


def _write(axes: Axes, x: float, y: float, text: str, color: str, box: dict[str, Any], zorder: int) -> None:
    axes.text(x, y, text, color=color, fontsize=10, ha="center", va="center", bbox=box, zorder=zorder)


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
