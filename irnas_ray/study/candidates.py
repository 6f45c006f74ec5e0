"""Which networks are trained from scratch: those of the best genotypes of a search, or others that are named."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import nn

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.objectives import OBJECTIVES, Objective
from irnas_ray.hpo.records import name_of
from irnas_ray.networks.building import make_network
from irnas_ray.networks.registry import GENOTYPE, make_peer
from irnas_ray.results.aggregates import front_of
from irnas_ray.settings.study import StudyConfig

#: Settings of the recipe that may be tuned: what trainings by it cost depends on none of them.
RECIPE = (
    *("final.optimizer", "final.lr", "final.weight_decay", "final.beta2", "final.schedule", "final.warmup"),
    *("final.gradient_clip", "final.ema_decay", "final.ssim_weight"),
)
#: Settings that shape a final network beside its genotype, or its training; where they are tuned, the trial's own value
#: is used.
BUILT_IN = (
    *("architecture.residual", "architecture.activation", "architecture.sep_repeats"),
    *("final.width", "final.stem_channels", "final.aspp_channels", "final.low_level_channels"),
    *RECIPE,
)


@dataclass(frozen=True)
class Candidate:
    """A network that is trained from scratch: that of a genotype, or one without (``networks.make_peer``)."""

    rank: int
    #: What the network is called in tables.
    name: str
    #: The trial that found the genotype, or where else it is from.
    trial: str
    genotype: Genotype | None
    #: The score of that trial.
    score: float = 0.0
    #: Settings by dotted key that differ from those of the study: the trial's own, or those that are compared.
    settings: dict[str, Any] = field(default_factory=dict)
    #: ``genotype``, or the name of a network without one and its arguments.
    kind: str = GENOTYPE
    arguments: dict[str, Any] = field(default_factory=dict)

    def make_network(self, settings: StudyConfig) -> nn.Module:
        """The network with new weights under these settings; ValueError naming the setting that is impossible."""
        if self.genotype is None:
            return make_peer(self.kind, settings.architecture.channels, self.arguments)
        return make_network(self.genotype, settings)

    def identity(self) -> list[Any]:
        """Plain values that are equal exactly for candidates of the same training under the same settings."""
        return [self.kind, self.arguments, self.genotype.digest if self.genotype else None, self.settings]


def choose(
    records: list[dict[str, Any]],
    count: int,
    objectives: Sequence[Objective] = (OBJECTIVES["score"],),
    most: Mapping[str, float] = MappingProxyType({}),
) -> list[Candidate]:
    """The best distinct genotypes of the finished trials, best first; ValueError if no trial finished.

    With several objectives, those of the Pareto front. ``most`` limits their costs, by metric; ValueError if none
    keeps the limits.
    """
    finished: list[Any] = [r for r in records if r["state"] == "COMPLETE" and math.isfinite(r["score"] or math.nan)]
    if finished and most:
        finished = _within(finished, most)
    if len(objectives) > 1 and finished:
        finished = list(front_of(finished, objectives))
    if not finished:
        states = ", ".join(f"{name_of(record)} {record['state']}" for record in records) or "none was run"
        raise ValueError(
            f"no trial finished, so there is nothing to retrain (trials: {states}); see the trials' errors"
        )
    chosen: dict[str, Candidate] = {}
    for record in sorted(finished, key=lambda record: -record["score"]):
        genotype = Genotype.from_json(json.dumps(record["genotype"]))
        settings = {key: value for key, value in record["config"].items() if key in BUILT_IN}
        identity = f"{genotype.digest} {sorted(settings.items())}"
        if identity not in chosen and len(chosen) < count:
            rank = len(chosen) + 1
            chosen[identity] = Candidate(rank, f"final {rank}", name_of(record), genotype, record["score"], settings)
    return list(chosen.values())


def _within(finished: list[Any], most: Mapping[str, float]) -> list[Any]:
    """The records whose costs keep the limits."""
    kept = [record for record in finished if all(record[metric] <= limit for metric, limit in most.items())]
    if kept:
        return kept
    least = ", ".join(f"{min(r[metric] for r in finished)} of {limit} {metric}" for metric, limit in most.items())
    raise ValueError(
        f"no trial found a network within tune.max_parameters and tune.max_multiply_adds (the least: {least}); raise "
        "them and continue with resume=true, or search a smaller space under another name"
    )
