"""Workers that hang: every forward pass is a sign of life, and a trial that gives none is killed and started again."""

import pickle
import time
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError
from ray.tune import Callback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import nn

from irnas_ray.cluster.heartbeats import Heartbeats
from irnas_ray.progress.callback import StageProgress

#: Seconds between two signs of a worker, and two looks at all of them; less where the limit is short.
INTERVAL = 10.0
#: Seconds that the driver waits for an answer about the signs.
ANSWER = 5.0


class Pulse:
    """A worker's sign of life, given when it is called, but for the first time at most once in a while.

    Args:
        run: Name of the run whose ``HangWatch`` takes notice.
        trial: Id of the trial for which this worker works.
        minutes: The limit of that watch; None: nobody watches.
    """

    def __init__(self, run: str, trial: str, minutes: float | None) -> None:
        self._trial, self._next = trial, time.monotonic()
        self._interval = 0.0 if minutes is None else _interval(minutes)
        self._heartbeats = None if minutes is None else _find(run)
        if self._heartbeats is not None:
            context = ray.get_runtime_context()
            # whoever is sent a handle as it is loads the actor's class, and with it PyTorch
            self._worker, self._handle = context.get_actor_id(), pickle.dumps(context.current_actor)
            self()

    def __call__(self, *_: Any) -> None:
        """Give the sign, if it is time; arguments are ignored, as a hook of a module has some."""
        if self._heartbeats is None or (now := time.monotonic()) < self._next:
            return
        self._next = now + self._interval
        self._heartbeats.beat.remote(self._trial, self._worker, self._handle)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Pulse":
        # a network that is copied, to be averaged or folded, goes on beating for the same worker
        return self

    def follow(self, network: nn.Module) -> None:
        """Give the sign at every forward pass of a network: in steps, validations and evaluations alike."""
        network.register_forward_pre_hook(self)


def pulse_of_trial(minutes: float | None) -> Pulse:
    """The pulse of the Tune trial that runs in this worker."""
    context = tune.get_context()
    return Pulse(context.get_experiment_name(), context.get_trial_id(), minutes)


class HangWatch(Callback):
    """Kills the workers of a running trial that has given no sign of life for so many minutes; Tune starts it again.

    Only time in which this driver was at work itself counts: while it waits, perhaps for a locked database, its workers
    wait for it. One that is stopped or hangs in a library cannot end itself; Ray lets its node kill it.
    """

    def __init__(self, run: str, minutes: float, progress: StageProgress) -> None:
        self.run, self.minutes, self.progress = run, minutes, progress
        self._interval = _interval(minutes)
        self._heartbeats: ActorHandle | None = None
        self._looked = time.monotonic()
        self._signs: dict[str, tuple[Any, ...]] = {}
        self._silent: dict[str, float] = {}
        self._begun: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune keeps its callbacks in a file, and an actor lives no longer than its driver
        return HangWatch, (self.run, self.minutes, self.progress)

    def setup(self, *args: Any, **info: Any) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        options: dict[str, Any] = {"name": _name(self.run), "get_if_exists": True, "scheduling_strategy": here}
        self._heartbeats = Heartbeats.options(**options).remote()  # type: ignore[attr-defined]

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        now = time.monotonic()
        if now - self._looked < self._interval:
            return
        passed, self._looked = min(now - self._looked, 2 * self._interval), now
        counts = self._ask("counts")
        if counts is None:
            return
        for trial in trials:
            if trial.status != "RUNNING":
                self._silent.pop(trial.trial_id, None)
            elif self._is_silent(trial, counts, passed):
                self._kill(trial)

    def _is_silent(self, trial: Any, counts: dict[str, int], passed: float) -> bool:
        name = trial.trial_id
        sign = (counts.get(name), trial.last_result.get("training_iteration"))
        if any(sign):
            self._begun.add(name)
        if name not in self._silent or sign != self._signs[name]:
            self._signs[name], self._silent[name] = sign, 0.0
        else:
            self._silent[name] += passed
        return self._silent[name] >= 60 * self.minutes

    def _kill(self, trial: Any) -> None:
        self._silent.pop(trial.trial_id)
        workers = self._ask("take_workers", trial.trial_id)
        for worker in workers or []:
            ray.kill(pickle.loads(worker))
        if workers:
            done = "its worker is killed, and the trial goes on from its last checkpoint"
        elif workers is None:
            done = "who its workers are is not answered just now, so that none is killed yet"
        elif trial.trial_id in self._begun:
            done = "none of its workers is known any more, so that none can be killed"
        else:
            done = "it never began"
        self.progress.notice(f"gave no sign of life for {self.minutes:g} minutes (cluster.hang_minutes): {done}", trial)

    def _ask(self, method: str, *arguments: Any) -> Any:
        """The heartbeats' answer; None where it does not come, such as after the loss of their node."""
        try:
            return ray.get(getattr(self._heartbeats, method).remote(*arguments), timeout=ANSWER)
        except (GetTimeoutError, RayActorError):
            return None


def _interval(minutes: float) -> float:
    return min(INTERVAL, 60 * minutes / 10)


def _name(run: str) -> str:
    return f"heartbeats of {run}"


def _find(run: str) -> ActorHandle | None:
    try:
        return ray.get_actor(_name(run))
    except ValueError:
        return None
