"""Where the trials of a running stage stand: one state, from which lines and the live table are both written."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from irnas_ray.settings.study import short_values

#: What Tune calls the states of its trials, in the user's words; a terminated one is told apart by its last report.
STATES = {"PENDING": "waiting", "RUNNING": "running", "PAUSED": "paused", "ERROR": "failed"}
OVER = ("finished", "stopped early", "failed")

#: Gives the name of a trial by its configuration.
Names = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class TrialView:
    """A trial as it is shown."""

    name: str
    #: Its place in the order of the proposals.
    number: int
    #: waiting, running, paused, finished, stopped early, interrupted or failed.
    state: str
    #: Where it is, such as "epoch 3/10".
    progress: str
    score: float | None
    #: The rung that it reached last, counted from 1; 0: none yet.
    rung: int
    configuration: str


@dataclass(frozen=True)
class RungView:
    """How many trials came to a rung, and how many were stopped there."""

    epoch: int
    reached: int
    stopped: int


class StageState:
    """A stage's trials, the best score so far, and the time left; fed with Tune's trials, which it only reads.

    ``trials`` is how many the stage has in all, ``score`` the metric that compares them, ``rungs`` the epochs at which
    bad ones are stopped, ``names`` how trials are called; by default by their place in the order of the proposals.
    """

    def __init__(
        self,
        stage: str,
        trials: int,
        score: str,
        unit: str = "dB",
        rungs: Sequence[int] = (),
        names: Names | None = None,
    ) -> None:
        self.names = names
        #: What a trial of the stage is.
        self.kind = "final" if stage == "finals" else "trial"
        self.stage, self.trials, self.score, self.unit, self.rungs = stage, trials, score, unit, tuple(rungs)
        #: Name of a trial -> whether it has finished, and its best score until then, or its last one.
        self._scores: dict[str, tuple[bool, float]] = {}
        self._interrupted: set[str] = set()
        self._start = time.time()
        self._done_before: float | None = None
        self._numbers: dict[str, int] = {}
        self._noticed: set[tuple[str, str]] = set()

    @property
    def best_name(self) -> str:
        """The trial with the best score, empty before the first: of those that have finished, once there is one.

        What a supernet reports on the way and the score that a trial ends with must not be compared.
        """
        return max(self._scores, key=lambda name: self._scores[name], default="")

    @property
    def best(self) -> float | None:
        """The score of that trial."""
        return self._scores[self.best_name][1] if self._scores else None

    def begin(self) -> None:
        """Count the time from now on; a stage that is continued counts its own."""
        self._start, self._done_before = time.time(), None

    @property
    def seconds(self) -> float:
        """Time since the stage began, or was continued."""
        return time.time() - self._start

    def read(self, trials: Sequence[Any]) -> None:
        """Take notice of all trials there are, in the order in which they were proposed."""
        for trial in trials:
            self._numbers.setdefault(trial.trial_id, len(self._numbers))
            self.note(trial, trial.last_result or {})
        if self._done_before is None:
            self._done_before = self._done(trials)

    def name(self, trial: Any) -> str:
        """What the trial is called."""
        return str(self._numbers.get(trial.trial_id, 0)) if self.names is None else self.names(trial.config)

    def ended(self, trials: Sequence[Any]) -> int:
        """How many trials are over."""
        return sum(self.state(trial) in OVER for trial in trials)

    def value(self, result: Mapping[str, Any]) -> float | None:
        """The score in a report."""
        value = result.get(self.score)
        return float(value) if isinstance(value, float | int) and math.isfinite(value) else None

    def new_notice(self, trial: Any, result: Mapping[str, Any]) -> str | None:
        """What a trial has to tell the user, the first time that it does."""
        notice = result.get("notice")
        if not notice or (trial.trial_id, str(notice)) in self._noticed:
            return None
        self._noticed.add((trial.trial_id, str(notice)))
        return str(notice)

    def view(self, trial: Any) -> TrialView:
        """One trial as it is shown."""
        last = trial.last_result or {}
        rung = sum(last.get("epoch", 0) >= epoch for epoch in self.rungs)
        progress = str(last.get("progress", ""))
        values = short_values(trial.config)
        number = self._numbers.get(trial.trial_id, 0)
        return TrialView(self.name(trial), number, self.state(trial), progress, self.value(last), rung, values)

    def rung_views(self, trials: Sequence[Any]) -> list[RungView]:
        """How far the trials came, rung by rung."""
        views = [self.view(trial) for trial in trials]
        return [
            RungView(
                epoch,
                sum(view.rung >= index for view in views),
                sum(view.rung == index and view.state == "stopped early" for view in views),
            )
            for index, epoch in enumerate(self.rungs, 1)
        ]

    def remaining(self, trials: Sequence[Any]) -> float | None:
        """Seconds until all trials have ended at the pace so far; None before the first report."""
        done = self._done(trials)
        since = done - (self._done_before or 0.0)
        return self.seconds / since * max(self.trials - done, 0) if since > 0 else None

    def _done(self, trials: Sequence[Any]) -> float:
        over = [
            1.0 if self.state(trial) in OVER else (trial.last_result or {}).get("fraction", 0.0) for trial in trials
        ]
        return float(sum(over))

    def note(self, trial: Any, result: Mapping[str, Any]) -> None:
        """Take notice of a report."""
        value, name = self.value(result), self.name(trial)
        if value is not None:
            finished = bool(result.get("finished"))
            self._scores[name] = max(self._scores.get(name, (False, -math.inf)), (finished, value))

    def interrupt(self, trials: Sequence[Any]) -> None:
        """Take notice that the trials that run are stopped from outside."""
        self._interrupted = {trial.trial_id for trial in trials if state_of(trial) not in OVER}

    def state(self, trial: Any) -> str:
        """A trial's state in the user's words."""
        found = state_of(trial)
        return "interrupted" if found == "stopped early" and trial.trial_id in self._interrupted else found


def state_of(trial: Any) -> str:
    """A trial's state in the user's words, as far as the trial itself knows it."""
    last = trial.last_result or {}
    if trial.status == "TERMINATED":
        return "failed" if "error" in last else "finished" if last.get("finished") else "stopped early"
    return STATES.get(trial.status, str(trial.status).lower())


def clock(seconds: float) -> str:
    """Minutes and seconds, as 03:05."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"


def time_left(seconds: float | None) -> str:
    """The time left in words, or nothing where it is not known."""
    if seconds is None:
        return ""
    if seconds > 2 * 3600:
        return f"about {seconds / 3600:.1f} h left"
    return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {max(seconds, 0):.0f} s left"
