"""The Gaussian process of search.method=predictor: its formulas, and what it makes of scores and configurations."""

import math

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import norm

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.prediction import (
    GaussianProcess,
    _expected_improvement,
    best_to_try,
    expected_scores,
    features_of,
)


def trial(state: TrialState, reports: dict[int, float], value: float | None = None) -> FrozenTrial:
    return create_trial(
        state=state,
        value=value,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values=reports,
    )


def test_mean_and_deviation_are_those_of_the_textbook() -> None:
    """Inverting the whole matrix instead of factors of it; the hyperparameters are those that were chosen."""
    rng = np.random.default_rng(0)
    x, other, y = rng.normal(size=(12, 3)), rng.normal(size=(5, 3)), rng.normal(size=12)
    process = GaussianProcess(x, y)
    linear, smooth, reach = process._fitted

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array(
            [
                [linear**2 * (p @ q) / 3 + smooth**2 * math.exp(-((p - q) ** 2).mean() / (2 * reach**2)) for q in b]
                for p in a
            ]
        )

    found = [
        (kernel(x, x) + noise**2 * np.eye(12))
        for noise in (0.01, 0.1, 0.3)
        if np.allclose(np.linalg.cholesky(kernel(x, x) + noise**2 * np.eye(12)), process._lower)
    ]
    inverse, between = np.linalg.inv(found[0]), kernel(x, other)
    mean, deviation = process.predict(other)
    np.testing.assert_allclose(mean, y.mean() + between.T @ inverse @ (y - y.mean()), rtol=1e-8)
    variance = np.diag(kernel(other, other) - between.T @ inverse @ between)
    np.testing.assert_allclose(deviation, y.std() * np.sqrt(variance), rtol=1e-6)


def test_a_smooth_function_is_predicted() -> None:
    rng = np.random.default_rng(1)
    x, other = rng.uniform(-2, 2, (40, 2)), rng.uniform(-1.5, 1.5, (20, 2))

    def truth(at: np.ndarray) -> np.ndarray:
        return np.sin(at[:, 0]) + 0.5 * at[:, 1]

    mean, deviation = GaussianProcess(x, truth(x)).predict(other)
    assert np.abs(mean - truth(other)).max() < 0.1
    assert deviation.mean() < 0.1


def test_what_is_tried_is_better_than_all_that_is_known_along_a_trend() -> None:
    known = [{"width": float(width)} for width in range(6)]
    pool = [{"width": 7.0}, {"width": -2.0}, {"width": 2.5}]
    assert best_to_try(known, [20.0, 21, 22, 23, 24, 25], pool) == 0
    assert best_to_try(known, [25.0, 24, 23, 22, 21, 20], pool) == 1
    # nothing tells them apart
    assert best_to_try([{}, {}], [1.0, 1.0], [{}, {}]) == 0


def test_expected_improvement_is_its_integral() -> None:
    mean, deviation = np.array([0.3, -1.0]), np.array([0.5, 2.0])
    at = np.linspace(-20, 20, 200_001)
    for m, s, found in zip(mean, deviation, _expected_improvement(mean, deviation, 0.7), strict=True):
        integral = np.trapezoid(np.maximum(at - 0.7, 0) * norm.pdf(at, m, s), at)
        assert found == pytest.approx(integral, abs=1e-6)


def test_trials_that_were_stopped_are_credited_with_what_others_gained_from_there() -> None:
    trials = [
        trial(TrialState.COMPLETE, {1: 20.0, 3: 22.0}, 23.0),
        trial(TrialState.COMPLETE, {1: 21.0, 3: 23.5}, 24.0),
        trial(TrialState.PRUNED, {1: 19.0}),
        trial(TrialState.RUNNING, {1: 20.0, 3: 21.0}),
        trial(TrialState.RUNNING, {}),
        trial(TrialState.FAIL, {1: 30.0}),
        trial(TrialState.PRUNED, {}),
    ]
    assert expected_scores(trials) == [23.0, 24.0, 22.0, 21.75, None, None, None]
    assert expected_scores(trials[2:3]) == [19.0]


def test_a_configuration_is_described_by_its_choices_its_cell_and_its_costs() -> None:
    cell = ((Edge(0, "conv"), Edge(1, "skip")), (Edge(1, "conv"), Edge(2, "conv")))
    genotype = Genotype((cell,), (0, 1, 1))
    values = {
        "architecture.unshuffle": 2,
        "architecture.lower_level": True,
        "final.lr": 1e-3,
        "final.schedule": "cosine",
    }
    found = features_of(values, genotype, {"parameters": 1000.0})
    assert found == pytest.approx(
        {
            "architecture.unshuffle": math.log(2),
            "architecture.lower_level=True": 1.0,
            "final.lr": math.log(1e-3),
            "final.schedule=cosine": 1.0,
            "operator conv": 0.75,
            "operator skip": 0.25,
            "input 0": 0.25,
            "input 1": 0.5,
            "input 2": 0.25,
            "level": 2 / 3,
            "cost parameters": math.log(1000),
        }
    )
