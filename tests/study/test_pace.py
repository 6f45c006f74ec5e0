"""A study that is to keep to a time: how long steps take, and by what trainings are shortened."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from irnas_ray.results.folder import StudyFolder
from irnas_ray.settings.study import Architecture, Final, Search, StudyConfig, Tune
from irnas_ray.study import pace
from irnas_ray.study.pace import FOR_STEPS, paced, shortened, shortening, time_steps


def settings(tmp_path: Path, **more: Any) -> StudyConfig:
    return StudyConfig(
        study="s",
        results=str(tmp_path),
        architecture=Architecture(layers=1, nodes=1, width=2, operators=["conv", "skip"], multipliers=[1]),
        search=Search(epochs=4, steps_per_epoch=25, warmup_epochs=1, proxy_steps=50, batch=1, crop=16),
        final=Final(
            count=3, steps=600, validate_every=200, width=2, batch=1, crop=16, stem_channels=2, aspp_channels=2
        ),
        tune=Tune(trials=6, replicates=2),
        **more,
    )


def test_the_sum_is_that_of_the_stages(tmp_path: Path) -> None:
    config = settings(tmp_path, minutes=1.0)
    # 12 trials of 100 steps of 0.1 s and 50 of 0.02 s by two, then three finals of 600 steps of 0.02 s in two turns
    seconds = 12 * (100 * 0.1 + 50 * 0.02) / 2 + 2 * 600 * 0.02
    assert shortening(config, 0.1, 0.02, places=2) == pytest.approx(FOR_STEPS * 60 / seconds)
    assert shortening(config, 1e-4, 1e-4, places=2) == 1
    config.search.method = "evolution"  # which decodes nothing, so that no short training follows
    seconds -= 12 * 50 * 0.02 / 2
    assert shortening(config, 0.1, 0.02, places=2) == pytest.approx(FOR_STEPS * 60 / seconds)


def test_all_lengths_shrink_alike_and_none_vanishes(tmp_path: Path) -> None:
    config = settings(tmp_path)
    short = shortened(config, 0.1)
    assert (short.search.steps_per_epoch, short.search.proxy_steps) == (2, 5)
    assert (short.final.steps, short.final.validate_every) == (60, 20)
    assert shortened(config, 1e-6).search.steps_per_epoch == shortened(config, 1e-6).final.steps == 1
    config.search.proxy_steps = 0
    assert shortened(config, 0.1).search.proxy_steps == 0
    assert shortened(config, 1) == config


def test_steps_are_timed_without_data_or_ray(tmp_path: Path) -> None:
    found = time_steps(settings(tmp_path), torch.device("cpu"))
    # a weight and an architecture step of a supernet against one step of a network in it
    assert 0 < found["final_step"] and 0 < found["search_step"] < 60


def test_what_was_measured_once_holds_when_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path, minutes=0.5)
    folder = StudyFolder(config)
    folder.trials.mkdir(parents=True)
    answers = iter([{"search_step": 0.1, "final_step": 0.05}])
    timer = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda _: next(answers)))
    monkeypatch.setattr(pace, "_time_steps", timer)
    monkeypatch.setattr(pace.ray, "get", lambda found: found)
    resources = {"cpu": 1.0, "gpu": 0.0}
    first = paced(config, folder, resources, 2)
    said = capsys.readouterr().out
    again = paced(config, folder, resources, 1)  # another cluster, the same lengths
    assert again == first and first.final.steps < 600
    factor = json.loads(folder.pace.read_text())["factor"]
    assert f"a training step takes 50 ms here: to end within 0.5 minutes every training gets {factor:.0%}" in said
    assert paced(settings(tmp_path), folder, resources, 2) == settings(tmp_path)
