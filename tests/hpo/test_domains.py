"""Distributions of single domains: what they contain, and how a condition reads."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from irnas_ray.hpo.domains import Conditional, contains, values_of

WEIGHT, LAYERS = "search.ssim_weight", "architecture.layers"


def test_what_a_distribution_contains() -> None:
    stepped = FloatDistribution(0.1, 0.5, step=0.1)
    assert values_of(stepped) == [0.1, 0.2, 0.3, 0.4, 0.5] and values_of(FloatDistribution(0.1, 0.5)) is None
    assert values_of(IntDistribution(1, 7, step=3)) == [1, 4, 7]
    assert contains(stepped, 0.1 + 0.2) and not contains(stepped, 0.25) and not contains(stepped, 0.6)
    assert contains(IntDistribution(1, 7, step=3), 7) and not contains(IntDistribution(1, 7, step=3), 8)
    assert contains(CategoricalDistribution((1, 0.5)), 1.0) and not contains(CategoricalDistribution((1, 2)), True)
    assert contains(CategoricalDistribution((True, "a")), "a") and not contains(stepped, "a")
    assert contains(CategoricalDistribution((None,)), None) and not contains(stepped, None)


def test_a_condition_reads_well() -> None:
    assert str(Conditional(IntDistribution(1, 2), {WEIGHT: (0.5,), LAYERS: (2, 3)})) == (
        f"{IntDistribution(1, 2)} when architecture.layers in [2, 3] and search.ssim_weight in [0.5]"
    )
