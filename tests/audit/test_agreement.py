"""Correlations against scipy and the definition."""

import math

import numpy as np
import pytest
from scipy import stats

from irnas_ray.audit.agreement import intraclass_correlation, rank_correlation


def scores(architecture: float, seed: float, networks: int = 12, seeds: int = 3) -> np.ndarray:
    rng = np.random.default_rng(4)
    return 25 + architecture * rng.normal(size=(networks, 1)) + seed * rng.normal(size=(networks, seeds))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_icc_is_that_of_an_analysis_of_variance(seeds):
    values = scores(0.1, 0.05, seeds=seeds)
    ratio = stats.f_oneway(*values).statistic
    found = intraclass_correlation(values)
    assert found.value == pytest.approx((ratio - 1) / (ratio + seeds - 1))
    freedom = (11, 12 * (seeds - 1))
    low, high = ratio / stats.f.ppf(0.975, *freedom), ratio / stats.f.ppf(0.025, *freedom)
    assert (found.low, found.high) == pytest.approx(tuple((r - 1) / (r + seeds - 1) for r in (low, high)))
    assert found.low < found.value < found.high


def test_icc_estimates_the_share_of_the_architecture_and_its_interval_holds_it():
    rng, truth, held, values = np.random.default_rng(0), 0.4, 0, []
    for _ in range(400):
        drawn = math.sqrt(truth) * rng.normal(size=(15, 1)) + math.sqrt(1 - truth) * rng.normal(size=(15, 3))
        found = intraclass_correlation(drawn)
        values.append(found.value)
        held += found.low <= truth <= found.high
    assert np.mean(values) == pytest.approx(truth, abs=0.05)
    assert 370 <= held <= 395


def test_icc_of_seeds_that_do_not_matter_is_one():
    found = intraclass_correlation(np.repeat([[25.0], [25.5], [26.0]], 2, axis=1))
    assert (found.value, found.low, found.high) == (1, 1, 1)


@pytest.mark.parametrize("values", [scores(1, 1, seeds=1), scores(1, 1, networks=1), np.full((4, 2), 25.0)])
def test_icc_is_not_estimated_from_one_seed_one_network_or_equal_scores(values):
    assert math.isnan(intraclass_correlation(values).value)


@pytest.mark.parametrize("ties", [False, True])
def test_tau_is_scipys_tau_b(ties):
    rng = np.random.default_rng(1)
    proxy = rng.normal(size=18)
    score = proxy + rng.normal(size=18)
    if ties:
        proxy, score = np.round(proxy), np.round(score)
    found = rank_correlation(proxy, score)
    assert found.value == pytest.approx(stats.kendalltau(proxy, score).statistic)
    assert found.networks == 18


def test_the_interval_of_tau_is_that_of_a_plain_bootstrap():
    rng = np.random.default_rng(2)
    proxy = rng.normal(size=14)
    score = proxy + rng.normal(size=14)
    slow = []
    for _ in range(1500):
        drawn = rng.integers(14, size=14)
        slow.append(stats.kendalltau(proxy[drawn], score[drawn]).statistic)
    found = rank_correlation(proxy, score)
    assert (found.low, found.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.04)


def test_networks_without_a_proxy_are_left_out():
    proxy = np.array([1.0, math.nan, 2.0, 3.0, 4.0, math.nan])
    found = rank_correlation(proxy, np.array([1.0, 9.0, 2.0, 3.0, 4.0, 0.0]))
    assert (found.value, found.networks) == (1, 4)
    assert math.isnan(found.low), "four networks are too few for an interval"


@pytest.mark.parametrize("proxy", [[], [1.0], [3.0, 3.0, 3.0, 3.0, 3.0, 3.0]])
def test_a_proxy_that_orders_nothing_has_no_tau(proxy):
    found = rank_correlation(np.array(proxy), np.arange(float(len(proxy))))
    assert math.isnan(found.value) and math.isnan(found.low)
