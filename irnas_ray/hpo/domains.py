"""What is tuned: domains, some of which exist only where other settings have certain values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


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


#: Standard deviation of a step from one number to another, as a share of the range.
REACH = 0.15
#: Dotted key of a setting -> what is tuned.
Domains = Mapping[str, BaseDistribution | Conditional]


def distribution_of(domain: BaseDistribution | Conditional) -> BaseDistribution:
    """The distribution of a domain, whether it is conditional or not."""
    return domain.distribution if isinstance(domain, Conditional) else domain


def conditions_of(domain: BaseDistribution | Conditional) -> Mapping[str, tuple[Any, ...]]:
    """Key -> values under which a domain is tuned; empty where it always is."""
    return domain.when if isinstance(domain, Conditional) else {}


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


def values_of(distribution: BaseDistribution) -> Sequence[Any] | None:
    """All values that a distribution can give, numbers ascending; None if it is continuous."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    assert isinstance(distribution, FloatDistribution)
    if distribution.low == distribution.high:
        return [distribution.low]
    if distribution.step is None:
        return None
    count = math.floor((distribution.high - distribution.low) / distribution.step + 1e-8) + 1
    return [float(f"{distribution.low + index * distribution.step:.12g}") for index in range(count)]


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values without repetitions, in their order: lists too, which sets cannot hold, and 1 beside true."""
    found: list[Any] = []
    for value in values:
        if not any(type(other) is type(value) and other == value for other in found):
            found.append(value)
    return found


def ends_of(distribution: BaseDistribution, outer: int = 1) -> list[Any]:
    """The choices of a distribution, or so many of its least and of its greatest numbers."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        values = range(distribution.low, distribution.high + 1, distribution.step)
        return distinct([*values[:outer], *values[-outer:]])
    assert isinstance(distribution, FloatDistribution)
    return distinct([distribution.low, distribution.high])


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    """The value of a distribution that a trial's sampler chooses, as a plain one."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    # plain numbers, which settings and JSON hold: some samplers give those of numpy
    if isinstance(distribution, IntDistribution):
        low, high, step, log = distribution.low, distribution.high, distribution.step, distribution.log
        return int(trial.suggest_int(name, low, high, step=step, log=log))
    assert isinstance(distribution, FloatDistribution)
    least, most = distribution.low, distribution.high
    return float(trial.suggest_float(name, least, most, step=distribution.step, log=distribution.log))


def as_given(distribution: BaseDistribution, value: Any) -> Any:
    """The value as the distribution itself gives it: 3 for 3.0, and 0.3 for 0.1 + 0.2."""
    if isinstance(distribution, CategoricalDistribution):
        return next(choice for choice in distribution.choices if contains(CategoricalDistribution((choice,)), value))
    if isinstance(distribution, IntDistribution):
        return int(value)
    assert isinstance(distribution, FloatDistribution)
    return float(min(values_of(distribution) or [value], key=lambda possible: abs(possible - value)))


def moved(distribution: BaseDistribution, value: Any, rng: Random) -> Any:
    """A number at a normal distance of some 15 % of the distribution's range from ``value``; of choices, any.

    On a logarithmic scale where the distribution has one. Of numbers with steps it is another one, if there is one.
    """
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        return rng.choice(values_of(distribution) or [value])
    scale, back = (math.log, math.exp) if distribution.log else (float, float)
    low, high = scale(distribution.low), scale(distribution.high)
    place = min(max(scale(value) + rng.gauss(0, REACH * (high - low)), low), high)
    values = values_of(distribution)
    if values is None:
        return min(max(back(place), distribution.low), distribution.high)
    others = [other for other in values if other != value]
    return min(others, key=lambda other: abs(scale(other) - place)) if others else value
