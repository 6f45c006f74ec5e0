"""What is tuned: domains, some of which exist only where other settings have certain values."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from irnas_ray.settings.study import StudyConfig, with_values


@dataclass(frozen=True)
class Conditional:
    """A distribution that is tuned only where each key of ``when``, a domain or a fixed setting, has one of its values.

    Elsewhere the study's own setting holds.
    """

    distribution: BaseDistribution
    when: Mapping[str, tuple[Any, ...]]

    def __str__(self) -> str:
        conditions = " and ".join(f"{key} in {list(values)}" for key, values in sorted(self.when.items()))
        return f"{self.distribution} when {conditions}"


#: Dotted key of a setting -> what is tuned.
Domains = Mapping[str, BaseDistribution | Conditional]


def distribution_of(domain: BaseDistribution | Conditional) -> BaseDistribution:
    """The distribution of a domain, whether it is conditional or not."""
    return domain.distribution if isinstance(domain, Conditional) else domain


def conditions_of(domain: BaseDistribution | Conditional) -> Mapping[str, tuple[Any, ...]]:
    """Key -> values under which a domain is tuned; empty where it always is."""
    return domain.when if isinstance(domain, Conditional) else {}


def fixed_values(config: StudyConfig) -> dict[str, Any]:
    """The study's own values of all settings that domains and their conditions name.

    Raises ValueError naming the condition that is on no setting.
    """
    fixed = {}
    for name, domain in config.domains.items():
        for key in (name, *conditions_of(domain)):
            try:
                with_values(config, {key: None})
            except ValueError as error:
                where = f"domains.{name}" if key == name else f"domains.{name}: when"
                raise ValueError(f"{where}: {error}") from None
            value: Any = config
            for part in key.split("."):
                value = getattr(value, part)
            fixed[key] = value
    return fixed


def in_order(domains: Domains) -> list[str]:
    """The domains so that each comes after those that its condition is on; ValueError names a circle."""
    graph = {name: [key for key in conditions_of(domain) if key in domains] for name, domain in domains.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise ValueError(f"domains: their conditions go in a circle ({circle}); leave one of them out") from None


def settle(values: Mapping[str, Any], domains: Domains, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the given values whose domains are tuned under them; a domain without a value is left out, too."""
    settled: dict[str, Any] = {}
    for name in in_order(domains):
        if name in values and holds(domains[name], settled, fixed):
            settled[name] = values[name]
    return settled


def holds(domain: BaseDistribution | Conditional, chosen: Mapping[str, Any], fixed: Mapping[str, Any]) -> bool:
    """Whether a domain is tuned where the domains before it have the values ``chosen``."""
    conditions = conditions_of(domain).items()
    return all((chosen[key] if key in chosen else fixed[key]) in values for key, values in conditions)


def propose(trial: optuna.Trial, domains: Domains, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Let a trial's sampler choose a value of each domain that is tuned under the values before it.

    ``fixed`` holds the study's own values of what conditions name (``fixed_values``).
    """
    chosen: dict[str, Any] = {}
    for name in in_order(domains):
        if holds(domains[name], chosen, fixed):
            chosen[name] = _suggest(trial, name, distribution_of(domains[name]))
    return {name: chosen[name] for name in domains if name in chosen}


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    low, high, step, log = distribution.low, distribution.high, distribution.step, distribution.log  # type: ignore[attr-defined]
    # plain numbers, which settings and JSON hold: some samplers give those of numpy
    if isinstance(distribution, IntDistribution):
        return int(trial.suggest_int(name, low, high, step=step, log=log))
    return float(trial.suggest_float(name, low, high, step=step, log=log))


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution can give a value."""
    if isinstance(distribution, CategoricalDistribution):
        return any(type(choice) is type(value) and choice == value for choice in distribution.choices) or (
            _is_number(value) and any(_is_number(choice) and choice == value for choice in distribution.choices)
        )
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if not _is_number(value) or not distribution.low <= value <= distribution.high:
        return False
    if distribution.step is None:
        return True
    steps = (value - distribution.low) / distribution.step
    return math.isclose(steps, round(steps), abs_tol=1e-8)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def values_of(distribution: BaseDistribution) -> list[Any] | None:
    """All values that a distribution can give, ascending; None if it is continuous."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    assert isinstance(distribution, FloatDistribution)
    if distribution.low == distribution.high:
        return [distribution.low]
    if distribution.step is None:
        return None
    count = math.floor((distribution.high - distribution.low) / distribution.step + 1e-8) + 1
    return [float(f"{distribution.low + index * distribution.step:.12g}") for index in range(count)]


def grid(domains: Domains, fixed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every configuration once, the last domain changing fastest; one empty configuration where there is no domain.

    Raises ValueError naming a domain that is continuous.
    """
    names = in_order(domains)
    for name in names:
        if values_of(distribution_of(domains[name])) is None:
            raise ValueError(
                f"domains.{name}: {distribution_of(domains[name])} is continuous, so tune.sampler=grid cannot go "
                "through it; give it a step, or a list of choices"
            )
    yield from _extend({}, names, domains, fixed)


def _extend(
    chosen: dict[str, Any], names: list[str], domains: Domains, fixed: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    if not names:
        yield dict(chosen)
        return
    name, *rest = names
    if not holds(domains[name], chosen, fixed):
        yield from _extend(chosen, rest, domains, fixed)
        return
    for value in values_of(distribution_of(domains[name])) or []:
        yield from _extend(chosen | {name: value}, rest, domains, fixed)
