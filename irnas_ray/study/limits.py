"""The limits of a study on what its final networks cost, checked before any work, and kept while it proposes."""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from irnas_ray.hpo.domains import distinct
from irnas_ray.hpo.objectives import Limits
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.networks.building import make_encoding
from irnas_ray.networks.costs import least_size, size_of
from irnas_ray.search.decodings import Decoding
from irnas_ray.settings.study import CHANNELS, StudyConfig, settings_of, short_values

#: Largest grid whose networks are all built to see which of them keep the limits.
MOST_BUILT = 2000
#: Most configurations whose smallest networks are built to see whether one of them keeps the limits.
MOST_LOOKED = 64
#: Settings with which no network becomes smaller, whatever the others are. With more layers one may:
#: ``Macro.lower_layers``.
GROWING = {"architecture.nodes", "architecture.sep_repeats", *CHANNELS}
#: What shapes supernets only.
OF_SUPERNETS = tuple(
    f"architecture.{name}" for name in ("width", "share_cells", "stem_channels", "recompute", "normalise_skip")
)
#: Settings of the recipe that may be tuned: what trainings by it cost depends on none of them.
RECIPE = (
    *("final.optimizer", "final.lr", "final.weight_decay", "final.beta2", "final.schedule", "final.warmup"),
    *("final.gradient_clip", "final.ema_decay", "final.ssim_weight"),
)
#: Settings that the costs of final networks do not depend on, beside those of the search.
FREE = {*OF_SUPERNETS, *RECIPE, "architecture.residual", "architecture.activation"}
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
        values = {name: value for name, value in values.items() if not _is_free(name)}
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
    """ValueError if even the smallest network of the search space is beyond a limit, unless too many may be it."""
    limits = limits_of(config)
    if limits is None:
        return
    sizes = []
    for values in _smallest(space):
        try:
            sizes.append(limits.known(values))
        except ValueError as error:
            raise ValueError(f"domains: {short_values(values)}: {error}") from None
        if max(limits.excess(sizes[-1]).values()) <= 0:
            return
    if not sizes:
        return
    least = {metric: min(size[metric] for size in sizes) for metric in limits.most}
    # each can be met where no configuration meets all
    unmet = [metric for metric, most in limits.most.items() if least[metric] > most] or list(limits.most)
    said = ", ".join(f"tune.{LIMITED[metric]}={limits.most[metric]:g} ({least[metric]:g})" for metric in unmet)
    smaller = "final.width, architecture.layers" + ", architecture.aspp=false" * config.architecture.aspp
    raise ValueError(
        f"{said}: no configuration can meet this, in brackets is what the smallest network of the space has; raise the "
        f"limit, or make the networks smaller ({smaller})"
    )


def _smallest(space: SearchSpace) -> list[dict[str, Any]]:
    """Configurations, by what costs depend on, of which each other one has at least the costs of one.

    None at all where they are too many, for then none shows that a limit cannot be met.
    """
    wanted = {name: space.all_of(name) for name in space.domains if not _is_free(name)}
    for name in GROWING & wanted.keys():
        named, values = space.named(name), wanted[name]
        others = (value for value in (values if isinstance(values, range) else sorted(values)) if value not in named)
        # conditions tell these apart; of all others, the least has the smallest networks
        wanted[name] = [*named, *islice(others, 1)]
    found = list(islice(space.configurations(wanted), MOST_LOOKED + 1))
    if len(found) > MOST_LOOKED:
        return []
    return distinct({name: value for name, value in values.items() if name in wanted} for values in found)


def _is_free(name: str) -> bool:
    """Whether no final network costs more or less by a setting."""
    return name.startswith("search.") or name in FREE


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
