"""Workers that run one trial after another: none of them may notice what ran before it."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from irnas_ray.patches import open_patches
from irnas_ray.preparing import Manifest, load_images, split_training
from irnas_ray.runtime import connect
from irnas_ray.settings import Architecture, Cluster, Final, Search, StudyConfig
from irnas_ray.study import prepare_data
from irnas_ray.trial import TrialData, run_trial

SAME = ("epoch", "score", "psnr", "ssim", "loss", "genotype", "margins")


@pytest.fixture(scope="module")
def trainable(tmp_path_factory: pytest.TempPathFactory, ray_local: None) -> Any:
    """A search trial of three tiny epochs and a proxy, as a study runs it."""
    config = StudyConfig(
        results=str(tmp_path_factory.mktemp("results")),
        architecture=Architecture(nodes=2, width=2, layers=2, stem_channels=4, operators=["conv", "sep", "skip"]),
        search=Search(epochs=3, warmup_epochs=1, steps_per_epoch=3, batch=2, crop=16, proxy_steps=2),
        final=Final(width=2, batch=2, crop=16, stem_channels=4, aspp_channels=4, low_level_channels=4),
        cluster=Cluster(cpus_per_trial=2),
    )
    connect(config.cluster)
    folder = prepare_data(config)
    split = split_training(Manifest.load(folder).ids("train"), 0.1, 0)
    patches = [open_patches(folder, ids, 2**28) for ids in (split.train_w, split.train_a)]
    data = TrialData(*patches, load_images(folder, split.train_v))
    return tune.with_resources(tune.with_parameters(run_trial, study=config, data=data), {"cpu": 2})


class Recorder(tune.Callback):
    """What each seed reported, from which process; kills the process of ``victim`` once, at its second epoch."""

    def __init__(self, victim: int | None = None) -> None:
        self.victim = victim
        self.reports: dict[int, dict[int, tuple]] = {}
        self.workers: dict[int, list[int]] = {}

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        seed = result["config"]["seed"]
        self.reports.setdefault(seed, {})[result["epoch"]] = tuple(result.get(name) for name in SAME)
        self.workers.setdefault(seed, []).append(result["pid"])
        if seed == self.victim and result["epoch"] == 2:
            self.victim = None
            os.kill(result["pid"], signal.SIGKILL)


class Disturbing(FIFOScheduler):
    """Pauses one seed after its first epoch, and stops another there."""

    def __init__(self, paused: int, stopped: int) -> None:
        super().__init__()
        self.paused: int | None = paused
        self.stopped = stopped

    def on_trial_result(self, controller: Any, trial: Any, result: dict) -> str:
        if trial.config["seed"] == self.paused:
            self.paused = None
            return self.PAUSE
        return self.STOP if trial.config["seed"] == self.stopped else self.CONTINUE


def run(trainable: Any, folder: Path, seeds: list[int], recorder: Recorder, scheduler: Any = None) -> Recorder:
    results = tune.Tuner(
        trainable,
        param_space={"seed": tune.grid_search(seeds)},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1, scheduler=scheduler),
        run_config=tune.RunConfig(
            name="run",
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=1),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            callbacks=[recorder],
            verbose=0,
        ),
    ).fit()
    assert not results.errors and len(results) == len(seeds)
    return recorder


def test_a_worker_runs_trials_one_after_another(trainable: Any, tmp_path: Path) -> None:
    """The first trial of a fresh worker and the second of a used one report the same to the last bit."""
    forth = run(trainable, tmp_path / "forth", [3, 4], Recorder())
    back = run(trainable, tmp_path / "back", [4, 3], Recorder())
    assert len({pid for pids in forth.workers.values() for pid in pids}) == 1  # or nothing was reused
    assert forth.reports == back.reports and sorted(forth.reports[3]) == [1, 2, 3, 4]
    assert forth.reports[3] != forth.reports[4]

    # and so do trials that are paused, follow one that was stopped, or lose their worker
    order = [3, 5, 4]
    torn = run(trainable, tmp_path / "torn", order, Recorder(victim=4), Disturbing(paused=3, stopped=5))
    assert torn.reports[3] == forth.reports[3] and torn.reports[4] == forth.reports[4]
    assert sorted(torn.reports[5]) == [1]
    assert len(set(torn.workers[4])) == 2  # a new one after the kill
