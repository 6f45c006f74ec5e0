"""Anytime curves against the definition."""

import numpy as np
import pytest

from irnas_ray.audit.curves import anytime_curve, best_so_far


def trail(seed: int, length: int = 30) -> list[tuple[float, float]]:
    rng = np.random.default_rng(seed)
    # whole numbers, so that some costs are equal
    return [
        (float(cost), float(score))
        for cost, score in zip(rng.integers(1, 20, length), rng.normal(size=length), strict=True)
    ]


def best_at(cost: float, told: list[tuple[float, float]]) -> float:
    return max(score for its, score in told if its <= cost)


@pytest.mark.parametrize("seed", range(5))
def test_best_so_far_is_the_best_score_that_was_paid_for(seed):
    told = trail(seed)
    steps = best_so_far(told)
    assert [cost for cost, _ in steps] == sorted({cost for cost, _ in steps})
    for cost in sorted({cost for cost, _ in told}):
        known = [score for its, score in steps if its <= cost]
        assert known[-1] == max(known) == best_at(cost, told)


def test_a_curve_is_the_mean_worst_and_best_of_the_runs_at_each_cost():
    trails = [trail(seed) for seed in range(4)] + [[(7.0, -5.0), (9.0, 3.0)]]
    curve = anytime_curve(trails)
    assert curve.costs[0] == 7, "before, one run has no score"
    changes = {cost for told in trails for cost, _ in best_so_far(told)}
    assert curve.costs == sorted({cost for cost in changes if cost >= 7})
    for cost, mean, low, high in zip(curve.costs, curve.mean, curve.low, curve.high, strict=True):
        best = [best_at(cost, told) for told in trails]
        assert (mean, low, high) == pytest.approx((np.mean(best), min(best), max(best)))


@pytest.mark.parametrize("trails", [[], [[(1.0, 2.0)], []]])
def test_a_curve_needs_a_score_of_each_run(trails):
    with pytest.raises(ValueError, match="at least one score of each run"):
        anytime_curve(trails)
