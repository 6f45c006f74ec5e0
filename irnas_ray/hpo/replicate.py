"""One seed of a configuration, which is one trial of Tune: what it reported, and how it ended."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState

from irnas_ray.hpo.objectives import LATENCY
from irnas_ray.hpo.rungs import Values

#: What a trial reports that is kept: short values with each seed, and long ones as attributes of their own.
SHORT = (
    *("psnr", "ssim", "digest", "seconds", "device", "parameters", "multiply_adds_per_pixel", LATENCY),
    *("steps", "training_multiply_adds", "micro_batch"),
)
#: What is kept where it is known: parts of a batch only where whole ones did not fit into memory.
NOT_ALWAYS = ("steps", "training_multiply_adds", "micro_batch")
LONG = ("genotype", "margins", "lineage", "health")
#: States after which a seed runs no more.
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class TrialNames:
    """What trials are called everywhere: the number that Optuna shows, and with several seeds ``NUMBER-SEED``.

    Seeds of a configuration count from 0, as Optuna's numbers do. ``first`` is the first seed of the study.
    """

    first: int
    replicates: int

    def __call__(self, config: Mapping[str, Any]) -> str:
        """The name of the trial that runs with this configuration, of which only the seed counts."""
        return self.name(*divmod(config["seed"] - self.first, self.replicates))

    def name(self, number: int, place: int) -> str:
        """The name of a seed, by the number of its configuration and its place there."""
        return str(number) if self.replicates == 1 else f"{number}-{place}"


@dataclass
class Replicate:
    """One seed of a configuration; WAITING until it is suggested to Tune."""

    seed: int
    #: Id and folder of the Tune trial.
    trial: str | None = None
    folder: str | None = None
    state: TrialState = TrialState.WAITING
    #: Values of the objectives in the last report.
    values: list[float] | None = None
    error: str | None = None
    #: What the last report held beside them.
    found: dict[str, Any] = field(default_factory=dict)
    #: Epoch -> values of the objectives.
    reports: dict[int, list[float]] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """The last epoch that was reported, 0 before the first."""
        return max(self.reports, default=0)

    def set_back(self, epoch: int) -> None:
        """Note that the seed goes on after an earlier epoch; one that has ended keeps what it came to."""
        if self.state in ENDED:
            return
        self.reports = {at: values for at, values in self.reports.items() if at <= epoch}
        # those that were kept with the seed are as old as the last time that a sibling began or ended
        self.values = self.reports.get(self.epoch)

    def lose(self) -> None:
        """Note that Tune has forgotten the seed's trial, so that it must run again."""
        self.trial, self.folder, self.state, self.error = None, None, TrialState.WAITING, None
        self.values, self.reports = None, {}

    def ending(self, names: Sequence[str], result: Mapping[str, Any], failed: bool) -> tuple[TrialState, str | None]:
        """How the seed ended whose trial's last report is ``result``, and the error if it failed."""
        if failed:
            return TrialState.FAIL, self.error or "the trial died"
        if result.get("error"):
            return TrialState.FAIL, str(result["error"])
        wrong = [name for name in names if not _is_finite(result.get(name))]
        if wrong and "epoch" in result:
            return TrialState.FAIL, f"{wrong[0]} is {result.get(wrong[0])} after epoch {result['epoch']}"
        if self.values is None:
            return TrialState.FAIL, "the trial ended without a report"
        return (TrialState.COMPLETE if result.get("finished") else TrialState.PRUNED), None

    def outcome(self, names: Sequence[str]) -> dict[str, Any]:
        """The last report of a seed that has ended, as far as it is kept."""
        found = self.found | dict(zip(names, self.values or (), strict=False))
        error = {"error": self.error} if self.error else {}
        return found | error | {"finished": self.state == TrialState.COMPLETE}

    def to_plain(self, names: Sequence[str]) -> dict[str, Any]:
        """The seed as it is kept in the Optuna trial, with its values under the objectives' names."""
        values: dict[str, Any] = dict.fromkeys(names)
        values |= dict(zip(names, self.values or (), strict=False))
        kept = {name: self.found[name] for name in SHORT if name in self.found and name not in values}
        own = {"seed": self.seed, "trial": self.trial, "state": self.state.name}
        return own | values | kept | {"error": self.error, "folder": self.folder}

    @staticmethod
    def from_plain(plain: Mapping[str, Any], names: Sequence[str]) -> "Replicate":
        """The seed that ``to_plain`` gave."""
        values = [plain[name] for name in names]
        return Replicate(
            plain["seed"],
            plain["trial"],
            plain["folder"],
            TrialState[plain["state"]],
            None if None in values else values,
            plain["error"],
            {name: plain[name] for name in SHORT if name in plain},
        )


def finite_values(result: Mapping[str, Any], names: Sequence[str]) -> Values | None:
    """The values of the objectives in a report; None if one is missing or not finite."""
    values = [result.get(name) for name in names]
    return tuple(map(float, values)) if all(map(_is_finite, values)) else None  # type: ignore[arg-type]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
