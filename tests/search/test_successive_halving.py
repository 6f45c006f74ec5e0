"""Short trainings on rungs: who goes on, that a training goes on where it stopped, and what correlates."""

import itertools
import math
from typing import Any

import pytest
from searching_cases import make_batches, validate

from irnas_ray.genotypes.encoding import Encoding
from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.search.decodings import Decoding
from irnas_ray.search.successive_halving import CandidateTrainings, Trained, rank_correlation, rungs, total_steps
from irnas_ray.settings.study import Final

GENOTYPES = list(itertools.islice(Encoding(("conv", "skip", "sep"), nodes=1, layers=1).enumerate(), 9))
CHANNELS = {"stem_channels": 2, "aspp_channels": 2, "low_level_channels": 2}


def make_short(**settings: Any) -> CandidateTrainings:
    own = Final(batch=2, crop=12, ema_decay=0.9, **settings)
    return CandidateTrainings(
        lambda genotype: DerivedNetwork(genotype, 1, 2, **CHANNELS), lambda: make_batches(0), validate, own, 9, 3, 3
    )


@pytest.mark.parametrize(
    ("steps", "count", "factor", "expected"),
    [
        (900, 9, 3, [(100, 9), (300, 3), (900, 1)]),
        (900, 1, 3, [(900, 1)]),
        (900, 2, 3, [(300, 2), (900, 1)]),
        (900, 4, 3, [(100, 4), (300, 2), (900, 1)]),
        (8, 4, 2, [(2, 4), (4, 2), (8, 1)]),
        (2, 9, 3, [(1, 9), (2, 1)]),
        (1, 9, 3, [(1, 9)]),
    ],
)
def test_rungs(steps, count, factor, expected):
    assert rungs(steps, count, factor) == expected


def test_all_steps_are_counted():
    assert total_steps(9, 9, 3) == 9 * 1 + 3 * 2 + 1 * 6
    assert total_steps(9, 1, 3) == 9 and total_steps(0, 5, 3) == 0


def test_the_best_of_each_rung_go_on():
    class Scripted(CandidateTrainings):
        asked: list[tuple[int, int]] = []

        def _score(self, genotype: Any, steps: int, alone: bool) -> float:
            place = GENOTYPES.index(genotype)
            self.asked.append((place, steps))
            # late bloomers do not get there: 8 is best at first, then 7
            return -math.inf if place == 0 else place - (5 if place == 8 and steps > 1 else 0)

    scripted = Scripted.__new__(Scripted)
    scripted.__dict__ = make_short().__dict__
    found = scripted.run([Decoding(genotype, "sample") for genotype in GENOTYPES])
    assert scripted.asked == [(place, 1) for place in range(9)] + [(8, 3), (7, 3), (6, 3), (7, 9)]
    assert [GENOTYPES.index(one.decoding.genotype) for one in found] == [7, 6, 8, 5, 4, 3, 2, 1, 0]
    assert found[0].scores == {1: 7, 3: 7, 9: 7} and found[0].score == 7 and found[2].score == 3


def test_a_training_goes_on_where_it_stopped():
    whole = make_short().train(GENOTYPES[4], 9)
    short = make_short()
    for steps in (1, 3):
        assert short.train(GENOTYPES[4], steps).step == steps
    last = short.train(GENOTYPES[4], 9)
    assert (last.step, last.psnr, last.rate) == (9, whole.psnr, whole.rate) and not short.states


def test_one_decoding_is_trained_once_and_to_the_end():
    short = make_short()
    (found,) = short.run([Decoding(GENOTYPES[2], "argmax")])
    assert found.scores == {9: make_short().train(GENOTYPES[2], 9).psnr}
    plain = found.to_plain()
    assert plain["source"] == "argmax" and plain["scores"] == [[9, found.score]] and plain["inherited"] is None


def test_a_training_that_diverges_loses_and_all_of_them_end_the_trial():
    short = make_short(lr=1e30, gradient_clip=None)
    with pytest.raises(FloatingPointError, match="every decoding diverged"):
        short.run([Decoding(genotype, "sample") for genotype in GENOTYPES[1:4]])
    with pytest.raises(FloatingPointError, match="the loss became nan"):
        short.run([Decoding(GENOTYPES[1], "argmax")])


def trained(*pairs: tuple[float | None, float]) -> list[Trained]:
    return [
        Trained(Decoding(genotype, "sample", inherited), {1: score, 9: 0.0})
        for genotype, (inherited, score) in zip(GENOTYPES, pairs, strict=False)
    ]


def test_the_correlation_is_kendalls_over_the_first_rung():
    pairs = [(1.0, 5.0), (2.0, 7.0), (3.0, 6.0), (4.0, 9.0)]
    agree = sum((a - c) * (b - d) > 0 for (a, b), (c, d) in itertools.combinations(pairs, 2))
    assert rank_correlation(trained(*pairs)) == pytest.approx((agree - (6 - agree)) / 6)
    assert rank_correlation(trained(*pairs[:2])) is None
    assert rank_correlation(trained((1, 2), (1, 3), (1, 4))) is None
    assert rank_correlation(trained((None, 2), (1, -math.inf), (1, 4), (2, 3))) is None
