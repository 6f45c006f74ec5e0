"""W&B and MLflow: named mistakes before any work, and trials that really arrive where they are installed."""

import importlib.util
import os
from pathlib import Path

import pytest
import ray.cloudpickle
from ray import tune

from irnas_ray.tune.loggers import check_loggers, make_loggers


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_loggers([])
    with pytest.raises(ValueError, match="unknown 'comet'; possible: wandb, mlflow"):
        check_loggers(["comet"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="mlflow is not installed here; pip install mlflow"):
        check_loggers(["mlflow"])


def run_trials(folder: Path, callbacks: list[tune.Callback]) -> None:
    def trial(config: dict) -> None:
        for epoch in range(1, 4):
            tune.report({"score": epoch * config["a"], "genotype": "a text", "finished": epoch == 3})

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # a study that is continued takes its callbacks from a file of Tune's
    callbacks = [ray.cloudpickle.loads(ray.cloudpickle.dumps(callback)) for callback in callbacks]
    run = tune.RunConfig(name="run", storage_path=str(folder / "trials"), callbacks=callbacks, verbose=0)
    results = tune.Tuner(trial, param_space={"a": tune.grid_search([1.0, 2.0])}, run_config=run).fit()
    assert not results.errors


def test_mlflow_gets_every_trial(tmp_path: Path, ray_local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    check_loggers(["mlflow"])
    run_trials(tmp_path, make_loggers(["mlflow"], "my study", tmp_path))
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("my study").experiment_id])
    assert sorted((run.data.params["a"], run.data.metrics["score"]) for run in runs) == [("1.0", 3.0), ("2.0", 6.0)]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_wandb_gets_every_trial(tmp_path: Path, ray_local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match="wandb login"):
        check_loggers(["wandb"])
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_loggers(["wandb"])
    # the loggers of wandb are processes of their own, which were started with Ray
    offline = make_loggers(["wandb"], "my study", tmp_path)
    offline[0].kwargs["mode"] = "offline"  # type: ignore[attr-defined]
    run_trials(tmp_path, offline)
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 2
