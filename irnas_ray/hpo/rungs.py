"""Asynchronous successive halving: which configurations go on at a rung, decided for all their seeds together.

A configuration's seed that reaches a rung waits until every seed that still runs has reached it; their mean is compared
with those of the configurations that came there before. Nothing here knows Ray or Optuna.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

#: One value for each objective.
Values = tuple[float, ...]


class Verdict(Enum):
    """What a seed is to do."""

    GO_ON = "go on"
    WAIT = "wait"
    STOP = "stop"


def milestones(grace: int, factor: int, end: int) -> list[int]:
    """The epochs of the rungs: grace * factor^k, as long as they come before ``end``."""
    found = []
    while grace < end:
        found.append(grace)
        grace *= factor
    return found


def dominates(one: Values, other: Values, maximise: Sequence[bool]) -> bool:
    """Whether ``one`` is better in an objective and worse in none."""
    signed = [(a, b) if up else (-a, -b) for a, b, up in zip(one, other, maximise, strict=True)]
    return all(a >= b for a, b in signed) and any(a > b for a, b in signed)


def goes_on(values: Values, others: Iterable[Values], factor: int, maximise: Sequence[bool]) -> bool:
    """Whether a configuration goes on at a rung that ``others`` have reached before.

    Of n configurations it is one that fewer than max(1, n / factor) dominate: with one objective those of the best
    1/factor, as in ASHA; with several those that lie so near the Pareto front.
    """
    others = list(others)
    dominating = sum(dominates(other, values, maximise) for other in others)
    return dominating < max(1, (len(others) + 1) / factor)


@dataclass
class Standing:
    """A configuration at a rung: the values of each seed that counts there, their mean, and what was decided."""

    values: dict[int, Values] = field(default_factory=dict)
    mean: Values | None = None
    goes_on: bool | None = None

    def to_plain(self) -> dict[str, Any]:
        """The standing as JSON can hold it."""
        return {
            "values": {str(seed): list(values) for seed, values in self.values.items()},
            "mean": None if self.mean is None else list(self.mean),
            "goes on": self.goes_on,
        }

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> "Standing":
        """The standing that ``to_plain`` gave."""
        values = {int(seed): tuple(values) for seed, values in plain["values"].items()}
        return Standing(values, None if plain["mean"] is None else tuple(plain["mean"]), plain["goes on"])


class Rungs:
    """Where all configurations of a study stand, and what each of their seeds is to do.

    Args:
        milestones: Epochs of the rungs, ascending; none: nothing is ever stopped.
        factor: Of so many configurations about one goes on.
        maximise: For each objective whether more is better.
    """

    def __init__(self, milestones: Sequence[int], factor: int, maximise: Sequence[bool]) -> None:
        self.milestones, self.factor, self.maximise = sorted(milestones), factor, tuple(maximise)
        self._standings: dict[int, dict[int, Standing]] = {milestone: {} for milestone in self.milestones}
        self._running: dict[int, set[int]] = {}

    def enter(self, configuration: int, seeds: Iterable[int], standings: Mapping[str, Any] | None = None) -> None:
        """Add a configuration with the seeds that run or will run, and where it stood when it was saved.

        Once all are entered, ``decide`` makes up for what was not decided when they were saved.
        """
        self._running[configuration] = set(seeds)
        for milestone, plain in (standings or {}).items():
            self._standings.setdefault(int(milestone), {})[configuration] = Standing.from_plain(plain)

    def report(self, configuration: int, seed: int, epoch: int, values: Sequence[float]) -> Verdict:
        """Note that a seed has finished an epoch, with finite values of all objectives; what it is to do now."""
        reached = [milestone for milestone in self.milestones if milestone <= epoch]
        if reached:
            standing = self._standings[reached[-1]].setdefault(configuration, Standing())
            if standing.goes_on is None:
                standing.values[seed] = tuple(values)
                self.decide(configuration)
        return self.verdict(configuration, seed, epoch)

    def end(self, configuration: int, seed: int, failed: bool) -> None:
        """Note that a seed runs no more, so that nobody waits for it; if it failed, it counts in no open decision."""
        self._running[configuration].discard(seed)
        if failed:
            for standing in self._of(configuration).values():
                if standing.goes_on is None:
                    standing.values.pop(seed, None)
        self.decide(configuration)

    def verdict(self, configuration: int, seed: int, epoch: int) -> Verdict:
        """What a seed that has finished ``epoch`` is to do; one that was set back runs to its rung again."""
        reached = [standing for milestone, standing in self._of(configuration).items() if milestone <= epoch]
        if any(standing.goes_on is False for standing in reached):
            return Verdict.STOP
        waits = any(standing.goes_on is None and seed in standing.values for standing in reached)
        return Verdict.WAIT if waits else Verdict.GO_ON

    def standings(self, configuration: int) -> dict[str, Any]:
        """Where a configuration stands, as JSON can hold it and ``enter`` takes it."""
        return {str(milestone): standing.to_plain() for milestone, standing in self._of(configuration).items()}

    def decide(self, configuration: int) -> None:
        """Decide at every rung where no seed is waited for any more."""
        own = self._of(configuration)
        for milestone, standing in own.items():
            there = {seed for at, other in own.items() if at >= milestone for seed in other.values}
            if standing.goes_on is not None or not standing.values or self._running[configuration] - there:
                continue
            columns = zip(*standing.values.values(), strict=True)
            mean = tuple(math.fsum(column) / len(standing.values) for column in columns)
            others = [other.mean for other in self._standings[milestone].values() if other.mean is not None]
            standing.mean, standing.goes_on = mean, goes_on(mean, others, self.factor, self.maximise)

    def _of(self, configuration: int) -> dict[int, Standing]:
        return {
            milestone: standings[configuration]
            for milestone, standings in sorted(self._standings.items())
            if configuration in standings
        }
