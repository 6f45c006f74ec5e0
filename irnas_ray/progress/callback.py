"""What a user sees while trials run: plain lines in a log, one live table in a terminal."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, Protocol

from ray.tune import Callback

from irnas_ray.cluster.placement import WaitingTrials
from irnas_ray.progress.internals import last_line
from irnas_ray.progress.live_table import LiveTable
from irnas_ray.progress.stage_state import OVER, Names, StageState, clock, time_left


class View(Protocol):
    """Where a stage is shown."""

    def event(self, text: str) -> None:
        """Something that a table shows and a log needs a line for."""

    def message(self, text: str) -> None:
        """Something that the user must be able to read everywhere."""

    def refresh(self, trials: Sequence[Any], now: bool = False) -> None:
        """The trials may have changed."""

    def close(self) -> None:
        """The stage is over."""


class PlainLines:
    """A stage as lines, which read well in a job's log."""

    def event(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)

    message = event

    def refresh(self, trials: Sequence[Any], now: bool = False) -> None:
        """Nothing: what changed has had its line."""

    def close(self) -> None:
        """Nothing is left to do."""


class StageProgress(Callback):
    """Follows a stage of trials and shows it: as a live table if standard output is a terminal, else as lines."""

    def __init__(
        self,
        stage: str,
        trials: int,
        score: str,
        unit: str = "dB",
        rungs: Sequence[int] = (),
        names: Names | None = None,
    ) -> None:
        self.trials = trials
        self._described = (stage, trials, score, unit, tuple(rungs), names)
        self.state = StageState(*self._described)
        self.waiting = WaitingTrials()
        self._view: View | None = None
        self._stopping = False
        self._started: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune keeps its callbacks in a file; one that is continued may be watched in another place
        return StageProgress, self._described

    @property
    def view(self) -> View:
        """Where the stage is shown, chosen when there is something to show."""
        if self._view is None:
            live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
            self._view = LiveTable(self.state) if live else PlainLines()
        return self._view

    def setup(self, *args: Any, **info: Any) -> None:
        self.state.begin()
        if threading.current_thread() is threading.main_thread():
            self._follow_interrupts()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.state.read(trials)
        reason = self.waiting.explain(trials)
        if reason is not None:
            self._tell(reason)
        if self._stopping:
            self._stopping = False
            self.state.interrupt(trials)
            self._tell("stopping: what the trials have saved is kept; once more ends at once, with the same results")
        self.view.refresh(trials)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.state.read(trials)
        view = self.state.view(trial)
        if trial.trial_id not in self._started:
            self._started.add(trial.trial_id)
            self.view.event(self._line(trial, f"starts with {view.configuration}"))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.state.read(trials)
        notice = self.state.new_notice(trial, result)
        if notice is not None:
            self._tell(notice, trial)
        value = self.state.value(result)
        if value is None:
            return
        what = "finished" if result.get("finished") else f"{result['progress']}"
        self.state.note(trial, result)
        left = time_left(self.state.remaining(trials))
        reached = f"{what}  {value:.2f} {self.state.unit}  best {self.state.best:.2f}"
        # Tune ends it after this
        over = self.state.ended(trials) + (bool(result.get("finished")) and self.state.state(trial) not in OVER)
        self.view.event(self._line(trial, "  ".join(filter(None, [reached, f"{over} of {self.trials} ended", left]))))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if "error" in trial.last_result:
            self._tell(f"failed: {trial.last_result['error']}", trial)
        elif not trial.last_result.get("finished"):
            at = trial.last_result.get("progress", "the start")
            self.view.event(self._line(trial, f"stopped early at {at}"))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(f"died and is started again from its last checkpoint: {last_line(trial)}", trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(f"failed: {last_line(trial)}", trial)

    def notice(self, text: str, trial: Any = None) -> None:
        """Say something about a trial, or about all."""
        self._tell(text, trial)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.state.read(trials)
        self.view.refresh(trials, now=True)
        self.view.close()

    def _follow_interrupts(self) -> None:
        """Say that a Ctrl-C was understood; what it does is Tune's: save everything at the first, end at the second."""
        before = signal.getsignal(signal.SIGINT)

        def interrupt(signum: int, frame: FrameType | None) -> None:
            # only noted: printing here could fall into the middle of another print
            self._stopping = True
            if callable(before):
                before(signum, frame)

        signal.signal(signal.SIGINT, interrupt)

    def _tell(self, text: str, trial: Any = None) -> None:
        self.view.message(self._line(trial, text))

    def _line(self, trial: Any, text: str) -> str:
        which = "" if trial is None else f"{self.state.kind} {self.state.name(trial)}: "
        return f"[{self.state.stage} {clock(self.state.seconds)}] {which}{text}"
