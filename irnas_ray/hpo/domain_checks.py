"""What can be known of domains before anything is proposed: conditions that never hold, and extreme configurations."""

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from irnas_ray.hpo.domains import Domains, conditions_of, contains, distribution_of, holds, settle, values_of

#: Most configurations whose extremes are all looked at.
MOST_CORNERS = 64


def check_conditions(domains: Domains, fixed: Mapping[str, Any]) -> None:
    """ValueError naming the domain whose condition can never hold, is on a continuous domain, or goes in a circle."""
    for name, domain in domains.items():
        for key, values in conditions_of(domain).items():
            _check_condition(f"domains.{name}: when {key} in {list(values)}", key, values, domains, fixed)
    activating = _activating(domains, fixed)
    for name, domain in domains.items():
        if name not in activating:
            raise ValueError(f"domains.{name}: its conditions can never hold together ({domain}); change or remove it")


def _check_condition(what: str, key: str, values: tuple[Any, ...], domains: Domains, fixed: Mapping[str, Any]) -> None:
    if key not in domains:
        if fixed[key] not in values:
            raise ValueError(f"{what} can never hold: {key} is not tuned and is {fixed[key]!r}")
        return
    distribution = distribution_of(domains[key])
    if values_of(distribution) is None:
        raise ValueError(f"{what}: {key} is continuous and meets no value exactly; make it a list of choices")
    possible = [value for value in values if contains(distribution, value)]
    # where the other domain is not tuned itself, the study's own setting holds
    if not possible and not (conditions_of(domains[key]) and fixed[key] in values):
        raise ValueError(f"{what} can never hold: {key} is tuned over {distribution}")


def _activating(domains: Domains, fixed: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each domain that can be tuned at all, values of the others under which it is."""
    named: dict[str, list[Any]] = {}
    for domain in domains.values():
        for key, values in conditions_of(domain).items():
            if key in domains:
                named.setdefault(key, []).extend(v for v in values if contains(distribution_of(domains[key]), v))
    for key, meant in named.items():
        # one value that no condition names stands for all of them
        named[key] = [*dict.fromkeys(meant), *_first_beside(distribution_of(domains[key]), meant)]
    found: dict[str, dict[str, Any]] = {}
    for combination in product(*named.values()):
        settled = settle(dict(zip(named, combination, strict=True)), domains, fixed)
        for name in domains:
            if name not in found and holds(domains[name], settled, fixed):
                found[name] = settled
        if len(found) == len(domains):
            break
    return found


def _first_beside(distribution: BaseDistribution, named: list[Any]) -> list[Any]:
    return [value for value in values_of(distribution) or [] if value not in named][:1]


def corners(domains: Domains, fixed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The extreme configurations, which show an impossible one before it is proposed.

    Where they are too many, those in which one domain at a time leaves its first value.
    """
    ends = {name: _ends(name, domains) for name in domains}
    if math.prod(len(values) for values in ends.values()) <= MOST_CORNERS:
        full = [dict(zip(ends, combination, strict=True)) for combination in product(*ends.values())]
    else:
        first = {name: values[0] for name, values in ends.items()}
        activating = _activating(domains, fixed)
        full = [first | activating[name] | {name: value} for name, values in ends.items() for value in values]
    settled = [settle(values, domains, fixed) for values in full]
    return [values for index, values in enumerate(settled) if values not in settled[:index]]


def _ends(name: str, domains: Domains) -> list[Any]:
    """The choices of a domain, or its ends with the values between them that conditions name."""
    distribution = distribution_of(domains[name])
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    named = [value for domain in domains.values() for value in conditions_of(domain).get(name, ())]
    ends = [distribution.low, distribution.high]  # type: ignore[attr-defined]
    return list(dict.fromkeys([*ends, *(value for value in named if contains(distribution, value))]))
