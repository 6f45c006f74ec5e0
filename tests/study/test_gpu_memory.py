"""How many trials share a GPU: measured by an injected function here, where there is none."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import torch
from local_ray import start_ray
from optuna.distributions import CategoricalDistribution, IntDistribution

from irnas_ray.datasets.batches import ResidentPatches
from irnas_ray.datasets.whole_images import ImageRecord
from irnas_ray.results.folder import StudyFolder
from irnas_ray.settings.study import Architecture, Cluster, Final, Search, StudyConfig, with_values
from irnas_ray.study import gpu_memory, study
from irnas_ray.study.gpu_memory import GIB, Measurement, largest, one_step, search_resources
from irnas_ray.study.trial import TrialData
from irnas_ray.system.files import write_json

GPU = {"cpu": 1.0, "gpu": 1.0}
NO_DATA: Any = None


def auto(**domains: Any) -> StudyConfig:
    return StudyConfig(cluster=Cluster(gpus_per_trial="auto"), domains=domains)


@pytest.mark.parametrize(
    ("measured", "share", "said"),
    [
        ([Measurement(10 * GIB, 80 * GIB)], 0.1428, "up to 11.0 of 80.0 GiB: 7 share a GPU"),
        ([Measurement(10 * GIB, 80 * GIB), Measurement(9 * GIB, 24 * GIB)], 0.5, "11.0 of 24.0 GiB: 2 share"),
        ([Measurement(60 * GIB, 80 * GIB)], 1.0, "1 share a GPU"),
        ([Measurement(79 * GIB, 80 * GIB)], 1.0, "needs 86.9 GiB, the smallest GPU has 80.0 GiB"),
        ([Measurement(float("inf"), 80 * GIB)], 1.0, "needs more, the smallest GPU has 80.0 GiB"),
        ([], 1.0, "nothing was measured"),
    ],
)
def test_auto_packs_what_was_measured_with_a_margin(
    measured: list[Measurement], share: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search_resources(auto(), NO_DATA, GPU, lambda config, data: measured) == {"cpu": 1.0, "gpu": share}
    assert said in capsys.readouterr().out


def test_nothing_is_measured_without_a_gpu_or_unasked() -> None:
    def never(config: StudyConfig, data: TrialData) -> list[Measurement]:
        raise AssertionError("must not run")

    assert search_resources(auto(), NO_DATA, {"cpu": 1.0, "gpu": 0.0}, never) == {"cpu": 1.0, "gpu": 0.0}
    asked = StudyConfig(cluster=Cluster(gpus_per_trial=0.5))
    assert search_resources(asked, NO_DATA, GPU | {"gpu": 0.5}, never) == {"cpu": 1.0, "gpu": 0.5}


@ray.remote(num_cpus=0, num_gpus=1)
class Holder:
    """Another program that holds the only GPU."""

    def ready(self) -> None:
        """Return as soon as it does."""


@pytest.fixture(scope="module")
def one_gpu(no_ray_left: None) -> None:
    """A Ray that believes in a GPU, which CUDA does not find."""
    start_ray(num_cpus=2, num_gpus=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures nothing, because there is no GPU")
def test_a_gpu_that_others_hold_is_waited_for_but_not_for_ever(
    one_gpu: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other: Any = Holder.remote()  # type: ignore[attr-defined]
    ray.get(other.ready.remote())
    monkeypatch.setattr(gpu_memory, "TOLD", 1)
    monkeypatch.setattr(gpu_memory, "PATIENCE", 3)
    start = time.monotonic()
    with pytest.raises(
        ValueError, match=r"cluster\.gpus_per_trial: auto .* not measure within 0\.05 .* 0 of 1 GPUs free"
    ):
        search_resources(auto(), NO_DATA, GPU)
    assert time.monotonic() - start > 2.9
    said = capsys.readouterr().out
    assert said.count("nothing measured after 1 s; a whole GPU and 1 CPU are waited for") == 1

    # as soon as it is given back the step is run
    monkeypatch.setattr(gpu_memory, "TOLD", 2)
    monkeypatch.setattr(gpu_memory, "PATIENCE", 400)
    threading.Timer(3, ray.kill, [other]).start()
    assert search_resources(auto(), NO_DATA, GPU) == GPU
    said = capsys.readouterr().out
    assert "nothing measured after 2 s" in said and "no worker can use a GPU through CUDA" in said


@pytest.mark.parametrize(
    ("states", "rounds", "share"),
    [
        (["COMPLETE", "PRUNED"], 1, 1.0),
        (["COMPLETE", "FAIL"], 1, 0.5),
        (["COMPLETE", "PRUNED"], 2, 0.5),
        ([], 1, 0.5),
        ([], 0, 0.5),
    ],
)
def test_nothing_is_measured_for_a_search_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: list[str], rounds: int, share: float
) -> None:
    config = with_values(auto(), {"tune.trials": 2, "results": str(tmp_path), "study": "s"})
    folder, given = StudyFolder(config), []
    folder.create(config)
    records = [{"id": str(number), "state": state, "round": 1} for number, state in enumerate(states)]
    if records:
        write_json(folder.records, records)
    if rounds:
        write_json(folder.rounds, [[2, 0]] * rounds)
    monkeypatch.setattr(study, "search_resources", lambda config, data, resources: resources | {"gpu": 0.5})
    monkeypatch.setattr(study, "choose", lambda *_: [])
    monkeypatch.setattr(study, "run_search", lambda config, folder, data, resources, storage: given.append(resources))
    split = SimpleNamespace(train_w=(), train_a=())
    stage: Any = SimpleNamespace(
        config=config, folder=folder, split=split, validation=[], resources=GPU, patches=lambda ids, shares: None
    )
    study._search_candidates(stage)
    assert given == [GPU | {"gpu": share}]


def test_the_largest_configuration_is_measured() -> None:
    """Of every domain the end that needs most memory, also where that is not the largest number."""
    domains: dict[str, Any] = {
        "architecture.nodes": IntDistribution(2, 5),
        "architecture.width": CategoricalDistribution([8, 4]),
        "architecture.share_cells": CategoricalDistribution([True, False]),
        "architecture.recompute": CategoricalDistribution([True, False]),
        "architecture.unshuffle": CategoricalDistribution([4, 1, 2]),
        "search.batch": CategoricalDistribution([4, 12, 8]),
        "search.crop": IntDistribution(32, 64),
    }
    seen: list[StudyConfig] = []

    def measure(config: StudyConfig, data: TrialData) -> list[Measurement]:
        seen.append(config)
        return [Measurement(GIB, 8 * GIB)]

    search_resources(auto(**domains), NO_DATA, GPU, measure)
    own, search = seen[0].architecture, seen[0].search
    assert (own.nodes, own.width, own.share_cells, own.recompute) == (5, 8, False, False)
    assert (search.batch, search.crop, own.unshuffle) == (12, 64, 1)
    assert largest(auto()) == {}


@dataclass
class Patches:
    """Patches as a trial is given them."""

    asked: list[int]

    def batches(self, batch: int, crop: int, seed: int, device: torch.device) -> ResidentPatches:
        self.asked.append(batch)
        return ResidentPatches(torch.randint(255, (8, 1, 32, 32), dtype=torch.uint8), None, batch, seed)


def test_the_measured_step_is_that_of_a_trial() -> None:
    """One step that trains weights and alpha, a validation and the proxy, with the study's own batch and crop."""
    config = StudyConfig(
        architecture=Architecture(nodes=2, width=2, layers=2, stem_channels=4, operators=["conv", "skip"]),
        search=Search(batch=3, crop=16, proxy_steps=5),
        final=Final(width=2, batch=4, crop=16, stem_channels=4, aspp_channels=4, low_level_channels=4),
    )
    image = ImageRecord("v", np.zeros((1, 32, 40), np.uint8), None)
    train_w, train_a = Patches([]), Patches([])
    data: Any = TrialData(train_w, train_a, [image])  # type: ignore[arg-type]
    one_step(config, data, torch.device("cpu"))
    assert train_w.asked == [3, 4] and train_a.asked == [3]
