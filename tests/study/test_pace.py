"""A study that is to keep to a time: how long steps take, and by what trainings are shortened."""

import json
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage

import irnas_ray as ir
from irnas_ray.hpo.ledger import Ledger
from irnas_ray.hpo.plan import StudyPlan, claim_study
from irnas_ray.networks.building import make_encoding, make_network
from irnas_ray.networks.derived import count_parameters
from irnas_ray.results.folder import StudyFolder
from irnas_ray.settings.study import Architecture, Final, Search, StudyConfig, Tune
from irnas_ray.study import pace
from irnas_ray.study.candidates import Candidate
from irnas_ray.study.limits import limits_of
from irnas_ray.study.pace import (
    FOR_STEPS,
    TIMED_STEPS,
    first_configurations,
    paced,
    paced_finals,
    shortened,
    shortening,
    time_configurations,
)


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
        domains={"architecture.width": IntDistribution(1, 2)},
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
    # a weight and an architecture step of a supernet, and one step of a network in it
    (search_step,), (final_step,) = time_configurations([(settings(tmp_path), {})], torch.device("cpu"))
    assert 0 < final_step and 0 < search_step < 60


def test_what_is_timed_is_what_the_study_will_propose_first(tmp_path: Path) -> None:
    config = settings(tmp_path)
    config.search.method = "random"
    config.domains = {"final.width": IntDistribution(1, 30), "final.lr": FloatDistribution(1e-3, 1e6)}
    config.tune.max_parameters = 20_000
    drawn = list(islice(first_configurations(config), 4))
    widths = [own.final.width for own, _ in drawn]
    assert len(set(widths)) > 1 and all(genes for _, genes in drawn)
    networks = [make_network(make_encoding(own).decode(genes), own) for own, genes in drawn]
    assert all(count_parameters(network) <= 20_000 for network in networks)
    # a rate at which the trainings would not survive
    of_trials, of_finals = time_configurations(drawn, torch.device("cpu"))
    assert of_trials == of_finals and len(of_finals) >= 1 and min(of_finals) > 0
    plan = replace(StudyPlan.of(config, "s", InMemoryStorage(), limits_of(config)), replicates=1)
    claim_study(plan, tmp_path, "s")
    ledger = Ledger(plan)
    assert [ledger.suggest(str(trial))["final.width"] for trial in range(4)] == widths


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is measured next; nothing is asked of a cluster."""
    measured: list[Any] = []
    monkeypatch.setattr(pace, "_side_by_side", lambda *_: measured.pop(0))
    return measured


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(settings(tmp_path))
    folder.trials.mkdir(parents=True)
    return folder


RESOURCES = {"cpu": 1.0, "gpu": 0.0}


def test_what_was_measured_once_holds_when_the_study_goes_on(
    tmp_path: Path, folder: StudyFolder, answers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path, minutes=0.5)
    answers.append([([0.12], [0.05]), ([0.08], [0.04])])
    first = paced(config, folder, RESOURCES, 2)
    said = capsys.readouterr().out
    again = paced(config, folder, RESOURCES, 1)  # another cluster, the same lengths
    assert again == first and first.search.steps_per_epoch < 25
    factor = json.loads(folder.pace.read_text())["factor"]
    assert f"a training step takes 100 ms here: to end within 0.5 minutes every trial gets {factor:.0%}" in said
    assert paced(settings(tmp_path), folder, RESOURCES, 2) == settings(tmp_path)


def test_finals_use_what_the_search_left(
    tmp_path: Path, folder: StudyFolder, answers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config, candidates = settings(tmp_path, minutes=0.5), [Candidate(rank, "", "", None) for rank in (1, 2, 3)]
    answers += [[([0.1], [0.05])], [0.01, 0.02]]
    paced(config, folder, RESOURCES, 2)
    finals = paced_finals(config, folder, candidates, RESOURCES, 2, spent=10)
    # two turns of 600 steps of 0.02 s in what is left of half a minute
    assert finals.final.steps == round(600 * FOR_STEPS * 20 / (2 * 600 * 0.02))
    assert finals.search == config.search
    assert "every final training gets 67% of its steps" in capsys.readouterr().out
    assert paced_finals(config, folder, candidates, RESOURCES, 1, spent=0) == finals
    assert not answers


def test_a_slow_search_leaves_the_finals_their_share_and_a_fast_one_no_more_than_all(
    tmp_path: Path, folder: StudyFolder, answers: list[Any]
) -> None:
    config, one = settings(tmp_path, minutes=0.5), [Candidate(1, "", "", None)]
    answers += [[([0.1], [0.05])], [0.05], [1e-6]]
    paced(config, folder, RESOURCES, 2)
    factor = json.loads(folder.pace.read_text())["factor"]
    assert paced_finals(config, folder, one, RESOURCES, 2, spent=100).final.steps == round(300 * factor)
    folder.pace.write_text(json.dumps({"factor": factor, "finals": None}))
    assert paced_finals(config, folder, one, RESOURCES, 2, spent=1) == config


def test_a_folder_of_an_earlier_release_keeps_its_lengths(tmp_path: Path, folder: StudyFolder) -> None:
    config = settings(tmp_path, minutes=0.5)
    folder.pace.write_text(json.dumps({"search_step": 0.1, "final_step": 0.05, "factor": 0.5}))
    assert paced_finals(config, folder, [], RESOURCES, 2, spent=0).final.steps == 300


def test_without_a_search_there_is_its_time_too_and_minutes_of_a_final_are_its_own(
    tmp_path: Path, folder: StudyFolder, answers: list[Any]
) -> None:
    config, one = settings(tmp_path, minutes=0.5), [Candidate(1, "", "", None)]
    config.final.minutes = 10
    assert paced_finals(config, folder, one, RESOURCES, 2, spent=0) is config
    config.final.minutes = None
    answers.append([0.08])
    assert paced_finals(config, folder, one, RESOURCES, 2, spent=0).final.steps == round(FOR_STEPS * 30 / 0.08)


def test_retraining_has_no_time_unless_it_is_given_one() -> None:
    assert ir.compose("search", []).minutes is not None
    assert ir.compose("retrain", ["genotype=irnas_denoise"]).minutes is None
    assert ir.compose("retrain", ["genotype=irnas_denoise", "minutes=3"]).minutes == 3


def test_steps_are_timed_for_long_enough_and_the_first_third_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two of six are fast, as long as others that are to be timed beside them are still being started."""
    clock, lengths = [0.0], [0.1, 0.1, 0.4, 0.4, 0.4, 0.4, 9.0]

    def steps() -> None:
        clock[0] += lengths.pop(0)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert pace._timed(steps, torch.device("cpu"), 1.5) == pytest.approx(0.4 / TIMED_STEPS)
    assert lengths == [9.0]
    assert pace._timed(steps, torch.device("cpu")) == 9.0 / TIMED_STEPS
