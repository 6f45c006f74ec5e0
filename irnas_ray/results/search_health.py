"""Whether a search by a supernet has decided anything, as tables and a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from irnas_ray.results.table import Table, number

#: How moves between width levels are called, in the order of beta's columns.
MOVES = ("half as wide", "as wide", "twice as wide")


def health_table(health: Mapping[str, Any]) -> Table:
    """Share of skip, entropies, ties and the largest possible margin of a search; what it has not is left out."""
    rows = [
        ["skip among the kept edges", f"{health['skip_share']:.0%}", f"{health['skip_expected']:.0%} by chance"],
        ["entropy of alpha", number(health["alpha_entropy"], 3), "of 1: no operator is preferred"],
        ["entropy of beta", number(health["beta_entropy"], 3), "of 1: no width is preferred"],
        ["largest possible margin", number(health["possible_margin"], 3), "that Adam could reach in this search"],
        ["ties", str(health["ties"]), f"of {health['decisions']} decisions inside cells"],
    ]
    if not health["decisions"]:
        # paths are chosen by evolution, and alpha is not trained
        rows = rows[:1]
    if health.get("decodings"):
        tau = number(health.get("correlation"), 2)
        rows.append(["rank correlation", tau, "of scores with inherited weights and after a short training (tau-b)"])
    return Table(["", ">", ""], rows)


def decodings_table(health: Mapping[str, Any]) -> Table:
    """What the supernet was decoded to, the best first, with the scores of all rungs."""
    rows = [
        [
            one["genotype"],
            one["source"],
            number(one["inherited"], 2),
            ", ".join(f"{score:.2f} ({steps})" for steps, score in one["scores"]),
        ]
        for one in health.get("decodings") or []
    ]
    return Table(["genotype", "by", ">inherited (dB)", "after a short training (dB, steps)"], rows)


def plot_course(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Mean probability of every operator, and of halving, keeping and doubling the width, at every validation."""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    beta = any(entry.get("moves") for entry in history)
    panels = figure.subplots(1, 1 + beta, squeeze=False, sharey=True)[0]
    epochs = [entry["epoch"] for entry in history]
    for name in history[-1]["operators"]:
        panels[0].plot(epochs, [entry["operators"].get(name, 0.0) for entry in history], marker=".", label=name)
    panels[0].set_title("operators", fontsize=10)
    panels[0].set_ylabel("mean probability")
    if beta:
        for place, name in enumerate(MOVES):
            panels[1].plot(epochs, [entry["moves"][place] for entry in history], marker=".", label=name)
        panels[1].set_title("widths", fontsize=10)
    for axes in panels:
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")
        axes.grid(axis="y", color="#E4E7EB", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, ncols=2)
    return figure
