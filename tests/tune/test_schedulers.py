"""Successive halving of configurations as Ray really runs it: trivial trials on one small cluster."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from halving_trials import StopAfterOne, epochs_of, run_script
from local_ray import start_ray

from irnas_ray.hpo.storage import open_storage
from irnas_ray.tune.runner import Interrupted

pytestmark = pytest.mark.whole  # the decisions themselves: test_halving_decisions.py, hpo/test_rungs.py


@pytest.fixture(scope="module", autouse=True)
def cluster(no_ray_left: None) -> str:
    """Address of a Ray with three CPUs."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    return str(start_ray(num_cpus=3)["address"])


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


def test_seeds_wait_for_each_other_and_their_mean_decides(tmp_path: Path) -> None:
    """Two places, three configurations under two seeds each, a rung at epoch 2 of 3; waiting seeds leave their place.

    Configuration 1 has a lucky seed and the lower mean, configuration 2 an unlucky one and the higher mean.
    """
    script = {
        0: [1.0, 20.0, 21.0, 22.0],
        1: [1.0, 22.0, 23.0, 24.0],
        2: [1.0, 40.0, 41.0, 42.0],
        3: [1.0, 0.5, 99.0, 99.0],
        4: [1.0, 3.0, 4.0, 5.0],
        5: [1.0, 60.0, 61.0, 62.0],
    }
    results, study = run_script(tmp_path, script, epochs=3, replicates=2, milestones=[2])
    assert states(study) == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert [trial.value for trial in study.trials] == [23.0, 20.25, 33.5]
    assert [trial.intermediate_values for trial in study.trials] == [
        {1: 1.0, 2: 21.0, 3: 22.0},
        {1: 1.0, 2: 20.25},
        {1: 1.0, 2: 31.5, 3: 32.5},
    ]
    # nobody ran an epoch twice, and the lucky seed not one too many
    assert {seed: epochs_of(tmp_path, seed) for seed in script} == {
        seed: [1, 2] if seed in (2, 3) else [1, 2, 3, 4] for seed in script
    }
    assert all(result.error is None and result.metrics["done"] for result in results)
    stopped = study.trials[1].user_attrs["replicates"]
    assert [(entry["seed"], entry["state"], entry["score"]) for entry in stopped] == [
        (2, "PRUNED", 40.0),
        (3, "PRUNED", 0.5),
    ]
    assert all(Path(entry["folder"]).name == entry["trial"] for entry in stopped)
    assert study.trials[2].user_attrs["genotype"] == "of 5"


def test_a_trial_runs_in_the_process_of_a_stopped_one_and_waits_until_that_has_left(tmp_path: Path) -> None:
    script = {0: [5.0, 5.0, 5.0], 1: [4.0, 4.0, "lingers"], 2: [6.0, 6.0, 6.0]}
    results, study = run_script(tmp_path, script, epochs=2, replicates=1, milestones=[1], concurrent=1)
    assert states(study) == ["COMPLETE", "PRUNED", "COMPLETE"] and all(result.error is None for result in results)
    assert epochs_of(tmp_path, 1) == [1]
    assert len({(tmp_path / f"{seed}.process").read_text() for seed in script}) == 1


def test_one_place_is_enough_and_failed_seeds_do_not_count(tmp_path: Path) -> None:
    """Three seeds of which one dies before the rung, one scores NaN at it, and a configuration that dies as a whole."""
    script = {
        0: [10.0, 12.0, 14.0],
        1: ["raise"],
        2: [math.nan],
        3: [100.0, 101.0],
        4: [1.0, "raise"],
        5: ["raise"],
    }
    _, study = run_script(tmp_path, script, epochs=2, replicates=3, milestones=[1], concurrent=1)
    assert states(study) == ["COMPLETE", "COMPLETE"]
    assert [trial.value for trial in study.trials] == [14.0, 101.0]
    assert study.trials[0].intermediate_values == {1: 10.0, 2: 12.0}
    assert study.trials[1].user_attrs["rungs"]["1"]["mean"] == [50.5]
    assert [entry["state"] for entry in study.trials[0].user_attrs["replicates"]] == ["COMPLETE", "FAIL", "FAIL"]
    assert study.trials[0].user_attrs["error"].startswith("seed 1: ")
    assert "seed 1 has no luck" in study.trials[0].user_attrs["error"]
    assert "seed 2: score is nan after epoch 1" in study.trials[0].user_attrs["error"]
    # one at a time: a seed that waits is set aside, not run beside another
    assert epochs_of(tmp_path, 0) == [1, 2, 3]


def test_with_two_objectives_the_dominated_are_stopped(tmp_path: Path) -> None:
    script = {
        0: [(20.0, 100)],
        1: [(19.0, 110)],
        2: [(10.0, 50)],
        3: [(9.0, 50)],
    }
    _, study = run_script(tmp_path, script, 2, 1, [1], objectives=("score", "parameters"), concurrent=1)
    assert states(study) == ["COMPLETE", "PRUNED", "COMPLETE", "COMPLETE"]
    assert [trial.number for trial in study.best_trials] == [0, 2]
    assert study.trials[3].values == [9.0, 50.0]


def test_a_killed_driver_loses_no_rung(tmp_path: Path, cluster: str) -> None:
    """kill -9 while one seed waits at the rung and the other runs; a new driver ends as if nothing had happened.

    The waiting seed still waits, the decision is made with what was known before, and nothing is told twice.
    """
    script = {
        0: [10.0, 20.0, 21.0, 22.0],
        1: [10.0, 30.0, 31.0, 32.0],
        2: [10.0, 24.0, 99.0, 99.0],
        3: [10.0, "hang", 99.0, 99.0],
    }
    plan = {"script": script, "epochs": 3, "replicates": 2, "milestones": [2], "concurrent": 2}
    # before the driver: Optuna fails where two processes make the tables of one database at the same time
    open_storage(None, tmp_path)
    with open(tmp_path / "log", "w") as log:
        driver = subprocess.Popen(
            [sys.executable, "-m", "halving_trials", json.dumps(plan | {"folder": str(tmp_path)})],
            env=os.environ
            | {"RAY_ADDRESS": cluster, "PYTHONPATH": os.pathsep.join(sys.path), "TUNE_GLOBAL_CHECKPOINT_S": "0.5"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    deadline = time.time() + 400
    while True:
        assert driver.poll() is None and time.time() < deadline, (tmp_path / "log").read_text()
        if len(open_trials := trials_of(tmp_path)) == 2:
            values = open_trials[1].user_attrs.get("rungs", {}).get("2", {}).get("values", {})
            # and the snapshot of Tune knows it
            if (
                "2" in values
                and (tmp_path / "3.log").exists()
                and epochs_of(tmp_path, 3) == [1, 2]
                and snapshot(tmp_path)
            ):
                break
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    (tmp_path / "hang").touch()
    _, study = run_script(tmp_path, **plan)
    assert states(study) == ["COMPLETE", "PRUNED"]
    assert study.trials[0].value == 27.0 and study.trials[0].intermediate_values == {1: 10.0, 2: 25.0, 3: 26.0}
    assert study.trials[1].intermediate_values == {1: 10.0, 2: 12.0}
    stopped = study.trials[1].user_attrs
    assert [(entry["state"], entry["score"]) for entry in stopped["replicates"]] == [("PRUNED", 24.0), ("PRUNED", 0.0)]
    assert stopped["score, mean"] == 12.0 and "error" not in stopped
    assert epochs_of(tmp_path, 2) == [1, 2]
    # from the last checkpoint that Tune's state knew
    assert epochs_of(tmp_path, 3) in ([1, 2, 2], [1, 2, 1, 2])


def test_a_search_that_was_moved_is_continued_where_it_is_now(tmp_path: Path) -> None:
    """Also with trials that the earlier driver had not come to; nothing appears at the old place."""
    script = {0: [1.0, 2.0], 1: [3.0, 4.0]}
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    with pytest.raises(Interrupted, match="stopped after 1 of 2 trials"):
        run_script(old, script, 1, 1, [], concurrent=1, loggers=[StopAfterOne()])
    old.rename(new)
    _, study = run_script(new, script, 1, 1, [], concurrent=1)
    assert [trial.value for trial in study.trials] == [2.0, 4.0] and not old.exists()
    assert [len(list(new.glob(f"round-1/*/checkpoint_00000{number}"))) for number in (0, 1)] == [2, 0]


def trials_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    try:
        return optuna.load_study(study_name="scripted", storage=f"sqlite:///{folder / 'study.db'}").trials
    except (KeyError, optuna.exceptions.StorageInternalError):
        return []


def snapshot(folder: Path) -> bool:
    """Whether Tune's state, as it lies in the folder, knows all trials, and that the third waits."""
    for file in (folder / "round-1").glob("experiment_state-*.json"):
        trials = [json.loads(state) for state, _ in json.loads(file.read_text())["trial_data"]]
        statuses = {trial["evaluated_params"]["seed"]: trial["status"] for trial in trials}
        return len(trials) == 4 and statuses[2] == "PAUSED"
    return False
