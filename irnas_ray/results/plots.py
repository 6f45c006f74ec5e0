"""How a study went as pictures; none needs a display."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from irnas_ray.results.tables import STATES
from irnas_ray.system.files import write_bytes

BLUE, ORANGE, GRAY, INK = "#0072B2", "#B35900", "#8A929C", "#22262B"
#: State of a trial that has a score -> its marker, colour and whether it is filled.
MARKERS = {"COMPLETE": ("o", BLUE, True), "PRUNED": ("o", GRAY, False), "RUNNING": ("^", ORANGE, False)}


def plot_history(records: Sequence[Mapping[str, Any]]) -> Figure:
    """The score of every trial over its number, with the best completed one so far; failed ones as crosses."""
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes = figure.add_subplot()
    places = [(r.get("configuration", place), r["state"], r.get("score")) for place, r in enumerate(records)]
    last = max((place for place, _, _ in places), default=0)
    scored = [(place, state, score) for place, state, score in places if score is not None and score == score]
    for state, (marker, color, filled) in MARKERS.items():
        chosen = [(place, score) for place, its, score in scored if its == state]
        if chosen:
            face = color if filled else "white"
            x, y = zip(*chosen, strict=True)
            axes.scatter(x, y, s=36, marker=marker, c=face, edgecolors=color, label=STATES[state], zorder=3)
    completed = [(place, score) for place, state, score in scored if state == "COMPLETE"]
    if completed:
        best = [max(score for _, score in completed[: index + 1]) for index in range(len(completed))]
        steps = [*(place for place, _ in completed), last]
        axes.step(steps, [*best, best[-1]], where="post", color=BLUE, linewidth=1.4, label="best so far", zorder=2)
    failed = [place for place, state, _ in places if state == "FAIL"]
    if failed:
        foot = axes.get_xaxis_transform()
        axes.scatter(
            failed, [0.03] * len(failed), s=36, marker="x", c=ORANGE, label="failed", transform=foot, clip_on=False
        )
    axes.set_xlim(-0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("trial")
    axes.set_ylabel("score: validation PSNR (dB)")
    axes.grid(axis="y", color="#E4E7EB", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.ticklabel_format(axis="y", useOffset=False)
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    return figure


def plot_importances(shares: Mapping[str, float]) -> Figure:
    """The importance of each parameter as a bar with its value, largest on top."""
    figure = Figure(figsize=(7.2, 0.9 + 0.38 * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    ordered = sorted(shares.items(), key=lambda item: item[1])
    bars = axes.barh([name for name, _ in ordered], [share for _, share in ordered], color=BLUE, height=0.6)
    axes.bar_label(bars, fmt="%.2f", padding=4, color=INK)
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("share of the importance (PED-ANOVA)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def png(figure: Figure) -> bytes:
    """A figure as a PNG file's content, on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white")
    return buffer.getvalue()


def save_png(figure: Figure, path: Path) -> Path:
    """Write a figure to a PNG file in a folder that is made if need be; OSError naming the file if it cannot be."""
    write_bytes(path, png(figure), "choose output=DIR")
    return path
