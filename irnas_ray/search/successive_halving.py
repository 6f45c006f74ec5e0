"""Short trainings of decoded networks at the end of a search trial, on rungs: what a trial is ranked by."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import lazy_loader
import torch
from torch import nn

from irnas_ray.datasets.batches import Batch, State
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.search.decodings import Decoding
from irnas_ray.settings.study import Final
from irnas_ray.system.random_streams import stream_seed
from irnas_ray.training.training import Training, TrainingReport
from irnas_ray.training.validation import Validate

# loaded when first used, which few workers do
stats = lazy_loader.load("scipy.stats", suppress_warning=True)


@dataclass
class Trained:
    """A decoding and what its short trainings came to."""

    decoding: Decoding
    #: Steps -> validation PSNR in dB, rung by rung.
    scores: dict[int, float] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """Validation PSNR after the longest training."""
        return self.scores[max(self.scores)]

    def to_plain(self) -> dict[str, Any]:
        """Plain values, as they are kept in a study."""
        own = asdict(self.decoding) | {"genotype": str(self.decoding.genotype), "digest": self.decoding.genotype.digest}
        return own | {"scores": [[steps, score] for steps, score in self.scores.items()]}


class CandidateTrainings:
    """Trains decoded networks from scratch and scores them on Train V, all on the same images in the same order.

    Supernets cannot be compared so: one with more nodes or channels scores higher whatever its genotype is worth.

    Args:
        make_network, make_batches: A new network of a genotype on its device; its batches, from the beginning.
        validate: Scores a network.
        settings: The recipe; its length is left aside.
        steps: Length of the longest training, whose schedule all follow.
        factor: Of so many networks one goes on to the next rung.
        seed: Of the first weights.
    """

    def __init__(
        self,
        make_network: Callable[[Genotype], nn.Module],
        make_batches: Callable[[], Iterable[Batch]],
        validate: Validate,
        settings: Final,
        steps: int,
        factor: int,
        seed: int,
    ) -> None:
        self.make_network, self.make_batches, self.validate = make_network, make_batches, validate
        self.settings = replace(settings, steps=steps, minutes=None, ema_decay=None)
        self.factor, self.seed = factor, seed
        #: Genotype -> where its training stopped.
        self.states: dict[Genotype, State] = {}
        #: As in the reports of the last training.
        self.micro_batch: int | None = None

    def run(self, decodings: Sequence[Decoding]) -> list[Trained]:
        """All decodings, the best first.

        Raises FloatingPointError where every training of a rung diverges.
        """
        trained = [Trained(decoding) for decoding in decodings]
        left, out = list(trained), list[Trained]()
        for steps, count in rungs(self.settings.steps, len(left), self.factor):
            left, beaten = left[:count], left[count:]
            out = beaten + out
            for one in left:
                one.scores[steps] = self._score(one.decoding.genotype, steps, alone=len(trained) == 1)
            left.sort(key=lambda one: -one.score)
            if not math.isfinite(left[0].score):
                raise FloatingPointError("the short training of every decoding diverged; a smaller final.lr helps")
        return left + out

    def _score(self, genotype: Genotype, steps: int, alone: bool) -> float:
        try:
            return self.train(genotype, steps).psnr
        except FloatingPointError:
            if alone:
                raise
            return -math.inf

    def train(self, genotype: Genotype, steps: int) -> TrainingReport:
        """Train a network, from where it stopped if it has begun, up to so many steps of the whole schedule."""
        torch.manual_seed(stream_seed(self.seed, "weights"))
        network = self.make_network(genotype)
        own = replace(self.settings, validate_every=steps)
        training = Training(network, self.make_batches(), self.validate, own)
        if genotype in self.states:
            training.load_state_dict(self.states.pop(genotype))
        last = training.run()
        if not last.finished:
            self.states[genotype] = training.state_dict()
        self.micro_batch = last.micro_batch
        return last


def rungs(steps: int, count: int, factor: int) -> list[tuple[int, int]]:
    """(steps so far, how many are trained) of each rung: one of ``factor`` goes on, and the last one alone is left.

    >>> rungs(900, 9, 3)
    [(100, 9), (300, 3), (900, 1)]
    """
    counts = [count]
    while counts[-1] > 1:
        counts.append(math.ceil(counts[-1] / factor))
    found: dict[int, int] = {}
    for level, left in zip(range(len(counts) - 1, -1, -1), counts, strict=True):
        # rungs of a very short training fall together
        found.setdefault(max(1, steps // factor**level), left)
    return list(found.items())


def total_steps(steps: int, count: int, factor: int) -> int:
    """Steps of all trainings on such rungs together; 0 where there are none."""
    total, before = 0, 0
    for reached, left in rungs(steps, count, factor) if steps else ():
        total, before = total + left * (reached - before), reached
    return total


def rank_correlation(trained: Sequence[Trained]) -> float | None:
    """Kendall's tau-b between the score with inherited weights and that after the first rung's training.

    None of fewer than three decodings, or where all are equal in one of the scores.
    """
    pairs = [(one.decoding.inherited, one.scores[min(one.scores)]) for one in trained]
    known = [(inherited, score) for inherited, score in pairs if inherited is not None and math.isfinite(score)]
    if len(known) < 3:
        return None
    tau = float(stats.kendalltau(*zip(*known, strict=True)).statistic)
    return tau if math.isfinite(tau) else None
