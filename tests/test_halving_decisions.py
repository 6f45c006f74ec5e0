"""What the scheduler does between two steps of Tune, without Ray: a controller that only keeps statuses."""

from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution
from ray.tune.experiment import Trial

from irnas_ray.claimed_study import claim_study
from irnas_ray.halving import ConfigurationHalving
from irnas_ray.objectives import objectives_of
from irnas_ray.sampling import StudySearch

SPACE = {"x": IntDistribution(0, 9)}
PENDING, RUNNING, PAUSED, TERMINATED = Trial.PENDING, Trial.RUNNING, Trial.PAUSED, Trial.TERMINATED


class ToyTrial:
    """What the scheduler asks of a trial."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id, self.path, self.status = trial_id, f"/trials/{trial_id}", PENDING
        self.last_result: dict[str, Any] = {}

    @property
    def has_reported_at_least_once(self) -> bool:
        return bool(self.last_result)

    def update_last_result(self, result: dict[str, Any]) -> None:
        self.last_result = result


class ToyTune:
    """Suggests, starts, reports and restarts as Tune's controller does, one thing at a time."""

    def __init__(self, search: StudySearch, samples: int, limit: int) -> None:
        search.set_max_concurrency(limit)
        self.search, self.samples = search, samples
        # as Tune wraps it: in a limiter, in a generator
        self.search_alg = SimpleNamespace(searcher=SimpleNamespace(searcher=search), is_finished=self.is_finished)
        self.scheduler = ConfigurationHalving()
        self.trials: list[ToyTrial] = []

    def is_finished(self) -> bool:
        return len(self.trials) >= self.samples

    def get_trials(self) -> list[ToyTrial]:
        return self.trials

    def get_live_trials(self) -> set[ToyTrial]:
        return {trial for trial in self.trials if trial.status != TERMINATED}

    def _set_trial_status(self, trial: ToyTrial, status: str) -> None:
        trial.status = status

    def stop_trial(self, trial: ToyTrial) -> None:
        self.search.on_trial_complete(trial.trial_id, trial.last_result if trial.status == RUNNING else None)
        trial.status = TERMINATED

    def step(self) -> None:
        """Ask for trials, then start what the scheduler chooses."""
        if len(self.trials) < self.samples:
            trial_id = f"t{len(self.trials)}"
            if self.search.suggest(trial_id) is not None:
                self.trials.append(ToyTrial(trial_id))
        chosen = self.scheduler.choose_trial_to_run(self)
        if chosen is not None:
            assert chosen.status in (PENDING, PAUSED)
            chosen.status = RUNNING

    def report(self, trial: ToyTrial, epoch: int, score: float, finished: bool = False) -> None:
        result = {"epoch": epoch, "score": score, "finished": finished, "progress": "", "fraction": 0.0}
        decision = self.scheduler.on_trial_result(self, trial, result)
        trial.last_result = result
        if decision == "STOP" or finished:
            self.stop_trial(trial)
        else:
            self.search.on_trial_result(trial.trial_id, result)
            trial.status = PAUSED if decision == "PAUSE" else RUNNING

    def statuses(self) -> list[str]:
        return [trial.status for trial in self.trials]


def make(samples: int, limit: int, replicates: int = 2) -> ToyTune:
    storage, objectives = optuna.storages.InMemoryStorage(), objectives_of(["score"])
    claim_study("toy", storage, "/folder", "toy", SPACE, objectives)
    return ToyTune(StudySearch(SPACE, "toy", storage, "random", 0, replicates, objectives, [1, 2], 2), samples, limit)


def restarted(before: ToyTune, limit: int) -> ToyTune:
    """A new driver with the old one's storage and trials, all of which Tune puts back in the queue."""
    old = before.search
    new = StudySearch(SPACE, "toy", old._storage, "random", 0, 2, objectives_of(["score"]), [1, 2], 2)
    new._load()
    after = ToyTune(new, before.samples, limit)
    after.trials = before.trials
    for trial in after.get_live_trials():
        trial.status = PENDING
    return after


def test_promoted_seeds_come_before_new_configurations() -> None:
    tune = make(samples=4, limit=1)
    tune.step()
    tune.report(tune.trials[0], 1, 1.0)
    tune.step()
    assert tune.statuses() == [PAUSED, RUNNING]
    tune.report(tune.trials[1], 1, 1.0)
    for _ in range(3):
        tune.step()
    # the first may go on, but there is one place only, and no further configuration is begun
    assert tune.statuses() == [PAUSED, RUNNING]
    tune.report(tune.trials[1], 2, 1.0)
    tune.step()
    assert tune.statuses() == [RUNNING, PAUSED]


def test_after_a_restart_the_waiting_wait_and_no_more_run_than_may() -> None:
    tune = make(samples=6, limit=3)
    for _ in range(3):
        tune.step()
    tune.report(tune.trials[0], 1, 5.0)
    tune.step()
    assert tune.statuses() == [PAUSED, RUNNING, RUNNING, RUNNING]
    again = restarted(tune, limit=1)
    again.step()
    assert again.statuses() == [PAUSED, RUNNING, PAUSED, PAUSED]
    again.report(again.trials[1], 1, 5.0)
    again.stop_trial(again.trials[1])
    again.step()
    assert again.statuses() == [RUNNING, TERMINATED, PAUSED, PAUSED]


def test_a_seed_that_was_set_back_runs_to_its_rung_again() -> None:
    """Tune's state is older than the study: it does not know the report with which the seed came to wait."""
    tune = make(samples=2, limit=2)
    tune.step()
    tune.step()
    tune.report(tune.trials[0], 1, 5.0)
    assert tune.statuses() == [PAUSED, RUNNING]
    tune.trials[0].last_result = {}
    again = restarted(tune, limit=2)
    again.step()
    assert again.statuses()[0] == RUNNING


def test_decisions_that_were_made_but_not_carried_out_are_carried_out_after_a_restart() -> None:
    tune = make(samples=4, limit=4)
    for _ in range(4):
        tune.step()
    for trial, score in zip(tune.trials, (9.0, 9.0, 1.0, 3.0), strict=True):
        tune.report(trial, 1, score)
    # the driver dies before the sibling of the last one is stopped
    assert tune.statuses() == [PAUSED, RUNNING, PAUSED, TERMINATED]
    again = restarted(tune, limit=4)
    again.step()
    again.step()
    assert again.statuses() == [RUNNING, RUNNING, TERMINATED, TERMINATED]
    assert again.trials[2].last_result["done"]
    running, stopped = again.search.study.trials
    assert (running.state.name, stopped.state.name) == ("RUNNING", "PRUNED")
    assert [entry["state"] for entry in stopped.user_attrs["replicates"]] == ["PRUNED", "PRUNED"]
    assert stopped.user_attrs["score, mean"] == 2.0


@pytest.mark.parametrize("lost", [0, 1])
def test_nobody_waits_for_a_trial_that_tune_has_lost(lost: int) -> None:
    """Tune counts it as suggested, so that it is never suggested again; its sibling is judged alone."""
    tune = make(samples=2, limit=2)
    tune.step()
    tune.step()
    tune.report(tune.trials[1 - lost], 1, 5.0)
    again = restarted(tune, limit=2)
    del again.trials[lost]
    again.samples = 1
    for _ in range(3):
        again.step()
    assert again.statuses() == [RUNNING]
    again.report(again.trials[0], 3, 6.0, finished=True)
    (trial,) = again.search.study.trials
    assert trial.state.name == "COMPLETE" and trial.value == 6.0
    assert "Tune has lost the trial" in trial.user_attrs["error"]
