"""How far scores agree: of trainings of one network, and of a proxy with the trained network."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num
from scipy.special import fdtri

from irnas_ray.audit.resampling import LEVEL

Array = np.ndarray

#: Fewest networks for which a rank correlation is given an interval.
FEWEST_NETWORKS = 5


@dataclass(frozen=True)
class Agreement:
    """A correlation, its 95 % interval, and of how many networks it is; NaN is what cannot be estimated."""

    value: float
    low: float = math.nan
    high: float = math.nan
    networks: int = 0


def intraclass_correlation(scores: Float[Array, "networks seeds"]) -> Agreement:
    """The share of the variance of scores that is the architecture's, the rest being the training seed's: ICC(1, 1).

    From one-way analysis of variance, with the exact interval of normal scores (Shrout and Fleiss 1979). An estimate
    may be below 0 where seeds differ more than architectures. NaN for one seed, for one network, or if all are equal.

    >>> import numpy as np, irnas_ray as ir
    >>> round(ir.audit.intraclass_correlation(np.array([[25.0, 25.1], [25.4, 25.5], [25.9, 25.8]])).value, 2)
    0.97
    """
    networks, seeds = scores.shape
    if networks < 2 or seeds < 2:
        return Agreement(math.nan, networks=networks)
    means = scores.mean(axis=1)
    between = seeds * float(np.var(means, ddof=1))
    within = float(((scores - means[:, None]) ** 2).sum()) / (networks * (seeds - 1))
    if between + within == 0:
        return Agreement(math.nan, networks=networks)
    if within == 0:
        return Agreement(1.0, 1.0, 1.0, networks)

    def correlation(ratio: float) -> float:
        return (ratio - 1) / (ratio + seeds - 1)

    ratio, freedom, tail = between / within, (networks - 1, networks * (seeds - 1)), (1 + LEVEL) / 2
    low = ratio / float(fdtri(*freedom, tail))
    high = ratio * float(fdtri(*freedom[::-1], tail))
    return Agreement(correlation(ratio), correlation(low), correlation(high), networks)


def rank_correlation(
    proxy: Num[Array, " networks"], scores: Num[Array, " networks"], draws: int = 2000, seed: int = 0
) -> Agreement:
    """Kendall's tau-b of a proxy with the scores of the same networks, and its 95 % interval.

    The interval holds the percentiles of bootstrap draws of networks. Networks that have no proxy (NaN) are left out.
    NaN if fewer than two are left or either is the same for all; no interval for fewer than ``FEWEST_NETWORKS``.

    >>> import numpy as np, irnas_ray as ir
    >>> ir.audit.rank_correlation(np.array([1, 2, 3, 4]), np.array([25.1, 25.3, 25.2, 25.6])).value
    0.6666666666666666
    """
    known = np.isfinite(proxy) & np.isfinite(scores)
    order, other = (np.sign(values[known, None] - values[None, known]).astype(np.int8) for values in (proxy, scores))
    count = int(known.sum())
    value = float(_tau(order, other, np.arange(count)[None])[0])
    if count < FEWEST_NETWORKS or math.isnan(value):
        return Agreement(value, networks=count)
    drawn = np.random.default_rng(seed).integers(count, size=(draws, count))
    block = max(1, 4_000_000 // count**2)
    taus = np.concatenate([_tau(order, other, drawn[start : start + block]) for start in range(0, draws, block)])
    low, high = np.nanquantile(taus, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Agreement(value, float(low), float(high), count)


def _tau(proxy: Array, scores: Array, drawn: Array) -> Array:
    """Tau-b of each draw from the signs of all differences; NaN where all drawn are tied in one of the two."""
    one, other = (order[drawn[:, :, None], drawn[:, None, :]] for order in (proxy, scores))
    pairs = [(signs != 0).sum(axis=(1, 2)) for signs in (one, other)]
    agreed = (one * other).sum(axis=(1, 2), dtype=np.int64)
    with np.errstate(invalid="ignore"):
        return agreed / np.sqrt(pairs[0].astype(float) * pairs[1])
