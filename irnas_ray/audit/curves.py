"""Anytime curves: the best that a search has found so far, against what it has cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: What a search has tried, in any order: the cost at which each score was known, and the score.
Trail = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """Best so far of several runs, at every cost where one of them changes: the mean, the worst and the best run."""

    costs: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def best_so_far(trail: Trail) -> list[tuple[float, float]]:
    """The steps of a run's best score: each cost at which it rose, ascending, and the score that it rose to.

    >>> import irnas_ray as ir
    >>> ir.audit.best_so_far([(2.0, 24.9), (1.0, 25.0), (3.0, 25.4)])
    [(1.0, 25.0), (3.0, 25.4)]
    """
    steps: list[tuple[float, float]] = []
    # of several scores at one cost the best comes first
    for cost, score in sorted(trail, key=lambda place: (place[0], -place[1])):
        if not steps or score > steps[-1][1]:
            steps.append((cost, score))
    return steps


def anytime_curve(trails: Sequence[Trail]) -> Curve:
    """The curve of several runs, from the cost at which each of them has a score; a run that has ended keeps its best.

    Raises ValueError if there is no run, or one has no score.
    """
    if not trails or not all(trails):
        raise ValueError("an anytime curve needs at least one score of each run")
    runs = [np.array(best_so_far(trail)) for trail in trails]
    start = max(run[0, 0] for run in runs)
    costs = np.unique(np.concatenate([run[:, 0] for run in runs] + [[start]]))
    costs = costs[costs >= start]
    best = np.array([run[np.searchsorted(run[:, 0], costs, side="right") - 1, 1] for run in runs])
    return Curve(*(values.tolist() for values in (costs, best.mean(axis=0), best.min(axis=0), best.max(axis=0))))
