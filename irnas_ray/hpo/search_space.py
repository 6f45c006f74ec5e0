"""The search space of a study: its domains, and the settings that hold where a domain is not tuned."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from itertools import product
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from irnas_ray.genotypes.encoding import Encoding, Gene
from irnas_ray.hpo.domains import Conditional, Domains, conditions_of, contains, distribution_of, values_of
from irnas_ray.settings.study import Architecture, StudyConfig, with_values

#: How the names of an architecture's settings begin.
OWN = "architecture."
#: Most configurations whose extremes are all looked at.
MOST_CORNERS = 64


@dataclass(frozen=True)
class SearchSpace:
    """All configurations that a study may propose: what is tuned, and where."""

    domains: Domains
    #: The study's own values of the settings that domains and their conditions name.
    fixed: Mapping[str, Any] = field(default_factory=dict)
    #: Whose genotypes are proposed beside the domains; None: they are found by supernets.
    architecture: Architecture | None = None

    @staticmethod
    def of(config: StudyConfig) -> "SearchSpace":
        """The search space of a study.

        Raises ValueError naming the domain or condition that is on no setting, or the one without a distribution.
        """
        fixed = {}
        for name, domain in config.domains.items():
            if not isinstance(domain, BaseDistribution | Conditional):
                raise ValueError(f"domains.{name}: {domain!r} is not an Optuna distribution")
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
        return SearchSpace(dict(config.domains), fixed, None if config.search.supernet else config.architecture)

    def encoding(self, values: Mapping[str, Any]) -> Encoding:
        """The genotypes that are proposed where domains have these values."""
        assert self.architecture is not None
        own = {key.removeprefix(OWN): value for key, value in values.items() if key.startswith(OWN)}
        return Encoding.of(replace(self.architecture, **own))

    def distribution(self, name: str) -> BaseDistribution:
        """The distribution of a domain, whether it is conditional or not."""
        return distribution_of(self.domains[name])

    def in_order(self) -> list[str]:
        """The domains so that each comes after those that its condition is on; ValueError names a circle."""
        graph = {
            name: [key for key in conditions_of(domain) if key in self.domains] for name, domain in self.domains.items()
        }
        try:
            return list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            raise ValueError(f"domains: their conditions go in a circle ({circle}); leave one of them out") from None

    def holds(self, name: str, chosen: Mapping[str, Any]) -> bool:
        """Whether a domain is tuned where the domains before it have the values ``chosen``."""
        conditions = conditions_of(self.domains[name]).items()
        return all((chosen[key] if key in chosen else self.fixed[key]) in values for key, values in conditions)

    def may_hold(self, name: str, point: Mapping[str, Any]) -> bool:
        """Whether a domain can be tuned at a part of a configuration: domains that it leaves out are undecided."""
        known = {**self.fixed, **point}
        return all(
            (other in self.domains and other not in point) or known[other] in values
            for other, values in conditions_of(self.domains[name]).items()
        )

    def settle(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the given values whose domains are tuned under them; a domain without a value is left out, too."""
        settled: dict[str, Any] = {}
        for name in self.in_order():
            if name in values and self.holds(name, settled):
                settled[name] = values[name]
        return settled

    def propose(self, trial: optuna.Trial) -> dict[str, Any]:
        """Let a trial's sampler choose a value of each domain that is tuned under the values before it, then genes."""
        chosen: dict[str, Any] = {}
        for name in self.in_order():
            if self.holds(name, chosen):
                chosen[name] = _suggest(trial, name, self.distribution(name))
        values = {name: chosen[name] for name in self.domains if name in chosen}
        if self.architecture is not None:
            encoding = self.encoding(values)
            values |= encoding.encode(encoding.build(lambda gene: _choose(trial, gene)))
        return values

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every configuration once, the last domain changing fastest; one empty configuration where there is no domain.

        Raises ValueError naming a domain that is continuous.
        """
        names = self.in_order()
        for name in names:
            if values_of(self.distribution(name)) is None:
                raise ValueError(
                    f"domains.{name}: {self.distribution(name)} is continuous, so tune.sampler=grid cannot go "
                    "through it; give it a step, or a list of choices"
                )
        yield from self._extend({}, names)

    def _extend(self, chosen: dict[str, Any], names: list[str]) -> Iterator[dict[str, Any]]:
        if not names:
            yield dict(chosen)
            return
        name, *rest = names
        if not self.holds(name, chosen):
            yield from self._extend(chosen, rest)
            return
        for value in values_of(self.distribution(name)) or []:
            yield from self._extend(chosen | {name: value}, rest)

    def check(self) -> None:
        """ValueError naming the domain whose condition can never hold, is on a continuous domain, or in a circle."""
        for name, domain in self.domains.items():
            for key, values in conditions_of(domain).items():
                self._check_condition(f"domains.{name}: when {key} in {list(values)}", key, values)
        activating = self._activating()
        for name, domain in self.domains.items():
            if name not in activating:
                raise ValueError(
                    f"domains.{name}: its conditions can never hold together ({domain}); change or remove it"
                )

    def _check_condition(self, what: str, key: str, values: tuple[Any, ...]) -> None:
        if key not in self.domains:
            if self.fixed[key] not in values:
                raise ValueError(f"{what} can never hold: {key} is not tuned and is {self.fixed[key]!r}")
            return
        distribution = self.distribution(key)
        if values_of(distribution) is None:
            raise ValueError(f"{what}: {key} is continuous and meets no value exactly; make it a list of choices")
        possible = [value for value in values if contains(distribution, value)]
        # where the other domain is not tuned itself, the study's own setting holds
        if not possible and not (conditions_of(self.domains[key]) and self.fixed[key] in values):
            raise ValueError(f"{what} can never hold: {key} is tuned over {distribution}")

    def _activating(self) -> dict[str, dict[str, Any]]:
        """For each domain that can be tuned at all, values of the others under which it is."""
        named: dict[str, list[Any]] = {}
        for domain in self.domains.values():
            for key, values in conditions_of(domain).items():
                if key in self.domains:
                    named.setdefault(key, []).extend(v for v in values if contains(self.distribution(key), v))
        for key, meant in named.items():
            # one value that no condition names stands for all of them
            named[key] = [*dict.fromkeys(meant), *_first_beside(self.distribution(key), meant)]
        found: dict[str, dict[str, Any]] = {}
        for combination in product(*named.values()):
            settled = self.settle(dict(zip(named, combination, strict=True)))
            for name in self.domains:
                if name not in found and self.holds(name, settled):
                    found[name] = settled
            if len(found) == len(self.domains):
                break
        return found

    def corners(self) -> list[dict[str, Any]]:
        """The extreme configurations, which show an impossible one before it is proposed.

        Where they are too many, those in which one domain at a time leaves its first value.
        """
        ends = {name: self._ends(name) for name in self.domains}
        if math.prod(len(values) for values in ends.values()) <= MOST_CORNERS:
            full = [dict(zip(ends, combination, strict=True)) for combination in product(*ends.values())]
        else:
            first = {name: values[0] for name, values in ends.items()}
            activating = self._activating()
            full = [first | activating[name] | {name: value} for name, values in ends.items() for value in values]
        settled = [self.settle(values) for values in full]
        return [values for index, values in enumerate(settled) if values not in settled[:index]]

    def greatest(self, size: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The configuration of extremes that is greatest by some size, as far as it grows with each domain on its own.

        Corners of many domains differ from each other in one, so that every domain is moved to its own best end.
        """
        corners = self.corners()
        ends = {f"{name}={value}": (name, value) for corner in corners for name, value in corner.items()}
        found = corners[0]
        for name, value in ends.values():
            if found.get(name) != value:
                found = max(found, self.settle(found | {name: value}), key=size)
        return found

    def _ends(self, name: str) -> list[Any]:
        """The choices of a domain, or its ends with the values between them that conditions name."""
        distribution = self.distribution(name)
        if isinstance(distribution, CategoricalDistribution):
            return list(distribution.choices)
        named = [value for domain in self.domains.values() for value in conditions_of(domain).get(name, ())]
        ends = [distribution.low, distribution.high]  # type: ignore[attr-defined]
        return list(dict.fromkeys([*ends, *(value for value in named if contains(distribution, value))]))


def _first_beside(distribution: BaseDistribution, named: list[Any]) -> list[Any]:
    return [value for value in values_of(distribution) or [] if value not in named][:1]


def _choose(trial: optuna.Trial, gene: Gene) -> str | int:
    chosen = trial.suggest_categorical(gene.name, gene.choices)
    assert isinstance(chosen, str | int)
    return chosen


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    low, high, step, log = distribution.low, distribution.high, distribution.step, distribution.log  # type: ignore[attr-defined]
    # plain numbers, which settings and JSON hold: some samplers give those of numpy
    if isinstance(distribution, IntDistribution):
        return int(trial.suggest_int(name, low, high, step=step, log=log))
    return float(trial.suggest_float(name, low, high, step=step, log=log))
