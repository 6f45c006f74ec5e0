"""What ``hpo`` uses of Optuna beyond its documentation, each as it was in Optuna 5.0.0: another fails here first."""

import inspect
import re
import sqlite3
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import RandomSampler
from optuna.samplers._tpe.sampler import _split_trials
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import TrialState

from irnas_ray.hpo.configuration import set_constraint
from irnas_ray.hpo.storage import TRANSACTIONS, PatientStorage, open_storage

CHANGED = f"written for Optuna 5.0.0, and this is {optuna.__version__}"
#: What Optuna's cache asks of a database beside that: heartbeats, which are off.
HEARTBEATS = {
    "_get_stale_trial_ids",
    "get_heartbeat_interval",
    "get_heartbeat_stale_trial_callback",
    "record_heartbeat",
}


def storages(folder: Path) -> list[BaseStorage]:
    return [InMemoryStorage(), open_storage(None, folder), open_storage(f"journal:{folder / 'log'}", folder)]


def id_of(storage: BaseStorage, number: int) -> int:
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name("s"), number)


def test_all_that_the_cache_asks_of_a_database_is_waited_for() -> None:
    """``PatientStorage`` repeats these methods by name, the private ones too."""
    called = set(re.findall(r"self\._backend\.(\w+)\(", inspect.getsource(_CachedStorage)))
    assert called - set(TRANSACTIONS) == HEARTBEATS, CHANGED
    for name in TRANSACTIONS:
        assert callable(getattr(RDBStorage, name, None)), f"{name}: {CHANGED}"
        assert getattr(PatientStorage, name) is not getattr(RDBStorage, name), f"{name}: {CHANGED}"


def test_a_study_reads_a_database_through_a_cache(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path)
    study: Any = optuna.create_study(study_name="s", storage=storage)
    assert isinstance(study._storage, _CachedStorage) and study._storage._backend is storage, CHANGED


def test_what_is_written_past_the_cache_is_read(tmp_path: Path) -> None:
    """The ledger writes to the storage itself, and a pickled ledger through a connection of its own."""
    for storage in storages(tmp_path):
        study = optuna.create_study(study_name="s", storage=storage)
        study.ask()
        assert study.get_trials(deepcopy=False)[0].user_attrs == {}
        storage.set_trial_user_attr(id_of(storage, 0), "replicates", [{"seed": 3, "score": None}])
        storage.set_trial_intermediate_value(id_of(storage, 0), 2, 1.5)
        (trial,) = study.get_trials(deepcopy=False)
        assert trial.user_attrs == {"replicates": [{"seed": 3, "score": None}]}, CHANGED
        assert trial.intermediate_values == {2: 1.5}, CHANGED
    copy = open_storage(None, tmp_path)
    study = optuna.load_study(study_name="s", storage=open_storage(None, tmp_path))
    assert study.trials[0].state == TrialState.RUNNING
    copy.set_trial_user_attr(id_of(copy, 0), "rungs", {})
    optuna.load_study(study_name="s", storage=copy).tell(0, 1.0)
    (trial,) = study.get_trials(deepcopy=False)
    assert trial.state == TrialState.COMPLETE and "rungs" in trial.user_attrs, CHANGED


def test_a_trials_id_is_found_by_its_number(tmp_path: Path) -> None:
    for storage in storages(tmp_path):
        study = optuna.create_study(study_name="s", storage=storage)
        study.add_trial(optuna.trial.create_trial(value=1.0))
        trial = study.ask()
        assert id_of(storage, trial.number) == trial._trial_id, CHANGED
        assert storage.get_trial(id_of(storage, 1)).number == 1, CHANGED


def test_a_trial_that_is_half_proposed_is_proposed_on(tmp_path: Path) -> None:
    """``optuna.Trial`` of a running trial keeps what was chosen or enqueued, and its sampler chooses the rest.

    A database's cache has to have read the study's trials before.
    """
    for storage in storages(tmp_path):
        study = optuna.create_study(study_name="s", storage=storage, sampler=RandomSampler(seed=1))
        study.enqueue_trial({"b": 7})
        first = study.ask()
        a = first.suggest_int("a", 0, 10**6)
        again = optuna.load_study(study_name="s", storage=storage, sampler=RandomSampler(seed=2))
        assert len(again.get_trials(deepcopy=False)) == 1
        trial = optuna.Trial(again, id_of(storage, 0))
        assert trial.suggest_int("a", 0, 10**6) == a, CHANGED
        assert trial.suggest_int("b", 0, 9) == 7, CHANGED
        reference = optuna.create_study(sampler=RandomSampler(seed=2)).ask()
        assert trial.suggest_int("c", 0, 10**6) == reference.suggest_int("c", 0, 10**6), CHANGED
        assert len(again.trials) == 1, CHANGED


def test_what_waits_is_asked_for_first_and_in_order() -> None:
    """So that the number of the next configuration is that of the trials that do not wait."""
    study = optuna.create_study()
    study.ask()
    study.enqueue_trial({"a": 1})
    study.enqueue_trial({"a": 2})
    asked = [study.ask() for _ in range(3)]
    assert [trial.number for trial in asked] == [1, 2, 3], CHANGED
    assert [trial.suggest_int("a", 0, 9) for trial in asked[:2]] == [1, 2], CHANGED


class Listed(RandomSampler):
    """Notes of what a trial is known when a value is chosen for it."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.seen: list[list[str]] = []

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        self.seen.append([*trial.params, f"{param_name}?"])
        return super().sample_independent(study, trial, param_name, param_distribution)


def test_a_sampler_is_exchanged_between_trials_and_is_told_the_values_before(tmp_path: Path) -> None:
    for storage in storages(tmp_path):
        study = optuna.create_study(study_name="s", storage=storage, sampler=RandomSampler(seed=1))
        study.sampler = sampler = Listed()
        trial = study.ask()
        trial.suggest_int("a", 0, 9)
        trial.suggest_categorical("b", ("x", "y"))
        assert sampler.seen == [["a?"], ["a", "b?"]], CHANGED
        study.sampler = RandomSampler(seed=5)
        study.tell(0, 1.0)


def test_a_stopped_trial_has_its_last_intermediate_value_where_there_is_one_objective() -> None:
    study = optuna.create_study()
    trial = study.ask()
    trial.report(3.0, 1)
    trial.report(2.0, 4)
    study.tell(trial.number, state=TrialState.PRUNED)
    several = optuna.create_study(directions=["minimize", "minimize"])
    several.tell(several.ask().number, state=TrialState.PRUNED)
    assert study.trials[0].values == [2.0] and several.trials[0].values is None, CHANGED


def test_nothing_is_written_to_a_trial_that_was_told(tmp_path: Path) -> None:
    for storage in storages(tmp_path):
        study = optuna.create_study(study_name="s", storage=storage)
        study.ask()
        study.tell(0, state=TrialState.FAIL)
        with pytest.raises(UpdateFinishedTrialError):
            storage.set_trial_user_attr(id_of(storage, 0), "rungs", {})
        assert study.trials[0].user_attrs == {}, CHANGED


def test_a_pickled_database_is_its_url_and_what_it_was_opened_with(tmp_path: Path) -> None:
    """An engine knows the password; ``PatientStorage`` masks the URL alone."""
    storage = RDBStorage(f"sqlite:///{tmp_path / 'x.db'}", {"connect_args": {"timeout": 2}})
    state = storage.__getstate__()
    assert state["url"] == storage.url and state["engine_kwargs"]["connect_args"] == {"timeout": 2}, CHANGED
    assert not state.keys() & {"engine", "scoped_session", "_version_manager"}, CHANGED
    again: RDBStorage = RDBStorage.__new__(RDBStorage)
    again.__setstate__(state)
    assert isinstance(again.engine, sqlalchemy.engine.Engine), CHANGED
    again.remove_session()
    again.engine.dispose()


def test_what_a_database_said_is_the_cause_of_optunas_error(tmp_path: Path) -> None:
    storage = RDBStorage(f"sqlite:///{tmp_path / 'x.db'}")
    trial = optuna.create_study(storage=storage).ask()
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("DROP TABLE trial_user_attributes")
    with pytest.raises(StorageInternalError) as raised:
        trial.set_user_attr("a", 1)
    assert isinstance(raised.value.__cause__, sqlalchemy.exc.OperationalError), CHANGED


def test_what_samplers_must_remember_is_in_the_storage() -> None:
    """They are made anew for each configuration: CMA-ES and NSGA-II go on from attributes of trials."""
    kept: dict[str, set[str]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExperimentalWarning)
        for name, sampler in (("cma", optuna.samplers.CmaEsSampler), ("nsga", optuna.samplers.NSGAIISampler)):
            study = optuna.create_study()
            for number in range(6):
                study.sampler = sampler(seed=number, **({"population_size": 2} if name == "nsga" else {}))
                trial = study.ask()
                study.tell(trial, trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1))
            kept[name] = {key for trial in study.trials for key in trial.system_attrs}
    assert any(key.startswith("cma:") for key in kept["cma"]), f"{kept}: {CHANGED}"
    assert any("generation" in key for key in kept["nsga"]), f"{kept}: {CHANGED}"
    with pytest.warns(ExperimentalWarning):
        optuna.samplers.nsgaii.BLXAlphaCrossover()


def test_a_constraint_is_an_attribute_that_samplers_read(tmp_path: Path) -> None:
    """``Trial.set_constraint`` needs a trial that is asked for anew, whose sampler then would be told of it twice."""
    for storage in storages(tmp_path):
        study = optuna.create_study(study_name="s", storage=storage)
        set_constraint(storage, study.ask()._trial_id, "size", 2.0)
        set_constraint(storage, id_of(storage, 0), "size", 0.5)
        study.tell(0, state=TrialState.PRUNED)
        trial = study.ask()
        trial.set_constraint("size", -1)
        study.tell(trial, 0.0)
        assert [trial.constraints for trial in study.trials] == [{"size": 0.5}, {"size": -1}], CHANGED
        assert _split_trials(study, study.trials, 1) == ([study.trials[1]], [study.trials[0]]), CHANGED
