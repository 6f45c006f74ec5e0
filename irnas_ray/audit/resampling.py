"""What chance alone could have done: bootstrap draws over runs, seeds and images, and permutations of runs."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import betaincinv, ndtri, stdtrit

#: Share of such intervals that hold the truth.
LEVEL = 0.95
#: As many ways to divide the runs into two arms are all gone through (up to eight against eight); of more, as many
#: are drawn.
PERMUTATIONS = 20_000

Array = np.ndarray
Interval = tuple[float, float]


@dataclass(frozen=True)
class Draws:
    """Means in every bootstrap draw, all over the same draw of images: of both arms, and of each uniform network."""

    searched: Float[Array, " draws"]
    random: Float[Array, " draws"]
    uniform: Float[Array, "draws networks"]


def hierarchical_draws(
    searched: Float[Array, "runs seeds images"],
    random: Float[Array, "other_runs other_seeds images"],
    uniform: Float[Array, "networks its_seeds images"],
    draws: int,
    seed: int,
) -> Draws:
    """Bootstrap means: runs are drawn with replacement, for each drawn run its seeds, and images once for all.

    The images are the same in both arms, which pairs them; runs of the two arms have nothing to do with each other.
    Uniform networks are not drawn, only their images are.
    """
    generator = np.random.default_rng(seed)
    images = searched.shape[2]
    own: tuple[list[Array], ...] = ([], [], [])
    # in blocks, because each draw holds a weight for every image
    for start in range(0, draws, 1000):
        size = min(1000, draws - start)
        weights = _image_weights(images, size, generator)
        own[0].append(_run_means(np.tensordot(searched, weights, axes=1), generator))
        own[1].append(_run_means(np.tensordot(random, weights, axes=1), generator))
        own[2].append((uniform.mean(axis=1) @ weights).T)
    return Draws(*(np.concatenate(blocks) for blocks in own))


def _image_weights(images: int, draws: int, generator: np.random.Generator) -> Float[Array, "images draws"]:
    """How often each image is drawn, as a share of all; in a tenth of the time of numpy's multinomial."""
    places = generator.integers(images, size=(images, draws)) * draws + np.arange(draws)
    return np.bincount(places.ravel(), minlength=images * draws).reshape(images, draws) / images


def _run_means(values: Float[Array, "runs seeds draws"], generator: np.random.Generator) -> Float[Array, " draws"]:
    runs, seeds, draws = values.shape
    run = generator.integers(runs, size=(draws, runs, 1))
    seed = generator.integers(seeds, size=(draws, runs, seeds))
    return values[run, seed, np.arange(draws)[:, None, None]].mean(axis=(1, 2))


def difference_interval(
    searched: Float[Array, "runs seeds images"],
    random: Float[Array, "other_runs other_seeds images"],
    differences: Float[Array, " draws"],
) -> Interval:
    """The 95 % interval of a difference of means: the percentiles of its bootstrap draws, widened for few runs.

    Percentiles of so few runs are too narrow twice: a draw from n runs varies by (n - 1) / n of what n new runs would,
    and their variance is itself a guess. The distance of each percentile from the difference is therefore multiplied by
    sqrt(n / (n - 1)) and by Student's t over the normal quantile (for one sample: Hesterberg 2015, "What teachers
    should know about the bootstrap"), at Welch's degrees of freedom, to which the images add theirs.

    Args:
        searched: One arm, of two runs or more.
        random: The other.
        differences: The difference of the arms' means in each draw.
    """
    arms = (searched, random)
    delta = float(searched.mean() - random.mean())
    fewest = min(len(arm) for arm in arms)
    by_image = searched.mean(axis=(0, 1)) - random.mean(axis=(0, 1))
    quantile = stdtrit(_freedom(*(arm.mean(axis=(1, 2)) for arm in arms), by_image), (1 + LEVEL) / 2)
    widening = float(quantile / ndtri((1 + LEVEL) / 2)) * math.sqrt(fewest / (fewest - 1))
    low, high = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return delta - widening * (delta - float(low)), delta + widening * (float(high) - delta)


def _freedom(*samples: Array) -> float:
    """Welch and Satterthwaite's degrees of freedom of a sum of means; of one image nothing is known of others."""
    known = [sample for sample in samples if len(sample) > 1]
    parts = [float(np.var(sample, ddof=1)) / len(sample) for sample in known]
    below = sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, known, strict=True))
    return sum(parts) ** 2 / below if below else sum(len(sample) - 1 for sample in known)


def permutation_p(first: Float[Array, " runs"], second: Float[Array, " other_runs"]) -> float:
    """The two-sided permutation p of a difference of means: exact up to ``PERMUTATIONS`` ways to divide the runs.

    Beyond them as many are drawn, and p is (hits + 1) / (draws + 1), so that it is never 0.
    """
    runs, own = np.concatenate([first, second]), len(first)
    exact = math.comb(len(runs), own) <= PERMUTATIONS
    if exact:
        chosen = np.array(list(itertools.combinations(range(len(runs)), own)))
    else:
        places = np.tile(np.arange(len(runs)), (PERMUTATIONS, 1))
        chosen = np.random.default_rng(0).permuted(places, axis=1)[:, :own]
    # with a fixed total, the sum of one arm says how far apart both are
    distance = np.abs(runs[chosen].sum(axis=1) - own * runs.mean())
    # ties differ in the last digits of their sums
    hits = int((distance >= abs(first.sum() - own * runs.mean()) - 1e-9 * max(1.0, np.abs(runs).max())).sum())
    return hits / len(chosen) if exact else (hits + 1) / (len(chosen) + 1)


def smallest_p(runs: int, others: int) -> float:
    """The smallest permutation p that so many runs against so many can reach, however far apart they are."""
    return (2 if runs == others else 1) / math.comb(runs + others, runs)


def percentile_below(mean: float, networks: Float[Array, " networks"], draws: Draws) -> tuple[float, Interval]:
    """The percentile (0 to 100) of an arm's mean among networks, and its 95 % interval.

    Ties count half. The interval allows for the arm's mean, by its draws and on the same images, and for how few the
    networks are, by Clopper and Pearson's exact limits.
    """
    share = _share_below(np.array([mean]), networks[None])[0]
    low, high = np.quantile(_share_below(draws.searched, draws.uniform), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    count = len(networks)
    below, above = min(low, share) * count, max(high, share) * count
    # not beyond the ends, where the limits are 0 and 1 by definition
    lower = betaincinv(below, count - below + 1, (1 - LEVEL) / 2) if below else 0.0
    upper = betaincinv(above + 1, count - above, (1 + LEVEL) / 2) if above < count else 1.0
    return 100 * float(share), (100 * float(lower), 100 * float(upper))


def _share_below(means: Float[Array, " draws"], networks: Float[Array, "draws networks"]) -> Float[Array, " draws"]:
    return ((networks < means[:, None]) + 0.5 * (networks == means[:, None])).mean(axis=1)
