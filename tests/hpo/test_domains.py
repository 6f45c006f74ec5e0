"""Distributions of single domains: what they contain, and how a condition reads."""

import math
from random import Random

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from irnas_ray.hpo.domains import Conditional, contains, moved, values_of

WEIGHT, LAYERS = "search.ssim_weight", "architecture.layers"


def test_what_a_distribution_contains() -> None:
    stepped = FloatDistribution(0.1, 0.5, step=0.1)
    assert values_of(stepped) == [0.1, 0.2, 0.3, 0.4, 0.5] and values_of(FloatDistribution(0.1, 0.5)) is None
    assert list(values_of(IntDistribution(1, 7, step=3)) or []) == [1, 4, 7]
    assert contains(stepped, 0.1 + 0.2) and not contains(stepped, 0.25) and not contains(stepped, 0.6)
    assert contains(IntDistribution(1, 7, step=3), 7) and not contains(IntDistribution(1, 7, step=3), 8)
    assert contains(CategoricalDistribution((1, 0.5)), 1.0) and not contains(CategoricalDistribution((1, 2)), True)
    assert contains(CategoricalDistribution((True, "a")), "a") and not contains(stepped, "a")
    assert contains(CategoricalDistribution((None,)), None) and not contains(stepped, None)


def test_a_condition_reads_well() -> None:
    assert str(Conditional(IntDistribution(1, 2), {WEIGHT: (0.5,), LAYERS: (2, 3)})) == (
        f"{IntDistribution(1, 2)} when architecture.layers in [2, 3] and search.ssim_weight in [0.5]"
    )


@pytest.mark.parametrize(
    "distribution",
    [
        IntDistribution(8, 48, step=4),
        IntDistribution(1, 1),
        IntDistribution(1, 64, log=True),
        FloatDistribution(1e-3, 3e-2, log=True),
        FloatDistribution(0.0, 1.0),
        FloatDistribution(0.0, 1.0, step=0.25),
        CategoricalDistribution((1, 2, 4)),
    ],
    ids=str,
)
def test_a_moved_value_is_one_of_the_distribution_and_seldom_far(distribution: BaseDistribution) -> None:
    rng = Random(0)
    for value in values_of(distribution) or [distribution.low, 0.02, distribution.high]:  # type: ignore[attr-defined]
        for _ in range(50):
            other = moved(distribution, value, rng)
            assert contains(distribution, other) and type(other) is type(value)
            if not isinstance(distribution, CategoricalDistribution) and not distribution.single():
                assert other != value or values_of(distribution) is None


def test_numbers_move_nearby_on_their_own_scale() -> None:
    rng, rates = Random(0), FloatDistribution(1e-4, 1.0, log=True)
    distances = sorted(abs(math.log10(moved(rates, 1e-2, rng)) + 2) for _ in range(400))
    # 15 % of four decades are 0.6, of which half of all normal numbers are within 0.67 times
    assert distances[200] == pytest.approx(0.6 * 0.674, rel=0.15)
