"""Which networks are trained from scratch: those of the best genotypes of a search, or others that are named."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.objectives import objectives_of
from irnas_ray.hpo.records import name_of
from irnas_ray.networks.building import make_network
from irnas_ray.networks.costs import size_of
from irnas_ray.networks.registry import GENOTYPE, make_peer
from irnas_ray.results.aggregates import front_of
from irnas_ray.results.folder import may_change
from irnas_ray.settings.study import SHAPES, StudyConfig, with_values
from irnas_ray.study.limits import RECIPE, most_of

#: These and the recipe: where they are tuned, the trial's own value is used.
BUILT_IN = (*SHAPES, *RECIPE)
#: Channels of final networks -> choices of the architecture, with one of which at least a network has them.
PARTS: dict[str, dict[str, str | bool]] = {
    "final.stem_channels": {"normalisation": "batch"},
    "final.aspp_channels": {"aspp": True, "head": "separable"},
    "final.low_level_channels": {"low_level": True},
}


def has_channels(key: str, choice: Callable[[str], Any]) -> bool:
    """Whether a network has the channels that a setting gives; ``choice`` gives its large choices by name."""
    return key not in PARTS or any(choice(name) == way for name, way in PARTS[key].items())


def read_by(genotype: Genotype | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some settings that the final network of a genotype, or one without, and its training depend on."""
    if genotype is None:
        return {key: value for key, value in values.items() if key not in SHAPES}
    return {key: value for key, value in values.items() if has_channels(key, partial(getattr, genotype.macro))}


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


def choose(records: list[dict[str, Any]], config: StudyConfig) -> list[Candidate]:
    """The ``final.count`` best distinct genotypes of the finished trials, best first; ValueError if no trial finished.

    With several objectives, those of the Pareto front. Of a study with limits only what keeps them; ValueError if none
    does.
    """
    objectives = objectives_of(config.tune.objectives)
    finished: list[Any] = [r for r in records if r["state"] == "COMPLETE" and math.isfinite(r["score"] or math.nan)]
    if finished:
        finished = _within(finished, config)
    if len(objectives) > 1 and finished:
        finished = list(front_of(finished, objectives))
    if not finished:
        states = ", ".join(f"{name_of(record)} {record['state']}" for record in records) or "none was run"
        raise ValueError(
            f"no trial finished, so there is nothing to retrain (trials: {states}); see the trials' errors"
        )
    chosen: dict[str, Candidate] = {}
    for record in sorted(finished, key=lambda record: -record["score"]):
        genotype, settings = _genotype(record), _built_in(record)
        identity = f"{genotype.digest} {sorted(read_by(genotype, settings).items())}"
        if identity not in chosen and len(chosen) < config.final.count:
            rank = len(chosen) + 1
            chosen[identity] = Candidate(rank, f"final {rank}", name_of(record), genotype, record["score"], settings)
    return list(chosen.values())


def _genotype(record: Mapping[str, Any]) -> Genotype:
    return Genotype.from_json(json.dumps(record["genotype"]))


def _built_in(record: Mapping[str, Any]) -> dict[str, Any]:
    """The trial's own values of what its final network is built and trained with."""
    return {key: value for key, value in record["config"].items() if key in BUILT_IN}


def _within(finished: list[Any], config: StudyConfig) -> list[Any]:
    """The records whose final networks keep the limits of the study."""
    most = most_of(config)
    if not most:
        return finished
    costs = [_costs(record, config) for record in finished]
    kept = [
        record
        for record, own in zip(finished, costs, strict=True)
        if all(own[metric] <= limit for metric, limit in most.items())
    ]
    if kept:
        return kept
    least = ", ".join(f"{min(own[metric] for own in costs)} of {limit} {metric}" for metric, limit in most.items())
    smaller = ", or build smaller networks (final.width)," if may_change("final.width", config) else ""
    raise ValueError(
        f"no trial found a network within tune.max_parameters and tune.max_multiply_adds (the least: {least}); raise "
        f"them{smaller} and continue with resume=true, or search a smaller space under another name"
    )


def _costs(record: Mapping[str, Any], config: StudyConfig) -> Mapping[str, Any]:
    """What a trial's final network will cost."""
    if not config.search.supernet:
        # what it cost in the trial, because no resume can have changed that
        return record
    return size_of(_genotype(record), with_values(config, _built_in(record)))
