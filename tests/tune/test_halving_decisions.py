"""What the scheduler does between two steps of Tune, without Ray: a controller that only keeps statuses."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution
from ray.tune.experiment import Trial

from irnas_ray.hpo.ledger import Ledger
from irnas_ray.hpo.plan import StudyPlan, claim_study
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.tune.schedulers import ConfigurationHalving
from irnas_ray.tune.searcher import StudySearch

SPACE = {"x": IntDistribution(0, 9)}
PENDING, RUNNING, PAUSED, TERMINATED = Trial.PENDING, Trial.RUNNING, Trial.PAUSED, Trial.TERMINATED


class ToyTrial:
    """What the scheduler asks of a trial."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id, self.path, self.status, self.error_file = trial_id, f"/trials/{trial_id}", PENDING, None
        self.last_result: dict[str, Any] = {}
        self.storage = SimpleNamespace(storage_fs_path="/moved/since")

    def set_storage(self, storage: SimpleNamespace) -> None:
        self.storage = storage

    @property
    def has_reported_at_least_once(self) -> bool:
        return bool(self.last_result)

    def update_last_result(self, result: dict[str, Any]) -> None:
        self.last_result = result


class ToyTune:
    """Suggests, starts, reports and restarts as Tune's controller does, one thing at a time."""

    def __init__(self, search: StudySearch, limit: int, made: int = 0) -> None:
        search.set_max_concurrency(limit)
        self.search, self.made, self.finished = search, made, False
        # as Tune wraps it: in a limiter, in a generator
        self.search_alg = SimpleNamespace(searcher=SimpleNamespace(searcher=search))
        self.scheduler = ConfigurationHalving()
        self.trials: list[ToyTrial] = []
        self._storage = SimpleNamespace(storage_filesystem=None, storage_fs_path="/runs", experiment_dir_name="run")

    def get_trials(self) -> list[ToyTrial]:
        return self.trials

    def get_live_trials(self) -> set[ToyTrial]:
        return {trial for trial in self.trials if trial.status != TERMINATED}

    def _set_trial_status(self, trial: ToyTrial, status: str) -> None:
        trial.status = status

    def stop_trial(self, trial: ToyTrial) -> None:
        self.search.on_trial_complete(trial.trial_id, trial.last_result if trial.status == RUNNING else None)
        trial.status = TERMINATED

    def add(self, trial: ToyTrial) -> None:
        self.trials.append(trial)
        self.scheduler.on_trial_add(self, trial)
        assert trial.storage == self._storage

    def step(self) -> None:
        """Ask for trials, then start what the scheduler chooses."""
        suggestion = self.search.suggest(f"t{self.made}")
        self.finished = suggestion == "FINISHED"
        if suggestion and not self.finished:
            self.add(ToyTrial(f"t{self.made}"))
            self.made += 1
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
    storage = optuna.storages.InMemoryStorage()
    plan = StudyPlan("toy", storage, SearchSpace(SPACE), "random", 0, replicates, milestones=[1, 2], factor=2)
    claim_study(plan, Path("/folder"), "toy")
    return ToyTune(StudySearch(Ledger(plan, samples)), limit)


def restarted(before: ToyTune, limit: int) -> ToyTune:
    """A new driver with the old one's storage and trials, all of which Tune puts back in the queue."""
    old = before.search.ledger
    new = StudySearch(Ledger(old.plan, old.total))
    # Tune's own files are not asked, and may be older or newer than its list of trials
    new.ledger.load()
    after = ToyTune(new, limit, before.made)
    for trial in before.trials:
        trial.status = trial.status if trial.status in (TERMINATED, Trial.ERROR) else PENDING
        after.add(trial)
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
    running, stopped = again.search.ledger.study.trials
    assert (running.state.name, stopped.state.name) == ("RUNNING", "PRUNED")
    assert [entry["state"] for entry in stopped.user_attrs["replicates"]] == ["PRUNED", "PRUNED"]
    assert stopped.user_attrs["score, mean"] == 2.0


@pytest.mark.parametrize("lost", [0, 1])
def test_a_seed_whose_trial_tune_has_lost_is_run_again_and_awaited(lost: int) -> None:
    tune = make(samples=2, limit=2)
    tune.step()
    tune.step()
    tune.report(tune.trials[1 - lost], 1, 5.0)
    del tune.trials[lost]
    again = restarted(tune, limit=2)
    for _ in range(2):
        again.step()
    assert [(trial.trial_id, trial.status) for trial in again.trials] == [(f"t{1 - lost}", PAUSED), ("t2", RUNNING)]
    again.report(again.trials[1], 1, 6.0)
    for trial in again.trials:
        assert not again.finished
        again.step()
        again.report(trial, 3, 7.0, finished=True)
    again.step()
    assert again.finished and again.search.ledger.missing() == 0
    (trial,) = again.search.ledger.study.trials
    assert trial.state.name == "COMPLETE" and trial.value == 7.0


def test_what_has_ended_is_neither_run_nor_suggested_again_though_tune_does_not_know_of_it() -> None:
    tune = make(samples=3, limit=1, replicates=1)
    for score in (5.0, 6.0):
        tune.step()
        tune.report(tune.trials[-1], 3, score, finished=True)
    # the state that Tune wrote last is from the middle of the first trial
    tune.trials[0].status, tune.trials[0].last_result = RUNNING, {"epoch": 1, "score": 1.0}
    del tune.trials[1]
    again = restarted(tune, limit=1)
    again.step()
    assert again.statuses() == [TERMINATED, RUNNING]
    ended = again.trials[0].last_result
    assert ended["done"] and ended["finished"] and ended["score"] == 5.0
    again.report(again.trials[1], 3, 7.0, finished=True)
    again.step()
    assert again.finished and [trial.value for trial in again.search.ledger.study.trials] == [5.0, 6.0, 7.0]


@pytest.mark.parametrize("failed", [False, True])
def test_the_study_hears_after_a_restart_of_an_end_that_only_tune_knows(failed: bool) -> None:
    tune = make(samples=1, limit=1, replicates=1)
    tune.step()
    tune.report(tune.trials[0], 1, 5.0)
    tune.trials[0].status = Trial.ERROR if failed else TERMINATED
    tune.trials[0].last_result["finished"] = not failed
    again = restarted(tune, limit=1)
    again.step()
    again.step()
    assert again.finished
    (trial,) = again.search.ledger.study.trials
    assert trial.state.name == ("FAIL" if failed else "COMPLETE")
