"""Workers that hang are killed and go on from their last checkpoint; those that only wait are left alone."""

import copy
import pickle
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import fault_cases
import pytest
import ray
import torch
from fault_cases import FOUND, Outcomes, make_data
from ray import cloudpickle

from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.study.checks import check_settings
from irnas_ray.tune import heartbeat
from irnas_ray.tune.heartbeat import HangWatch, Pulse

# the tests' folder is on no worker's path
cloudpickle.register_pickle_by_value(fault_cases)


@pytest.mark.whole
def test_a_stopped_worker_is_killed_and_its_trial_ends_as_undisturbed(
    ray_local: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data, place = make_data(tmp_path_factory.mktemp("images")), tmp_path_factory.mktemp("hang")
    outcomes = Outcomes(["stopped", "none"], data, place, hang_minutes=0.15)
    assert outcomes.saboteur.hit == {"stopped"}
    assert outcomes.epochs("none") == [1, 2, 3, 4, 5]
    # the worker was stopped when its second report was made and its checkpoint not yet registered, or just after
    assert outcomes.epochs("stopped") in ([1, 2, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    assert {name: outcomes.last("stopped")[name] for name in FOUND} == {
        name: outcomes.last("none")[name] for name in FOUND
    }
    said = "gave no sign of life for 0.15 minutes (cluster.hang_minutes): its worker is killed, and the trial goes on"
    assert outcomes.said("stopped").count(said) == 1
    assert "no sign of life" not in outcomes.said("none")


@pytest.mark.whole
def test_where_signs_are_kept_nothing_is_loaded_that_workers_use(ray_local: None) -> None:
    progress: Any = None
    watch = HangWatch("light", 1.0, progress)
    watch.setup()

    @ray.remote
    class Worker:
        #: Whoever loads this class loads PyTorch.
        kind = torch.float32

        def beat(self) -> None:
            Pulse("light", "trial", 1.0)

    worker = Worker.remote()
    ray.get(worker.beat.remote())
    signs: Any = watch._heartbeats
    # nobody waits for a sign's arrival
    deadline = time.monotonic() + 60
    while not (counts := ray.get(signs.counts.remote())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert counts == {"trial": 1}
    assert not ray.get(signs.__ray_call__.remote(lambda self: "torch" in sys.modules))
    (handle,) = ray.get(signs.take_workers.remote("trial"))
    ray.kill(pickle.loads(handle))
    # Ray does not wait until the worker is dead
    deadline = time.monotonic() + 60
    with pytest.raises(ray.exceptions.RayActorError):
        while time.monotonic() < deadline:
            ray.get(worker.beat.remote())


class Driver:
    """A watch whose clock, and whose workers' signs, are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, minutes: float) -> None:
        self.now, self.signs, self.killed, self.said = 1000.0, {}, [], []  # type: ignore[var-annotated]
        self.workers: Callable[[str], list[bytes] | None] = lambda trial: [pickle.dumps(f"worker of {trial}")]
        monkeypatch.setattr(heartbeat.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(heartbeat.ray, "kill", self.killed.append)
        progress: Any = SimpleNamespace(notice=lambda text, trial: self.said.append((trial.trial_id, text)))
        self.watch = HangWatch("run", minutes, progress)
        monkeypatch.setattr(self.watch, "_ask", self.answer)

    def answer(self, method: str, *arguments: Any) -> Any:
        return self.signs if method == "counts" else self.workers(*arguments)

    def look(self, *trials: Any, after: float = 10) -> None:
        self.now += after
        self.watch.on_step_end(1, list(trials))


def trial(name: str, status: str = "RUNNING", iteration: int = 1) -> Any:
    return SimpleNamespace(trial_id=name, status=status, last_result={"training_iteration": iteration})


def test_only_silence_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch, minutes=1)
    for second in range(7):
        driver.signs = {"alive": second}
        driver.look(trial("alive"), trial("silent"), trial("reports", iteration=second), trial("waits", "PENDING"))
    assert driver.killed == ["worker of silent"]
    assert driver.said == [("silent", driver.said[0][1])] and "goes on from its last checkpoint" in driver.said[0][1]
    # started again, it has the whole time once more
    for _ in range(6):
        driver.look(trial("silent"))
    assert len(driver.killed) == 1
    driver.look(trial("silent"))
    assert len(driver.killed) == 2


@pytest.mark.parametrize(
    ("signs", "later", "iteration", "workers", "said"),
    [
        ({"a": 3}, {"a": 3}, None, None, "who its workers are is not answered just now"),
        ({"a": 3}, {}, None, [], "none of its workers is known any more"),
        ({}, {}, 2, [], "none of its workers is known any more"),
        ({}, {}, None, [], "it never began"),
    ],
)
def test_what_is_said_where_nobody_can_be_killed_is_true(
    monkeypatch: pytest.MonkeyPatch,
    signs: dict[str, int],
    later: dict[str, int],
    iteration: int | None,
    workers: list[bytes] | None,
    said: str,
) -> None:
    """The heartbeats may not answer, or may have been lost with their node and know nothing any more."""
    driver = Driver(monkeypatch, minutes=1)
    driver.workers = lambda trial: workers
    silent = SimpleNamespace(trial_id="a", status="RUNNING", last_result={"training_iteration": iteration})
    for counts in [signs] + [later] * 7:
        driver.signs = counts
        driver.look(silent)
    assert not driver.killed and len(driver.said) == 1
    assert driver.said[0][1].startswith("gave no sign of life for 1 minutes") and said in driver.said[0][1]


def test_time_in_which_the_driver_itself_stood_still_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch, minutes=1)
    driver.look(trial("a"))
    for _ in range(2):
        driver.look(trial("a"), after=3600)
    assert not driver.killed


def test_a_trial_that_is_paused_in_between_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch, minutes=1)
    for status in ["RUNNING"] * 5 + ["PAUSED"] + ["RUNNING"] * 5:
        driver.look(trial("a", status))
    assert not driver.killed


def test_lost_heartbeats_kill_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch, minutes=1)
    monkeypatch.setattr(driver.watch, "_ask", lambda *_: None)
    for _ in range(20):
        driver.look(trial("a"))
    assert not driver.killed


def test_every_forward_pass_beats_but_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now, beats = [0.0], []
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    heartbeats = SimpleNamespace(beat=SimpleNamespace(remote=lambda *sign: beats.append((now[0], *sign))))
    context = SimpleNamespace(get_actor_id=lambda: "w", current_actor="handle")
    monkeypatch.setattr(heartbeat, "_find", lambda run: heartbeats)
    monkeypatch.setattr(heartbeat.ray, "get_runtime_context", lambda: context)
    pulse, network = Pulse("run", "t", minutes=30), torch.nn.Linear(1, 1)
    pulse.follow(network)
    copied = copy.deepcopy(network)
    for second in range(25):
        now[0] = float(second)
        (network if second % 2 else copied)(torch.zeros(1))
    assert beats == [(float(second), "t", "w", pickle.dumps("handle")) for second in (0, 10, 20)]


def test_nobody_needs_to_watch(ray_local: None) -> None:
    Pulse("no such run", "t", minutes=1)()
    Pulse("run", "t", minutes=None)()
    check_settings(with_values(StudyConfig(), {"cluster.hang_minutes": None}))
    with pytest.raises(ValueError, match="cluster.hang_minutes: 0; more than 0, or null"):
        check_settings(with_values(StudyConfig(), {"cluster.hang_minutes": 0}))
