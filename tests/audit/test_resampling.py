"""Intervals, p and percentiles against brute force, scipy, and worlds in which they must hold."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from irnas_ray.audit.resampling import (
    PERMUTATIONS,
    Draws,
    difference_interval,
    hierarchical_draws,
    percentile_below,
    permutation_p,
    smallest_p,
)

NOTHING = np.zeros((1, 1, 4))


def arms(seed: int = 0, shapes=((3, 2, 4), (4, 3, 4))) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(25, 1, shape) + rng.normal(0, 1, (shape[0], 1, 1)) for shape in shapes]


def one_draw(arm: np.ndarray, images: list[int], rng: np.random.Generator) -> float:
    """The definition: runs, then seeds of each drawn run, then the images that both arms share."""
    runs, seeds, _ = arm.shape
    values = []
    for run in rng.integers(runs, size=runs):
        for seed in rng.integers(seeds, size=seeds):
            values += [arm[run, seed, image] for image in images]
    return sum(values) / len(values)


def test_draws_are_distributed_as_by_the_definition():
    searched, random = arms()
    rng = np.random.default_rng(1)
    slow = []
    for _ in range(4000):
        images = rng.integers(4, size=4).tolist()
        slow.append((one_draw(searched, images, rng), one_draw(random, images, rng)))
    fast = hierarchical_draws(searched, random, NOTHING, 4000, seed=2)
    for one, other in [
        (fast.searched, np.array(slow)[:, 0]),
        (fast.random, np.array(slow)[:, 1]),
        (fast.searched - fast.random, -np.subtract(*np.array(slow).T[::-1])),
    ]:
        assert one.mean() == pytest.approx(other.mean(), abs=0.05)
        assert stats.ks_2samp(one, other).pvalue > 0.001


def test_the_images_are_the_same_for_all_in_a_draw():
    images = np.array([20.0, 25.0, 30.0, 37.0])
    drawn = hierarchical_draws(
        np.broadcast_to(images + 1, (3, 2, 4)),
        np.broadcast_to(images, (4, 1, 4)),
        np.stack([[images - 1], [images + 2]]),
        2500,
        seed=0,
    )
    assert drawn.searched.shape == (2500,) and drawn.uniform.shape == (2500, 2)
    assert np.std(drawn.random) > 1
    np.testing.assert_allclose(drawn.searched - drawn.random, 1)
    np.testing.assert_allclose(drawn.uniform - drawn.random[:, None], [[-1, 2]] * 2500)


def test_each_level_adds_its_own_variance():
    rng = np.random.default_rng(3)
    only_images = np.broadcast_to(rng.normal(size=6), (3, 2, 6))
    only_seeds = np.broadcast_to(rng.normal(size=4)[None, :, None], (3, 4, 6))
    drawn = hierarchical_draws(only_images, only_seeds, np.zeros((1, 1, 6)), 20_000, 0)
    assert np.var(drawn.searched) == pytest.approx(np.var(only_images[0, 0]) / 6, rel=0.05)
    # three runs draw four seeds each, and do so each on its own
    assert np.var(drawn.random) == pytest.approx(np.var(only_seeds[0, :, 0]) / (3 * 4), rel=0.05)


def test_draws_are_seeded():
    again = [hierarchical_draws(*arms(), NOTHING, 1500, seed).searched for seed in (3, 3, 4)]
    assert (again[0] == again[1]).all() and (again[0] != again[2]).any()


@pytest.mark.parametrize(
    ("runs", "seeds", "run", "training", "image"),
    [(5, 1, 0.1, 0.0, 0.0), (5, 2, 0.05, 0.05, 0.0), (5, 2, 0.02, 0.02, 0.1), (15, 1, 0.1, 0.0, 0.05)],
    ids=["runs", "runs and seeds", "images that suit one arm", "more runs"],
)
def test_an_interval_misses_the_truth_at_most_as_often_as_it_says(runs, seeds, run, training, image):
    """Of 400 at 5 %, 20 are expected and 33 a mishap of one in 500; percentiles alone miss about 50 of five runs."""
    rng, missed = np.random.default_rng(runs), 0
    for world in range(400):
        pair = [
            25
            + run * rng.normal(size=(runs, 1, 1))
            + training * rng.normal(size=(runs, seeds, 1))
            + image * rng.normal(size=8)
            for _ in range(2)
        ]
        drawn = hierarchical_draws(*pair, np.zeros((1, 1, 8)), 300, world)
        low, high = difference_interval(*pair, drawn.searched - drawn.random)
        missed += not low <= 0 <= high
    assert missed <= 33


@pytest.mark.parametrize("sizes", [(5, 5), (5, 9)])
def test_percentiles_are_widened_by_students_t_and_for_the_runs_of_the_smaller_arm(sizes):
    first, second = arms(6, ((sizes[0], 1, 1), (sizes[1], 1, 1)))
    delta = first.mean() - second.mean()
    welch = stats.ttest_ind(first.ravel(), second.ravel(), equal_var=False).df
    widening = stats.t.ppf(0.975, welch) / stats.norm.ppf(0.975) * math.sqrt(5 / 4)
    # percentiles of 201 even steps: the sixth and the sixth but last
    found = difference_interval(first, second, delta + np.linspace(-1.0, 3.0, 201))
    assert found == pytest.approx((delta - 0.9 * widening, delta + 2.9 * widening))


def test_an_interval_of_many_runs_is_that_of_welch():
    first, second = arms(5, ((400, 1, 1), (300, 1, 1)))
    drawn = hierarchical_draws(first, second, np.zeros((1, 1, 1)), 10_000, 0)
    expected = stats.ttest_ind(first.ravel(), second.ravel(), equal_var=False).confidence_interval(0.95)
    found = difference_interval(first, second, drawn.searched - drawn.random)
    assert found == pytest.approx((expected.low, expected.high), abs=0.01)


def test_an_interval_of_arms_that_do_not_vary_is_their_difference():
    first, second = np.full((5, 2, 3), 25.5), np.full((5, 2, 3), 25.0)
    drawn = hierarchical_draws(first, second, np.zeros((1, 1, 3)), 100, 0)
    assert difference_interval(first, second, drawn.searched - drawn.random) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("sizes", [(2, 2), (5, 5), (4, 6), (1, 5)])
def test_the_exact_p_is_that_of_all_divisions(sizes):
    rng = np.random.default_rng(sum(sizes))
    first, second = rng.normal(0.8, 1, sizes[0]), rng.normal(0, 1, sizes[1])
    together = np.concatenate([first, second])
    seen = abs(first.mean() - second.mean())
    hits = total = 0
    for chosen in itertools.combinations(range(len(together)), sizes[0]):
        others = [place for place in range(len(together)) if place not in chosen]
        hits += abs(together[list(chosen)].mean() - together[others].mean()) >= seen - 1e-12
        total += 1
    assert permutation_p(first, second) == hits / total


def test_the_exact_p_is_scipys():
    rng = np.random.default_rng(7)
    first, second = rng.normal(0.8, 1, 6), rng.normal(0, 1, 6)
    theirs = stats.permutation_test(
        (first, second), lambda a, b, axis: a.mean(axis) - b.mean(axis), vectorized=True, n_resamples=math.inf
    )
    assert permutation_p(first, second) == pytest.approx(theirs.pvalue)


def test_of_too_many_divisions_some_are_drawn_and_p_is_never_zero():
    rng = np.random.default_rng(8)
    first, second = rng.normal(0.5, 1, 12), rng.normal(0, 1, 12)
    expected = stats.ttest_ind(first, second).pvalue
    assert permutation_p(first, second) == pytest.approx(expected, rel=0.15)
    assert permutation_p(first + 100, second) == 1 / (PERMUTATIONS + 1)


def test_equal_runs_have_a_p_of_one():
    assert permutation_p(np.full(5, 25.1), np.full(5, 25.1)) == 1.0


@pytest.mark.parametrize("sizes", [(2, 2), (5, 5), (2, 5), (5, 2)])
def test_the_smallest_p_is_that_of_arms_that_are_far_apart(sizes):
    first, second = np.arange(sizes[0]) + 100.0, np.arange(sizes[1]) + 0.0
    assert permutation_p(first, second) == smallest_p(*sizes)


def constant_draws(mean: float, networks: np.ndarray) -> Draws:
    return Draws(np.full(10, mean), np.zeros(10), np.tile(networks, (10, 1)))


@pytest.mark.parametrize("below", [0, 1, 13, 20])
def test_with_nothing_else_uncertain_a_percentile_has_clopper_and_pearsons_limits(below):
    networks = np.arange(20.0)
    percentile, interval = percentile_below(below - 0.5, networks, constant_draws(below - 0.5, networks))
    exact = stats.binomtest(below, 20).proportion_ci(0.95, method="exact")
    assert percentile == pytest.approx(100 * below / 20)
    assert interval == pytest.approx((100 * exact.low, 100 * exact.high))


def test_an_uncertain_mean_widens_the_interval_of_its_percentile():
    networks = np.arange(20.0)
    sure, unsure = constant_draws(9.5, networks), constant_draws(9.5, networks)
    unsure = Draws(np.linspace(4.5, 14.5, 10), unsure.random, unsure.uniform)
    narrow, wide = (percentile_below(9.5, networks, draws)[1] for draws in (sure, unsure))
    assert wide[0] < narrow[0] < 50 < narrow[1] < wide[1]
