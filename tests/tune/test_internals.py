"""What ``internals`` and its likes below use of Ray, each as it was in Ray 2.60.0: another Ray fails here first."""

import contextlib
import inspect
import json
import logging
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from event_files import read
from ray import cloudpickle, tune
from ray._private import ray_constants
from ray._private.runtime_env import constants, working_dir
from ray.train._internal import syncer
from ray.train._internal.storage import StorageContext
from ray.tune.execution import class_cache, experiment_state
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.integration import ray_train
from ray.tune.schedulers import FIFOScheduler, PopulationBasedTraining
from ray.tune.schedulers import pbt as ray_population
from ray.tune.search import Searcher
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.search_generator import SearchGenerator
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from irnas_ray.cluster import internals as cluster_internals
from irnas_ray.progress.internals import last_line
from irnas_ray.tune import internals
from irnas_ray.tune.loggers import NoCurves

CHANGED = f"written for Ray 2.60.0, and this is {ray.__version__}"
# workers cannot import this file
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Two(Searcher):
    """Proposes trial 0 and trial 1."""

    def __init__(self) -> None:
        super().__init__()
        self.left = [0, 1]

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        return {"number": self.left.pop(0)} if self.left else str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()


class Watching(FIFOScheduler):
    """Lets trial 0 fail once, and ends trial 1 while it waits; notes what is known of both on the way."""

    def __init__(self, noted: dict[str, Any]) -> None:
        super().__init__()
        self.noted = noted

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        elsewhere = trial.storage.storage_fs_path
        trial.storage.storage_fs_path = "/elsewhere"
        internals.keep_in_place(tune_controller, trial)
        self.noted["storage"] = (trial.storage.storage_fs_path, elsewhere)
        self.noted["searcher"] = internals.searcher_of(tune_controller, Two)
        if trial.config["number"] == 0:
            internals.allow_failures(trial, 1)
            self.noted.setdefault("before", (internals.last_report(trial), internals.last_saved_report(trial)))

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self.noted["error"] = last_line(trial)
        self.noted["after"] = (internals.last_report(trial), internals.last_saved_report(trial))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        return FIFOScheduler.CONTINUE if trial.config["number"] == 0 else FIFOScheduler.PAUSE

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        live = internals.live_trials(tune_controller)
        self.noted["most"] = max(len(live), self.noted.get("most", 0))
        for trial in live:
            if trial.status == Trial.PENDING and trial.config["number"] == 1:
                internals.leave_waiting(tune_controller, trial)
                self.noted["left"] = trial.status
            elif trial.status == Trial.PAUSED and not internals.last_report(trial):
                return trial
            elif trial.status == Trial.PAUSED:
                internals.stop_waiting(tune_controller, trial, internals.last_report(trial) | {"value": 7})
        return super().choose_trial_to_run(tune_controller)


def die_once(config: dict[str, Any], place: Path) -> None:
    """Trial 0 reports with a checkpoint, removes it and dies, and is called again without it; trial 1 reports."""
    if config["number"] == 1:
        tune.report({"value": 6})
        return
    filesystem, folder = internals.own_folder()
    with filesystem.open_output_stream(f"{folder}/here") as file:
        file.write(b"")
    if not (place / "died").exists():
        (place / "died").touch()
        with tempfile.TemporaryDirectory() as made:
            (Path(made) / "state").touch()
            tune.report({"value": 1}, checkpoint=tune.Checkpoint.from_directory(made))
        names = sorted(path.name for path in Path(folder).glob(f"{internals.CHECKPOINT}*"))
        internals.remove_unsent_checkpoint()
        (place / "names").write_text(json.dumps([names, sorted(path.name for path in Path(folder).iterdir())]))
        raise RuntimeError("died once")
    checkpoint = tune.get_checkpoint()
    tune.report({"value": 2, "named": checkpoint is not None and not Path(checkpoint.path).exists()})


@pytest.fixture(scope="module")
def noted(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two trials of one run of Tune showed of it."""
    place = tmp_path_factory.mktemp("internals")
    seen: dict[str, Any] = {"place": place}
    trainable = tune.with_resources(tune.with_parameters(die_once, place=place), {"cpu": 0.5})
    internals.let_outlive_checkpoints(trainable)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(search_alg=Two(), scheduler=Watching(seen), num_samples=2, max_concurrent_trials=2),
        run_config=tune.RunConfig(name="run", storage_path=str(place), verbose=0),
    )
    grid = tuner.fit()
    seen["results"] = {result.config["number"]: result for result in grid}
    return seen


def test_a_function_is_called_through_a_mixin_also_where_its_checkpoint_is_gone(noted: dict[str, Any]) -> None:
    metrics = noted["results"][0].metrics
    assert (metrics["value"], metrics["named"]) == (2, True), CHANGED


def test_a_trial_may_fail_as_often_as_it_says_itself(noted: dict[str, Any]) -> None:
    assert noted["results"][0].error is None, CHANGED


def test_a_trial_names_the_file_of_its_error(noted: dict[str, Any]) -> None:
    assert noted["error"] == "RuntimeError: died once", CHANGED


def test_a_worker_knows_the_folder_of_its_trial(noted: dict[str, Any]) -> None:
    assert (Path(noted["results"][0].path) / "here").exists(), CHANGED


def test_checkpoints_have_their_names_and_the_last_is_removed(noted: dict[str, Any]) -> None:
    before, after = json.loads((noted["place"] / "names").read_text())
    assert before == ["checkpoint_000000"], CHANGED
    assert "here" in after and before[0] not in after, CHANGED


def test_what_a_trial_reported_last_and_with_its_last_checkpoint(noted: dict[str, Any]) -> None:
    assert noted["before"] == ({}, {}), CHANGED
    assert [report["value"] for report in noted["after"]] == [1, 1], CHANGED


def test_the_searcher_is_found_in_what_it_is_wrapped_in(noted: dict[str, Any]) -> None:
    assert isinstance(noted["searcher"], Two), CHANGED


def test_a_trial_is_paused_before_it_begins_and_stopped_while_it_waits(noted: dict[str, Any]) -> None:
    assert noted["left"] == Trial.PAUSED, CHANGED
    result = noted["results"][1]
    assert (result.metrics["value"], result.metrics["done"], result.error) == (7, True, None), CHANGED


def test_trials_that_have_not_ended_are_listed(noted: dict[str, Any]) -> None:
    assert noted["most"] == 2, CHANGED


def test_a_trial_is_laid_into_the_folder_of_its_run(noted: dict[str, Any]) -> None:
    assert noted["storage"] == (str(noted["place"]), str(noted["place"])), CHANGED


def test_a_run_leaves_records_of_these_names(noted: dict[str, Any]) -> None:
    names = [path.name for path in (noted["place"] / "run").iterdir() if path.is_file()]
    found = [any(fnmatch(name, pattern) for name in names) for pattern in internals.RECORDS]
    assert found == [True, True, True, False], CHANGED
    kinds: list[Any] = [TuneController, Searcher, SearchGenerator, BasicVariantGenerator]
    for kind, pattern in zip(kinds, internals.RECORDS, strict=True):
        assert fnmatch(kind.CKPT_FILE_TMPL.format("2026"), pattern), CHANGED


def test_the_first_record_lists_the_trials(noted: dict[str, Any]) -> None:
    (record,) = (noted["place"] / "run").glob(internals.RECORDS[0])
    found = internals.recorded_trials(record.read_bytes())
    assert sorted(trial["config"]["number"] for trial in found) == [0, 1], CHANGED


def test_a_node_has_free_resources(ray_local: None) -> None:
    found = cluster_internals.free_resources()
    assert found.keys() == {node["NodeID"] for node in ray.nodes()}, CHANGED
    # what the trials held may not yet be free again
    assert 0 < next(iter(found.values()))["CPU"] <= 2, CHANGED


def tune_values(config: dict[str, Any]) -> None:
    """Two reports with what reports of a study hold."""
    for step in (1, 2):
        tune.report({"score": step * config["search.rate"], "fraction": step / 2, "finished": step == 2})


def test_tensorboard_has_the_values_of_each_trial_and_no_flags(ray_local: None, tmp_path: Path) -> None:
    """With no experiment of any trial's own, TensorBoard puts together the values of all of them."""
    space = {"search.rate": tune.grid_search([0.5, 2.0]), "architecture.operators": tune.choice([["conv", "skip"]])}
    for name, callback in {
        "search": internals.TrialCurves(lambda config: f"of {config['search.rate']}"),
        "finals": NoCurves(),
    }.items():
        run = tune.RunConfig(name=name, storage_path=str(tmp_path), callbacks=[callback], verbose=0)
        trainable = tune.with_resources(tune_values, {"cpu": 0.5})
        assert not tune.Tuner(trainable, param_space=space, run_config=run).fit().errors
    assert not list(tmp_path.glob("finals/*/events.*"))
    assert len(list(tmp_path.glob("finals/*/result.json"))) == 2, CHANGED
    found = {}
    for folder in {path.parent for path in tmp_path.glob("search/*/trial-*/events.*")}:
        events = [value for event in read(folder) for value in event.summary.value]
        tags = {value.tag.removeprefix("ray/tune/") for value in events}
        assert "score" in tags and not tags & {*internals.NO_CURVES, "_hparams_/experiment"}, CHANGED
        (start,) = (value for value in events if value.tag == "_hparams_/session_start_info")
        values = HParamsPluginData.FromString(start.metadata.plugin_data.content).session_start_info.hparams
        assert folder.name == f"trial-of {values['search.rate'].number_value}"
        found[values["search.rate"].number_value] = values["architecture.operators"].string_value
    assert found == {0.5: "['conv', 'skip']", 2.0: "['conv', 'skip']"}, CHANGED


def own_variables(config: dict[str, Any]) -> None:
    found = ray.get_runtime_context().runtime_env.get("env_vars", {})
    tune.report({"variables": len(found), "fraction": 1.0, "finished": True})


@pytest.mark.parametrize("started", [False, True])
def test_trials_need_no_process_of_their_own(ray_local: None, tmp_path: Path, started: bool) -> None:
    """A worker that Ray has started ahead has no variables of its own, and is taken only by who asks for none."""
    run = tune.RunConfig(name="r", storage_path=str(tmp_path), verbose=0)
    with internals.in_started_workers() if started else contextlib.nullcontext():
        (result,) = tune.Tuner(tune.with_resources(own_variables, {"cpu": 0.5}), run_config=run).fit()
    assert (result.metrics["variables"] == 0) == started, CHANGED
    assert class_cache.DEFAULT_ENV_VARS, CHANGED


def test_the_curves_of_a_run_that_is_interrupted_are_whole_when_it_ends(tmp_path: Path) -> None:
    """The trial has not ended, and the driver ends right after this."""

    class Running:
        config: dict[str, Any] = {}
        local_path = str(tmp_path)
        init_local_path = staticmethod(lambda: None)

    trial = Running()
    curves = internals.TrialCurves(lambda config: "a")
    tags = {f"value{number}" for number in range(200)}
    curves.log_trial_result(1, trial, dict.fromkeys(tags, 1.0) | {"training_iteration": 1})
    curves.on_experiment_end([trial])
    written = {value.tag for event in read(tmp_path / "trial-a") for value in event.summary.value}
    assert written >= {f"ray/tune/{tag}" for tag in tags}


def test_which_cluster_ray_would_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert cluster_internals.joined_address(None) is None, CHANGED
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cluster_internals.joined_address(None) == "10.0.0.1:6379", CHANGED
    assert cluster_internals.joined_address("local") is None, CHANGED


def test_a_cluster_can_be_kept_on_loopback() -> None:
    """What then listens, how long its sockets' paths are and who answers: ``cluster/test_local_cluster.py``."""
    source = inspect.getsource(ray.util.get_node_ip_address)
    assert "if not ray_constants.ENABLE_RAY_CLUSTER:" in source and "get_localhost_ip()" in source, CHANGED
    with cluster_internals.loopback_only():
        assert not ray_constants.ENABLE_RAY_CLUSTER, CHANGED
    assert ray_constants.ENABLE_RAY_CLUSTER, CHANGED


def test_a_job_knows_itself_by_a_variable_and_its_folder() -> None:
    assert constants.RAY_JOB_CONFIG_JSON_ENV_VAR == cluster_internals.JOB, CHANGED
    assert f'"{cluster_internals.COPIES}"' in inspect.getsource(working_dir), CHANGED


def test_tune_is_told_of_a_checkpoint_of_ray_train_in_a_metric() -> None:
    source = inspect.getsource(ray_train.TuneReportCallback.after_report)
    assert "metrics[CHECKPOINT_PATH_KEY] = checkpoint.path" in source, CHANGED


@pytest.mark.parametrize(
    "module, name, text", zip((syncer, experiment_state), internals.RECORD_LOGGERS, internals.RECORD_LOST, strict=True)
)
def test_what_tune_says_where_its_record_is_lost(module: Any, name: str, text: str) -> None:
    assert module.logger is logging.getLogger(name), CHANGED
    assert f'"{text}' in inspect.getsource(module), CHANGED


def test_a_population_has_these_doors() -> None:
    own, theirs = internals.SearchedPopulation, PopulationBasedTraining
    for name in ("_exploit", "_get_new_config"):
        assert (
            inspect.signature(getattr(own, name)).parameters.keys()
            == inspect.signature(getattr(theirs, name)).parameters.keys()
        ), CHANGED
    assert "self._get_new_config(trial, trial_to_clone)" in inspect.getsource(theirs._exploit), CHANGED
    assert "new_state.last_checkpoint" in inspect.getsource(theirs._exploit), CHANGED


def test_a_population_keeps_where_each_trial_stands(tmp_path: Path) -> None:
    population = internals.SearchedPopulation(
        "epoch", "score", "max", perturbation_interval=2, hyperparam_mutations={"rate": lambda: 1.0}
    )
    storage = StorageContext(str(tmp_path), "run", trial_dir_name="trial")
    trial = Trial("trainable", config={"rate": 2.0}, stub=True, storage=storage)
    population.take_in(trial, 5, 4)
    state = population._trial_state[trial]
    assert (state.last_train_time, state.last_perturbation_time, state.last_checkpoint) == (5, 4, None), CHANGED
    assert isinstance(state, ray_population._PBTTrialState), CHANGED
    with pytest.raises(ValueError, match="Search algorithms cannot be used"):
        searched: Any = SimpleNamespace(search_alg=SearchGenerator(Two()))
        PopulationBasedTraining.on_trial_add(population, searched, trial)
