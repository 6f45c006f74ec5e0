"""A trial without a supernet, in this process: what it reports, and that it goes on where it was interrupted."""

import copy
import json
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from irnas_ray.datasets.batches import ResidentPatches, State
from irnas_ray.datasets.whole_images import ImageRecord
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.building import make_encoding
from irnas_ray.networks.costs import size_of
from irnas_ray.settings.study import Architecture, Final, Search, StudyConfig, with_values
from irnas_ray.study import trial
from irnas_ray.study.trial import TrialData
from irnas_ray.tune.reports import Reports

STUDY = StudyConfig(
    architecture=Architecture(nodes=1, layers=2, operators=["conv", "skip"], multipliers=[1, 2], residual=True),
    search=Search(method="random", epochs=3, steps_per_epoch=2, proxy_steps=50),
    final=Final(width=2, batch=2, crop=16, stem_channels=2, aspp_channels=2, low_level_channels=2, ssim_weight=0),
)


class Patches:
    def batches(self, batch: int, crop: int, seed: int, device: torch.device) -> ResidentPatches:
        images = torch.arange(8 * 24 * 24, dtype=torch.uint8).reshape(8, 1, 24, 24)
        return ResidentPatches(images, None, batch, seed)


DATA = TrialData(*[Patches()] * 2, [ImageRecord("v", np.full((1, 32, 40), 90, np.uint8), None)])  # type: ignore


class Kept(Reports):
    """Keeps what a trial reports and saves in memory, and ends the process of the trial after some reports."""

    def __init__(self, state: State | None = None, most: int = 99) -> None:
        super().__init__(get=lambda: None)
        self.state, self.most, self.said = state, most, list[dict[str, Any]]()

    def load(self) -> State | None:
        return self.state

    def report(self, metrics: dict[str, Any], state: State | None = None, write: Any = None) -> None:
        self.said.append(metrics)
        self.state = copy.deepcopy(state) if state else self.state
        if len(self.said) == self.most:
            raise KeyboardInterrupt


def config_of(study: StudyConfig) -> dict[str, Any]:
    encoding = make_encoding(study)
    return {"seed": 7, "final.width": 4, **encoding.encode(encoding.sample(Random(1)))}


def timeless(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in metrics.items() if key != "seconds"} for metrics in said]


def test_it_trains_the_network_that_its_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "prepare_device", lambda cpus: torch.device("cpu"))
    config, reports = config_of(STUDY), Kept()
    trial._train(config, STUDY, DATA, reports)
    assert [(now["epoch"], now["finished"], now["steps"]) for now in reports.said] == [
        (1, False, 2),
        (2, False, 4),
        (3, False, 6),
        (4, True, 6),
    ]
    genes = {key: value for key, value in config.items() if key.startswith("genotype.")}
    genotype = make_encoding(STUDY).decode(genes)
    size = size_of(genotype, with_values(STUDY, {"final.width": 4}))
    for now in reports.said:
        assert Genotype.from_json(now["genotype"]) == genotype and now["digest"] == genotype.digest
        assert now["psnr"] == now["score"] and json.loads(now["margins"]) == []
        assert {name: now[name] for name in size} == size
        # batches of two crops of 16 x 16 pixels, forward once and backward twice
        assert now["training_multiply_adds"] == 3 * now["steps"] * 2 * 256 * size["multiply_adds_per_pixel"]
    assert reports.said[-1]["score"] == reports.said[-2]["score"] != reports.said[0]["score"]


@pytest.mark.parametrize("after", [1, 3])
def test_it_goes_on_where_it_was_interrupted(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "prepare_device", lambda cpus: torch.device("cpu"))
    config, calm, killed = config_of(STUDY), Kept(), Kept(most=after)
    trial._train(config, STUDY, DATA, calm)
    with pytest.raises(KeyboardInterrupt):
        trial._train(config, STUDY, DATA, killed)
    again = Kept(killed.state)
    trial._train(config, STUDY, DATA, again)
    assert timeless(killed.said + again.said) == timeless(calm.said)


def test_steps_of_supernets_are_those_of_weights_and_of_alpha() -> None:
    search = Search(epochs=5, warmup_epochs=2, steps_per_epoch=10)
    assert [trial.supernet_steps(search, epoch) for epoch in (1, 2, 3, 5)] == [10, 20, 40, 80]
    assert trial.supernet_steps(Search(method="single_path", warmup_epochs=2, steps_per_epoch=10), 5) == 50
    # four decodings on rungs of 30 and 90 steps, where a third goes on
    short = Search(epochs=5, warmup_epochs=2, steps_per_epoch=10, proxy_steps=270)
    assert trial.supernet_steps(short, 5, 4, 3) == 80 + 4 * 30 + 2 * 60 + 180
