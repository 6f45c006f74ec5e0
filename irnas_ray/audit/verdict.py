"""The verdict on a search: whether it beat random search, by how much, and how sure that is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from irnas_ray.audit.agreement import Agreement, intraclass_correlation
from irnas_ray.audit.resampling import (
    Interval,
    difference_interval,
    hierarchical_draws,
    percentile_below,
    permutation_p,
    smallest_p,
)
from irnas_ray.results.table import Table

#: The smallest gain that is worth a search, in dB, and the fewest runs of either arm that can show one.
WORTH, FEWEST_RUNS = 0.05, 5
#: Below this share of the architecture in the variance of scores a space is too narrow.
NARROW = 0.3
#: Key of the scores -> what its array holds.
SHAPES = {
    "searched": "(runs, training seeds, images)",
    "random": "(runs, training seeds, images)",
    "uniform": "(networks, training seeds, images)",
}

Word = Literal["beats random", "no evidence", "worse", "the space is too narrow"]


@dataclass(frozen=True)
class Judgement:
    """What ``judge`` found; printing it gives the sentence and the table."""

    #: In a word, and in a sentence that begins with it.
    verdict: Word
    sentence: str
    #: Mean of searched minus mean of random, in dB, its 95 % interval, and the two-sided permutation p over runs. With
    #: fewer than ``FEWEST_RUNS`` runs the interval is from minus to plus infinity, and p is not printed.
    delta: float
    interval: Interval
    p_value: float
    #: Share of the architecture in the variance of scores of uniform networks, and its 95 % interval; NaN where there
    #: is only one training seed or one network.
    icc: float
    icc_interval: Interval
    #: Share of uniform networks below the mean of searched, 0 to 100, and its 95 % interval.
    percentile: float
    percentile_interval: Interval
    #: Means of the three arms in dB, and how many runs, runs and networks they are of.
    means: tuple[float, float, float]
    counts: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.sentence}\n\n{self.table}"

    @property
    def table(self) -> str:
        """Every number as a Markdown table."""
        return self.as_table().markdown()

    def as_table(self) -> Table:
        """Every number with its interval."""
        enough = min(self.counts[:2]) >= FEWEST_RUNS
        (searched, random, uniform), counts = self.means, self.counts
        rows = [
            ["searched, mean (dB)", f"{searched:.3f}", "", f"runs: {counts[0]}"],
            ["random, mean (dB)", f"{random:.3f}", "", f"runs: {counts[1]}"],
            ["uniform networks, mean (dB)", f"{uniform:.3f}", "", f"networks: {counts[2]}"],
            ["searched - random (dB)", f"{self.delta:+.3f}", span(self.interval, "+.3f"), "hierarchical bootstrap"],
            ["p", f"{self.p_value:.4f}" if enough else "–", "", "permutation of runs, two-sided"],
            ["ICC", decimal(self.icc, ".2f"), span(self.icc_interval, ".2f"), "architecture against training seed"],
            [
                "percentile of searched",
                f"{self.percentile:.0f}",
                span(self.percentile_interval, ".0f"),
                "among uniform networks",
            ],
        ]
        return Table(["", ">value", ">95 % interval", "of"], rows)


def judge(scores: Mapping[str, Any], draws: int = 10_000, seed: int = 0) -> Judgement:
    """Judges whether a search beat random search, from PSNR of all on the same images; the same scores, the same words.

    *beats random*: the lower end of the 95 % interval of the difference is above 0, and the difference is at least
    0.05 dB. *the space is too narrow*: no such gain, and of uniform networks the architecture makes less than 0.3 of
    the variance. *worse*: the upper end is below 0. *no evidence*: all else, and always with fewer than five runs.

    Args:
        scores: ``"searched"`` and ``"random"``, arrays of shape (runs, training seeds, images), and ``"uniform"``
            (networks, training seeds, images), in dB. Runs and seeds may differ in number, images may not.
        draws: Bootstrap draws.
        seed: Of the draws.

    Raises:
        ValueError: naming the key that is missing, of another shape, or holds what is not finite.

    Example:
        >>> import numpy as np, irnas_ray as ir
        >>> noise = np.random.default_rng(0).normal(0, 0.03, (3, 8, 2, 20))
        >>> scores = {"searched": 25.6 + noise[0], "random": 25.4 + noise[1], "uniform": 25.3 + noise[2]}
        >>> judged = ir.audit.judge(scores)
        >>> judged.verdict, round(judged.delta, 1), judged.interval[0] > 0
        ('beats random', 0.2, True)
        >>> ir.audit.judge({**scores, "random": scores["random"][:2]}).sentence.split(";")[0]
        'no evidence: R = 2 can show nothing'
    """
    if draws < 100:
        raise ValueError(f"draws: {draws}; an interval needs at least 100")
    arms = {key: checked_scores(scores, key) for key in SHAPES}
    for key, values in arms.items():
        if values.shape[2] != arms["searched"].shape[2]:
            raise ValueError(
                f'scores["{key}"]: {values.shape[2]} images, but scores["searched"] has {arms["searched"].shape[2]}; '
                "score all on the same images, in the same order"
            )
    runs = [arms[key].mean(axis=(1, 2)) for key in SHAPES]
    drawn = hierarchical_draws(arms["searched"], arms["random"], arms["uniform"], draws, seed)
    counts = (len(runs[0]), len(runs[1]), len(runs[2]))
    interval = (-math.inf, math.inf)
    if min(counts[:2]) >= FEWEST_RUNS:
        interval = difference_interval(arms["searched"], arms["random"], drawn.searched - drawn.random)
    delta = float(runs[0].mean() - runs[1].mean())
    icc = intraclass_correlation(arms["uniform"].mean(axis=2))
    percentile, percentile_interval = percentile_below(float(runs[0].mean()), runs[2], drawn)
    p_value = permutation_p(runs[0], runs[1])
    verdict = _verdict(delta, interval, icc.value, min(counts[:2]))
    return Judgement(
        verdict=verdict,
        sentence=_sentence(verdict, delta, interval, p_value, icc, counts),
        delta=delta,
        interval=interval,
        p_value=p_value,
        icc=icc.value,
        icc_interval=(icc.low, icc.high),
        percentile=percentile,
        percentile_interval=percentile_interval,
        means=(float(runs[0].mean()), float(runs[1].mean()), float(runs[2].mean())),
        counts=counts,
    )


def checked_scores(scores: Mapping[str, Any], key: str) -> np.ndarray:
    """The scores of an arm as an array; ValueError naming the key unless they have its shape and are finite."""
    shape = SHAPES.get(key, SHAPES["uniform"])
    if key not in scores:
        raise ValueError(f'scores: "{key}" is missing; give PSNR of shape {shape}')
    try:
        values = np.asarray(scores[key], dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f'scores["{key}"]: no array of numbers; give PSNR of shape {shape}') from None
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f'scores["{key}"]: shape {values.shape}; give PSNR of shape {shape}, none of them 0')
    if not np.isfinite(values).all():
        place = tuple(int(index) for index in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(f'scores["{key}"]{list(place)}: {values[place]}; every PSNR must be a finite number')
    return values


def _verdict(delta: float, interval: Interval, icc: float, runs: int) -> Word:
    if runs < FEWEST_RUNS:
        return "no evidence"
    # a gain of 0.05 is one, whatever the last digit of the sums is
    if interval[0] > 0 and delta >= WORTH - 1e-9:
        return "beats random"
    if icc < NARROW:
        return "the space is too narrow"
    return "worse" if interval[1] < 0 else "no evidence"


def _sentence(
    verdict: Word, delta: float, interval: Interval, p_value: float, icc: Agreement, counts: tuple[int, int, int]
) -> str:
    runs = min(counts[:2])
    measured = f"{delta:+.3f} dB, 95 % interval {span(interval, '+.3f')}, p = {p_value:.4f}"
    share = f"ICC = {decimal(icc.value, '.2f')}, 95 % interval {span((icc.low, icc.high), '.2f')}"
    if math.isnan(icc.value):
        share = "ICC cannot be estimated from these uniform networks and training seeds"
    narrow = f"the space looks too narrow ({share})" if icc.value < NARROW else ""
    if runs < FEWEST_RUNS:
        parts = [
            f"{verdict}: R = {runs} can show nothing",
            f"the smallest p of {counts[0]} against {counts[1]} runs is {smallest_p(*counts[:2]):.2g}, and at least "
            f"{FEWEST_RUNS} of each are needed",
            narrow,
        ]
    elif verdict == "the space is too narrow":
        loss = "a measured loss" if interval[1] < 0 else "no measured gain"
        parts = [f"{verdict} for any search: {share}", f"{loss}: {measured}"]
    elif verdict == "no evidence" and interval[0] > 0:
        parts = [f"{verdict}: a gain, but below {WORTH} dB: {measured}"]
    else:
        unknown = verdict == "no evidence" and math.isnan(icc.value)
        parts = [f"{verdict}: {measured}", narrow, f"whether the space is too narrow is not known: {share}" * unknown]
    return "; ".join(filter(None, parts))


def decimal(value: float, form: str) -> str:
    """A number in this format; a dash where there is none."""
    return f"{value:{form}}" if math.isfinite(value) else "–"


def span(interval: Interval, form: str) -> str:
    """An interval in words; a dash where there is none."""
    low, high = interval
    return f"{low:{form}} to {high:{form}}" if math.isfinite(low) and math.isfinite(high) else "–"
