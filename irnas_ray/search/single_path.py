"""A supernet whose weights are trained on single paths, and evolution among its paths with the weights they inherit."""

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from irnas_ray.datasets.batches import State
from irnas_ray.genotypes.decoding import Margin
from irnas_ray.genotypes.encoding import Encoding
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.search.bilevel import BilevelSearch
from irnas_ray.search.decodings import Decoding
from irnas_ray.search.health import Health, shares_of, skip_expected
from irnas_ray.search.paths import FairPaths, PathNetwork

#: Uniform paths that a validation scores while the weights are trained; always the same.
WATCHED = 8
#: Share of the paths that evolution scores which are uniform, and of the best that are parents.
UNIFORM, PARENTS = 1 / 4, 1 / 4
#: Children that are known already before one is drawn uniformly instead.
MOST_KNOWN = 20


class SinglePathSearch(BilevelSearch):
    """A search by uniform paths with strict fairness (Chu et al. 2021) and evolution among them (Guo et al. 2020).

    Every weight step trains one path; Train W and Train A take turns, as no alpha is trained. The last epoch ends with
    ``path_evaluations`` paths scored on Train V with the weights that they share, each normalised by the images at
    hand: a quarter of them uniform, then edits and crossings of the best. Reports score the best path that is known.
    Saved, continued and told as a bilevel search, whose arguments it takes; raises ValueError where the supernet has
    several widths.
    """

    def __init__(self, net: SuperNet, *arguments: Any, **changes: Any) -> None:
        super().__init__(net, *arguments, **changes)
        self.paths = FairPaths(net)
        #: The paths of the last validation, the best first, with their scores.
        self.ranked: list[tuple[Genotype, dict[str, float]]] = []

    def _steps(self, train_architecture: bool) -> tuple[Tensor, Tensor]:
        return super()._steps(train_architecture=False)

    def _weight_step(self) -> Tensor:
        assert self.paths is not None
        batches = (self.train_w, self.train_a)[self.schedule.last_epoch % 2]
        return self._step(next(batches), self.weights, self.architecture, self.weight_optimizer, path=self.paths.next())

    def _scores(self) -> dict[str, float]:
        assert self.paths is not None
        encoding, own = self.paths.encoding, self.settings
        watched, _ = encoding.sample_distinct(Random(0), min(WATCHED, encoding.size))
        if self.epoch < own.epochs:
            self.ranked = _best_first([(path, self._inherited(path)) for path in watched])
        else:
            # what is drawn follows from the state that the search was saved with
            rng = Random(int(torch.randint(2**31, ())))
            self.ranked = evolved(encoding, self._inherited, own.path_evaluations, own.tournament, rng, watched)
        return self.ranked[0][1]

    def _inherited(self, path: Genotype) -> dict[str, float]:
        return self.validate(PathNetwork(self.net, path))

    def _decision(self) -> tuple[Genotype, list[Margin], Health]:
        best = [path for path, _ in self.ranked[: max(1, round(PARENTS * len(self.ranked)))]]
        shares = shares_of(best, self.net.operators)
        health = Health(
            skip_share=shares_of(best[:1], self.net.operators)["skip"],
            skip_expected=skip_expected(self.net.operators),
            alpha_entropy=None,
            beta_entropy=None,
            possible_margin=None,
            ties=0,
            decisions=0,
            operators=shares,
            moves=[],
        )
        return best[0], [], health

    def _wins(self, psnr: float) -> bool:
        # the weights are better at every validation, and its paths are others
        return True

    def decodings(self) -> list[Decoding]:
        """The best ``candidates`` paths of the last validation; ValueError before the first."""
        self.result()
        best = self.ranked[: self.settings.candidates]
        return [Decoding(path, "evolution", float(scores["psnr"])) for path, scores in best]

    def state_dict(self) -> State:
        """Everything that the rest of the search depends on."""
        return super().state_dict() | {"ranked": [[path.to_json(), scores] for path, scores in self.ranked]}

    def load_state_dict(self, state: State) -> None:
        """Continue from a ``state_dict``; ValueError if it belongs to another supernet or method."""
        if "ranked" not in state:
            raise ValueError("the checkpoint belongs to another search.method")
        super().load_state_dict(state)
        self.ranked = [(Genotype.from_json(text), dict(scores)) for text, scores in state["ranked"]]


#: The search of each method with a supernet.
SEARCHES: dict[str, type[BilevelSearch]] = {"darts": BilevelSearch, "single_path": SinglePathSearch}


def evolved(
    encoding: Encoding,
    score: Callable[[Genotype], dict[str, float]],
    evaluations: int,
    tournament: int,
    rng: Random,
    known: Sequence[Genotype] = (),
) -> list[tuple[Genotype, dict[str, float]]]:
    """So many different genotypes with their scores, the best PSNR first; all of a space that has no more.

    A quarter is uniform, beginning with those that are ``known``; then every child is, at even odds, one edit of a
    parent or a crossing of two. A parent is the best of ``tournament`` drawn from the best quarter so far.
    """
    if encoding.size <= evaluations:
        return _best_first([(path, score(path)) for path in encoding.enumerate()])
    uniform = max(1, round(UNIFORM * evaluations))
    first = [*known][:uniform]
    first += encoding.sample_distinct(rng, uniform - len(first), known=first)[0]
    found = {path: score(path) for path in first}
    while len(found) < evaluations:
        ranked = _best_first(list(found.items()))
        parents = [path for path, _ in ranked[: max(2, round(PARENTS * len(ranked)))]]
        child = _child(encoding, parents, tournament, rng, known=found)
        found[child] = score(child)
    return _best_first(list(found.items()))


def _child(
    encoding: Encoding, parents: list[Genotype], tournament: int, rng: Random, known: Collection[Genotype]
) -> Genotype:
    def parent() -> Genotype:
        # the best first
        return parents[min(rng.randrange(len(parents)) for _ in range(tournament))]

    for _ in range(MOST_KNOWN):
        child = encoding.mutate(parent(), rng) if rng.random() < 0.5 else encoding.crossover(parent(), parent(), rng)
        if child not in known:
            return child
    return encoding.sample_distinct(rng, 1, known=known)[0][0]


def _best_first(scored: list[tuple[Genotype, dict[str, float]]]) -> list[tuple[Genotype, dict[str, float]]]:
    return sorted(scored, key=lambda pair: -pair[1]["psnr"])
