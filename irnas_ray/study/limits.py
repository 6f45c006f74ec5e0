"""The limits of a study on what its final networks cost, checked before any work, and kept while it proposes."""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from irnas_ray.hpo.objectives import Limits
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.networks.building import make_encoding
from irnas_ray.networks.costs import least_size, size_of
from irnas_ray.search.decodings import Decoding
from irnas_ray.settings.study import StudyConfig, settings_of

#: Largest grid whose networks are all built to see which of them keep the limits.
MOST_BUILT = 2000
#: Metric of a cost -> the setting that limits it.
LIMITED = {"parameters": "max_parameters", "multiply_adds_per_pixel": "max_multiply_adds"}


def most_of(config: StudyConfig) -> dict[str, float]:
    """Metric -> the most that a study allows; empty where it allows anything."""
    limits = {metric: getattr(config.tune, name) for metric, name in LIMITED.items()}
    return {metric: limit for metric, limit in limits.items() if limit is not None}


def limits_of(config: StudyConfig) -> Limits | None:
    """The limits of a study; None where it has none."""
    most = most_of(config)
    if not most:
        return None
    # kept beside the trials, where no password may lie
    own = copy.deepcopy(config)
    own.tune.storage = None
    return Limits(most, Remembered(functools.partial(known_costs, own)), exact=not config.search.supernet)


class Remembered:
    """Costs that are not computed twice in one process; what is remembered is not kept beside the trials."""

    def __init__(self, known: Callable[[Mapping[str, Any]], Mapping[str, float]]) -> None:
        self._known = known
        self._costs: dict[str, Mapping[str, float]] = {}

    def __call__(self, values: Mapping[str, Any]) -> Mapping[str, float]:
        key = str(sorted(values.items()))
        if key not in self._costs:
            self._costs[key] = self._known(values)
        return self._costs[key]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_costs": {}}


def known_costs(config: StudyConfig, values: Mapping[str, Any]) -> dict[str, int]:
    """What is known of a configuration's final network before any work: its costs, where it says which genotype it has,
    else what no network of its space is below.
    """
    settings, genes = settings_of(config, values)
    return size_of(make_encoding(settings).decode(genes), settings) if genes else least_size(settings)


def affordable(decodings: Sequence[Decoding], settings: StudyConfig) -> list[Decoding]:
    """Those whose final networks keep the limits; all of them where none does, for a trial finds something."""
    most, kept = most_of(settings), list[Decoding]()
    for decoding in decodings if most else ():
        size = size_of(decoding.genotype, settings)
        if all(size[metric] <= limit for metric, limit in most.items()):
            kept.append(decoding)
    return kept or list(decodings)


def check_limits(config: StudyConfig, space: SearchSpace) -> None:
    """ValueError if even the smallest network of the search space is beyond a limit."""
    limits = limits_of(config)
    if limits is None:
        return

    def excess(values: Mapping[str, Any]) -> float:
        return max(limits.excess(limits.known(values)).values())

    if any(excess(values) <= 0 for values in space.corners()) or excess(space.greatest(lambda v: -excess(v))) <= 0:
        return

    def smallest(metric: str) -> float:
        return limits.known(space.greatest(lambda values: -limits.known(values)[metric]))[metric]

    least = {metric: smallest(metric) for metric in limits.most}
    # each can be met where no configuration meets all
    unmet = [metric for metric, most in limits.most.items() if least[metric] > most] or list(limits.most)
    said = ", ".join(f"tune.{LIMITED[metric]}={limits.most[metric]:g} ({least[metric]:g})" for metric in unmet)
    smaller = "final.width, architecture.layers" + ", architecture.aspp=false" * config.architecture.aspp
    raise ValueError(
        f"{said}: no configuration can meet this, in brackets is what the smallest network of the space has; raise the "
        f"limit, or make the networks smaller ({smaller})"
    )


def grid_within(config: StudyConfig, space: SearchSpace, size: int) -> int:
    """How many configurations of a grid of ``size`` keep the limits; ValueError if it is too large to look at all."""
    limits = limits_of(config)
    assert limits is not None
    if size > MOST_BUILT:
        raise ValueError(
            f"tune.sampler: a grid of {size} configurations is too large to find those within tune.max_*; "
            f"use another sampler, or a grid of at most {MOST_BUILT}"
        )
    costs = (limits.excess(limits.known(values)).values() for values in space.grid())
    return sum(all(share <= 0 for share in one) for one in costs)
