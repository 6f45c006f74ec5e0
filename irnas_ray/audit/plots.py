"""An audit as pictures; none needs a display."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from irnas_ray.audit.curves import anytime_curve
from irnas_ray.audit.record import Audit
from irnas_ray.audit.tables import mean_score
from irnas_ray.audit.verdict import decimal
from irnas_ray.results.plots import BLUE, GRAY, INK, ORANGE

#: Colour of each arm that has one.
COLORS = {"searched": BLUE, "random": ORANGE}


def plot_arms(audit: Audit) -> Figure:
    """The mean PSNR of every run as a dot in the row of its arm, with the mean of each arm as a line."""
    figure = Figure(figsize=(7.2, 0.9 + 0.5 * len(audit.arms)), layout="constrained")
    axes = figure.add_subplot()
    jitter = np.random.default_rng(0)
    for row, (key, arm) in enumerate(audit.arms.items()):
        means = [mean_score(run) for run in arm.runs]
        color = COLORS.get(key, GRAY)
        heights = row + jitter.uniform(-0.15, 0.15, len(means))
        axes.scatter(means, heights, s=30, c=color, alpha=0.75, zorder=3)
        if arm.one_by_one:
            # neighbours are named above and below in turn
            for rank, index in enumerate(np.argsort(means)):
                place, offset = (means[index], heights[index]), (4, 4 if rank % 2 else -11)
                axes.annotate(arm.runs[index].name, place, offset, textcoords="offset points", fontsize=8, color=INK)
        else:
            axes.plot([np.mean(means)] * 2, [row - 0.32, row + 0.32], color=color, linewidth=2, zorder=2)
    axes.set_yticks(range(len(audit.arms)), [arm.title for arm in audit.arms.values()])
    axes.set_ylim(len(audit.arms) - 0.5, -0.5)
    axes.set_xlabel("PSNR (dB), mean over training seeds and images")
    axes.grid(axis="x", color="#E4E7EB", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.ticklabel_format(axis="x", useOffset=False)
    return figure


def plot_anytime(audit: Audit) -> Figure | None:
    """The best score so far of searched and random against multiply-adds: mean, worst and best run; None without."""
    trails = {key: [run.trail for run in audit.arms[key].runs] for key in COLORS}
    trails = {key: runs for key, runs in trails.items() if all(runs)}
    if not trails:
        return None
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for key, runs in trails.items():
        curve = anytime_curve(runs)
        costs = np.array([*curve.costs, max(max(cost for cost, _ in trail) for trail in runs)]) / 1e12
        mean, low, high = ([*values, values[-1]] for values in (curve.mean, curve.low, curve.high))
        axes.fill_between(costs, low, high, step="post", color=COLORS[key], alpha=0.15, linewidth=0)
        axes.step(costs, mean, where="post", color=COLORS[key], linewidth=1.6, label=audit.arms[key].title)
    axes.set_xlabel("cost of a run ($10^{12}$ multiply-adds)")
    axes.set_ylabel("best score so far (dB)")
    axes.grid(axis="y", color="#E4E7EB", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.ticklabel_format(axis="y", useOffset=False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def plot_proxies(audit: Audit) -> Figure | None:
    """Each proxy against the score of the network trained alone, a dot for each network; None without proxies."""
    pairs: Mapping[str, list[tuple[float, float]]] = {name: values for name, values in audit.proxies.items() if values}
    if not pairs:
        return None
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(2.6 * columns + 0.6, 2.4 * rows + 0.3), layout="constrained")
    for place, (name, values) in enumerate(pairs.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        x, y = np.array(values).T
        axes.scatter(x, y, s=20, c=BLUE, alpha=0.75)
        axes.set_title(f"{name}, tau-b {decimal(audit.tau[name].value, '.2f')}", fontsize=9, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        if x.max() >= 10_000:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.ticklabel_format(axis="y", useOffset=False)
    figure.supylabel("PSNR trained alone (dB)", fontsize=9)
    return figure
