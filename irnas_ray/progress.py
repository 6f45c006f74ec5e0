"""What a user sees while trials run: one plain line for each report, with the best so far and the time left."""

import math
import time
from typing import Any

from ray.tune import Callback


class ProgressLines(Callback):
    """Print a line whenever a trial reports, ends or fails; the lines read well in a terminal and in a job's log."""

    def __init__(self, stage: str, trials: int, score: str, unit: str = "dB") -> None:
        self.stage, self.trials, self.score, self.unit = stage, trials, score, unit
        self.best: float | None = None
        self.start = time.time()
        self.names: dict[str, int] = {}

    def setup(self, *args: Any, **info: Any) -> None:
        # a restored run counts its own time
        self.start = time.time()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.trial_id not in self.names:
            self.names[trial.trial_id] = len(self.names) + 1
            chosen = ", ".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in trial.config.items())
            self._print(trial, f"starts: {chosen}")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "notice" in result:
            self._print(trial, result["notice"])
        value = result.get(self.score)
        if not isinstance(value, float) or not math.isfinite(value):
            return
        self.best = value if self.best is None else max(self.best, value)
        what = "finished" if result.get("finished") else f"{result['progress']}"
        self._print(trial, f"{what}  {value:.2f} {self.unit}  best {self.best:.2f}  {_left(self._remaining(trials))}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if "error" in trial.last_result:
            self._print(trial, f"failed: {trial.last_result['error']}")
        elif not trial.last_result.get("finished"):
            self._print(trial, f"stopped early at {trial.last_result.get('progress', 'the start')}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._print(trial, f"failed: {last_line(trial)}")

    def notice(self, trial: Any, text: str) -> None:
        """Say something about a trial."""
        self._print(trial, text)

    def _remaining(self, trials: list[Any]) -> float | None:
        done = sum(trial.last_result.get("fraction", 0.0) for trial in trials)
        elapsed = time.time() - self.start
        return elapsed / done * (self.trials - done) if done > 0 else None

    def _print(self, trial: Any, text: str) -> None:
        number = self.names.get(trial.trial_id, 0)
        minutes, seconds = divmod(int(time.time() - self.start), 60)
        print(f"[{self.stage} {minutes:02d}:{seconds:02d}] {number}/{self.trials} {text}", flush=True)


def last_line(trial: Any) -> str:
    """The last line of a failed trial's error, which names the cause."""
    try:
        with open(trial.error_file) as file:
            lines = [line.strip() for line in file if line.strip()]
        return lines[-1] if lines else "no message"
    except (OSError, TypeError):
        return "no message"


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {max(seconds, 0):.0f} s left"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
