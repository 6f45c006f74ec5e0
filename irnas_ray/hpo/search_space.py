"""The search space of a study: its domains, and the settings that hold where a domain is not tuned."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from itertools import chain, combinations, islice, product
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from irnas_ray.genotypes.encoding import Encoding, Gene
from irnas_ray.hpo.domains import (
    Conditional,
    Domains,
    as_given,
    conditions_of,
    contains,
    distinct,
    distribution_of,
    ends_of,
    suggest,
    values_of,
)
from irnas_ray.settings.study import Architecture, StudyConfig, with_values

#: How the names of an architecture's settings begin.
OWN = "architecture."
#: Most configurations whose extremes are all looked at.
MOST_CORNERS = 64
#: Most pairs of two domains' values that are all looked at where configurations are more, and of these configurations.
MOST_PAIRS = 256
#: Settings with which a network does not just grow: its size goes up and down with this period, for the middle third of
#: the layers may be wider (``Macro.lower_layers``).
PERIODS = {"architecture.layers": 3}
#: A domain and the place of one of its ends.
Place = tuple[str, int]


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
                chosen[name] = suggest(trial, name, self.distribution(name))
        values = {name: chosen[name] for name in self.domains if name in chosen}
        if self.architecture is not None:
            encoding = self.encoding(values)
            values |= encoding.encode(encoding.build(lambda gene: _choose(trial, gene)))
        return values

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every configuration once, the last domain changing fastest; one empty configuration where there is no domain.

        Raises ValueError naming a domain that is continuous.
        """
        values = {name: values_of(self.distribution(name)) for name in self.in_order()}
        for name, own in values.items():
            if own is None:
                raise ValueError(
                    f"domains.{name}: {self.distribution(name)} is continuous, so tune.sampler=grid cannot go "
                    "through it; give it a step, or a list of choices"
                )
        yield from self.configurations({name: own or [] for name, own in values.items()})

    def configurations(self, values: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
        """Every configuration of some domains with these values once, the last domain changing fastest.

        Domains that their conditions are on, and that are not given, have one value of each kind.
        """
        order, wanted = self.in_order(), dict(values)
        for name in reversed(order):
            for key in conditions_of(self.domains[name]) if name in wanted else ():
                if key in self.domains:
                    wanted.setdefault(key, self.kinds(key))
        yield from self._extend({}, [name for name in order if name in wanted], wanted)

    def _extend(
        self, chosen: dict[str, Any], names: list[str], values: Mapping[str, Sequence[Any]]
    ) -> Iterator[dict[str, Any]]:
        if not names:
            yield dict(chosen)
            return
        name, *rest = names
        if not self.holds(name, chosen):
            yield from self._extend(chosen, rest, values)
            return
        for value in values[name]:
            yield from self._extend(chosen | {name: value}, rest, values)

    def named(self, name: str) -> list[Any]:
        """The values of a domain that conditions of others name."""
        distribution = self.distribution(name)
        meant = (value for domain in self.domains.values() for value in conditions_of(domain).get(name, ()))
        return distinct(as_given(distribution, value) for value in meant if contains(distribution, value))

    def all_of(self, name: str) -> Sequence[Any]:
        """All values of a domain; of a continuous one, its ends."""
        return values_of(self.distribution(name)) or ends_of(self.distribution(name))

    def kinds(self, name: str) -> list[Any]:
        """The values of a domain that conditions name, and one that none does, which stands for all others."""
        named = self.named(name)
        return [*named, *islice((value for value in self.all_of(name) if value not in named), 1)]

    def check(self) -> None:
        """ValueError naming the domain whose condition can never hold, is on a continuous domain, or in a circle."""
        for name, domain in self.domains.items():
            for key, values in conditions_of(domain).items():
                self._check_condition(f"domains.{name}: when {key} in {list(values)}", key, values)
        for name, domain in self.domains.items():
            if self._meeting({name: self.kinds(name)[0]}) is None:
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

    def _meeting(self, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """Given values with those of the domains that their conditions are on; None where they are never together."""
        found = self.configurations({name: [value] for name, value in given.items()})
        return next((values for values in found if given.keys() <= values.keys()), None)

    def corners(self) -> list[dict[str, Any]]:
        """The extreme configurations, which show an impossible one before it is proposed.

        Where they are too many, so many of them that any two values that can come together do so in one, as far as
        these are not very many themselves; every value is in one.
        """
        ends = {name: self._ends(name) for name in self.domains}
        found = list(islice(self.configurations(ends), MOST_CORNERS + 1))
        return found if len(found) <= MOST_CORNERS else self._pairwise(ends)

    def _pairwise(self, ends: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
        places = [[(name, index) for index in range(len(values))] for name, values in ends.items()]
        # a dictionary keeps the order, so that the same corners are found again
        pairs = [product(*two) for two in combinations(places, 2) if len(two[0]) * len(two[1]) <= MOST_PAIRS]
        missing = {frozenset(pair): None for pair in chain.from_iterable(pairs)}
        missing |= {frozenset([place]): None for own in places for place in own}
        found = []
        while missing:
            wanted = next(iter(missing))
            del missing[wanted]
            start = self._meeting({name: ends[name][index] for name, index in wanted})
            if start is None:
                continue
            corner = self._filled(start, ends, missing)
            reached = [(name, ends[name].index(value)) for name, value in corner.items()]
            for together in chain(combinations(reached, 1), combinations(reached, 2)):
                missing.pop(frozenset(together), None)
            found.append(corner)
            if len(found) == MOST_PAIRS:
                missing = {pair: None for pair in missing if len(pair) == 1}
        return found

    def _filled(
        self, start: dict[str, Any], ends: Mapping[str, Sequence[Any]], missing: Collection[frozenset[Place]]
    ) -> dict[str, Any]:
        """A part of a configuration with all others of its domains, at values that come with many for the first time.

        The part has all values that its own conditions are on.
        """
        corner = dict(start)
        for name in self.in_order():
            if name not in corner and self.holds(name, corner):
                others = [(other, ends[other].index(value)) for other, value in corner.items()]
                new = [
                    sum(frozenset([(name, i), other]) in missing for other in others) for i in range(len(ends[name]))
                ]
                corner[name] = ends[name][new.index(max(new))]
        return corner

    def greatest(self, size: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The greatest of the extreme configurations by some size.

        Where they are too many, one that changing the end of no single domain makes greater.
        """
        ends = {name: self._ends(name) for name in self.domains}
        looked = self.corners()
        found, most = max(((corner, size(corner)) for corner in looked), key=lambda pair: pair[1])
        before = None
        while found != before:
            before = found
            for name, value in ((name, value) for name, values in ends.items() for value in values):
                changed = self._filled(self.settle({**found, name: value}), ends, ())
                if changed not in looked:
                    looked.append(changed)
                    found, most = max((found, most), (changed, size(changed)), key=lambda pair: pair[1])
        return found

    def _ends(self, name: str) -> list[Any]:
        """The choices of a domain, or its ends with the values between them that conditions tell apart."""
        return distinct([*ends_of(self.distribution(name), PERIODS.get(name, 1)), *self.kinds(name)])


def _choose(trial: optuna.Trial, gene: Gene) -> str | int:
    chosen = trial.suggest_categorical(gene.name, gene.choices)
    assert isinstance(chosen, str | int)
    return chosen
