"""How many trials share a GPU: measured by an injected function here, where there is none."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution, IntDistribution

from irnas_ray.batches import ResidentPatches
from irnas_ray.memory import GIB, Measurement, largest, one_step, search_resources
from irnas_ray.preparing import ImageRecord
from irnas_ray.settings import Architecture, Cluster, Final, Search, StudyConfig
from irnas_ray.trial import TrialData

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


def test_the_largest_configuration_is_measured() -> None:
    """Of every domain the end that needs most memory, also where that is not the largest number."""
    domains: dict[str, Any] = {
        "architecture.nodes": IntDistribution(2, 5),
        "architecture.width": CategoricalDistribution([8, 4]),
        "architecture.share_cells": CategoricalDistribution([True, False]),
        "architecture.recompute": CategoricalDistribution([True, False]),
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
    assert (search.batch, search.crop) == (12, 64)
    assert largest(auto()) == {}


@dataclass
class Patches:
    """Patches as a trial is given them."""

    asked: list[int]

    def batches(self, batch: int, seed: int, device: torch.device) -> ResidentPatches:
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
