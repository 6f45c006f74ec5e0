"""A Gaussian process over what configurations are made of, which predicts the scores of those that were not tried."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from optuna.trial import FrozenTrial, TrialState

from irnas_ray.genotypes.genotype import Genotype

#: Most scores that a process should be fitted to: its time grows with their third power.
MOST_FITTED = 400
#: Hyperparameters among which the likelihood decides: scales of the linear and the smooth part, reach, noise.
LINEAR, SMOOTH, REACH, NOISE = (0.1, 0.3, 1.0), (0.3, 1.0), (0.5, 1.0, 2.0), (0.01, 0.1, 0.3)


def features_of(values: Mapping[str, Any], genotype: Genotype, costs: Mapping[str, float]) -> dict[str, float]:
    """What a configuration is made of, as numbers: domains, shares of operators and inputs, widths, and logs of costs.

    ``values`` are those of the domains. Choices and booleans become a number each, 1 for the one that was chosen.
    """
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, bool | str) or value is None:
            found[f"{name}={value}"] = 1.0
        else:
            found[name] = math.log(value) if value > 0 else float(value)
    edges = [edge for cell in genotype.cells for node in cell for edge in node]
    operators = Counter(edge.operator for edge in edges)
    found |= {f"operator {name}": count / len(edges) for name, count in operators.items()}
    sources = Counter(min(edge.source, 2) for edge in edges)
    found |= {f"input {source}": count / len(edges) for source, count in sources.items()}
    found["level"] = sum(genotype.levels) / len(genotype.levels)
    return found | {f"cost {name}": math.log(max(cost, 1)) for name, cost in costs.items()}


def expected_scores(trials: Sequence[FrozenTrial]) -> list[float | None]:
    """The score of each trial at its end; of one that was stopped early or still runs, what it would have come to.

    To its last report is added what finished trials gained from there on, in the middle; None without a report.
    """
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    gains: dict[int, list[float]] = {}
    for trial in finished:
        for epoch, score in trial.intermediate_values.items():
            gains.setdefault(epoch, []).append(trial.values[0] - score)
    expected: list[float | None] = []
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            expected.append(trial.values[0])
        elif trial.state in (TrialState.PRUNED, TrialState.RUNNING) and trial.intermediate_values:
            last = max(trial.intermediate_values)
            gain = float(np.median(gains[last])) if last in gains else 0.0
            expected.append(trial.intermediate_values[last] + gain)
        else:
            expected.append(None)
    return expected


def best_to_try(
    known: Sequence[Mapping[str, float]], scores: Sequence[float], pool: Sequence[Mapping[str, float]]
) -> int:
    """The place in the pool with the largest expected improvement on the best known score.

    Args:
        known: Features of configurations that have a score, two to ``MOST_FITTED``.
        scores: Their scores; more is better.
        pool: Features of what could be tried.
    """
    heights = _heights(np.asarray(scores, float))
    table = _table([*known, *pool])
    process = GaussianProcess(table[: len(known)], heights)
    mean, deviation = process.predict(table[len(known) :])
    return int(np.argmax(_expected_improvement(mean, deviation, float(heights.max()))))


class GaussianProcess:
    """Regression with a linear and a smooth kernel whose hyperparameters have the largest likelihood of a grid."""

    def __init__(self, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]) -> None:
        self.x, self.mean, self.scale = x, float(y.mean()), float(y.std()) or 1.0
        target = (y - self.mean) / self.scale
        products, distances = _compared(x, x)
        likeliest = -math.inf
        for linear, smooth, reach, noise in itertools.product(LINEAR, SMOOTH, REACH, NOISE):
            kernel = linear**2 * products + smooth**2 * np.exp(-distances / (2 * reach**2))
            kernel += noise**2 * np.eye(len(x))
            lower = np.linalg.cholesky(kernel)
            weights = np.linalg.solve(lower.T, np.linalg.solve(lower, target))
            likelihood = -0.5 * target @ weights - np.log(np.diag(lower)).sum()
            if likelihood > likeliest:
                likeliest, self._fitted = likelihood, (linear, smooth, reach)
                self._lower, self._weights = lower, weights

    def predict(self, x: Float[np.ndarray, "m d"]) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Mean and standard deviation at other points."""
        linear, smooth, reach = self._fitted
        products, distances = _compared(self.x, x)
        between = linear**2 * products + smooth**2 * np.exp(-distances / (2 * reach**2))
        own = linear**2 * (x**2).mean(axis=1) + smooth**2
        spread = np.linalg.solve(self._lower, between)
        variance = np.maximum(own - (spread**2).sum(axis=0), 1e-12)
        return self.mean + self.scale * (between.T @ self._weights), self.scale * np.sqrt(variance)


def _compared(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]
) -> tuple[Float[np.ndarray, "n m"], Float[np.ndarray, "n m"]]:
    """Mean product and mean squared distance over the features, of every point of one with every one of the other."""
    return a @ b.T / a.shape[1], ((a[:, None] - b[None]) ** 2).mean(axis=2)


def _heights(scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Scores with the differences among the best enlarged, and those of the worst made small."""
    regret = scores.max() - scores
    usual = float(np.median(regret)) or 1.0
    return -np.log(regret / usual + 0.1)


def _table(rows: Sequence[Mapping[str, float]]) -> Float[np.ndarray, "n d"]:
    """Features as columns of mean 0 and deviation 1; one that is missing is 0, one that never changes is left out."""
    names = sorted({name for row in rows for name in row})
    table = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    table = table[:, table.std(axis=0) > 1e-9] if len(names) else np.zeros((len(rows), 0))
    if not table.shape[1]:
        return np.zeros((len(rows), 1))
    return (table - table.mean(axis=0)) / table.std(axis=0)


def _expected_improvement(
    mean: Float[np.ndarray, " m"], deviation: Float[np.ndarray, " m"], best: float
) -> Float[np.ndarray, " m"]:
    by = (mean - best) / deviation
    density = np.exp(-0.5 * by**2) / math.sqrt(2 * math.pi)
    below = 0.5 * (1 + np.array([math.erf(value / math.sqrt(2)) for value in by]))
    return deviation * (by * below + density)
