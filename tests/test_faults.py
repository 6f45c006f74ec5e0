"""Trials that meet with faults: each ends as it would have ended undisturbed, or says why it cannot; none is lost."""

import contextlib
import io
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from ray import cloudpickle, tune

from irnas_ray.patches import open_patches
from irnas_ray.preparing import Manifest, load_images, prepare
from irnas_ray.progress import ProgressLines
from irnas_ray.settings import Data, StudyConfig, with_values
from irnas_ray.supernet import SuperNet
from irnas_ray.trial import SCORE, TrialData, run_trial
from irnas_ray.tuning import find_run, fit

# workers cannot import this file
cloudpickle.register_pickle_by_value(sys.modules[__name__])

EPOCHS = 4
SETTINGS: dict[str, Any] = {"architecture.layers": 2, "architecture.nodes": 2, "architecture.width": 2}
SETTINGS |= {"architecture.stem_channels": 4, "architecture.operators": ["conv", "skip", "none"]}
SETTINGS |= {"search.epochs": EPOCHS, "search.warmup_epochs": 1, "search.steps_per_epoch": 2, "search.batch": 4}
SETTINGS |= {"search.crop": 16, "search.gradient_clip": None}
#: A rate with which the loss is no number within an epoch.
DIVERGING = {"search.weight_lr": 1e30}
FOUND = ("psnr", "ssim", "genotype", "margins", SCORE)


def run_with_fault(config: dict[str, Any], study: StudyConfig, data: TrialData) -> None:
    """A trial in whose worker something is wrong from the start, if that is its fault."""
    if config["fault"] == "memory":
        forward = SuperNet.forward

        def tight(self: SuperNet, images: torch.Tensor) -> torch.Tensor:
            if self.training and len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
            return forward(self, images)

        SuperNet.forward = tight  # type: ignore[method-assign]
    changed = DIVERGING if config["fault"] == "diverges" else {}
    run_trial({"seed": config["seed"]} | changed, study, data)


class Saboteur(ProgressLines):
    """Lets checkpoints be damaged and kills the worker when the third is registered; notes all reports."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.reports: dict[str, list[dict[str, Any]]] = {}
        self.hit: set[str] = set()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        super().on_trial_result(iteration, trials, trial, result, **info)
        self.reports.setdefault(trial.config["fault"], []).append(result)

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **info: Any) -> None:
        fault = trial.config["fault"]
        damaged = {"damaged": 1, "all damaged": 2}.get(fault, 0)
        if not damaged or fault in self.hit or self.reports[fault][-1]["epoch"] < 3:
            return
        self.hit.add(fault)
        for folder in sorted(Path(checkpoint.path).parent.glob("checkpoint_*"))[-damaged:]:
            whole = (folder / "state.pt").read_bytes()
            (folder / "state.pt").write_bytes(whole[: len(whole) // 2])
        os.kill(self.reports[fault][-1]["pid"], signal.SIGKILL)


@pytest.fixture(scope="module")
def data(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> TrialData:
    """Parts of a photograph."""
    root = tmp_path_factory.mktemp("images")
    (root / "in").mkdir()
    photograph = skimage.data.camera()
    for index in range(5):
        part = np.ascontiguousarray(photograph[64 * index : 64 * index + 48, 200:248])
        Image.fromarray(part).save(root / "in" / f"{index}.png")
    folder = prepare(Data(source=str(root / "in"), form="images", patch=24), root / "out")
    ids = Manifest.load(folder).ids("train")
    return TrialData(
        open_patches(folder, ids[1:2], 2**20), open_patches(folder, ids[2:], 2**20), load_images(folder, ids[:1])
    )


class Outcomes:
    """What became of one trial for each fault."""

    def __init__(self, faults: list[str], data: TrialData, place: Path) -> None:
        self.saboteur = Saboteur("search", len(faults), SCORE)
        space = {"seed": 3, "fault": tune.grid_search(faults)}
        trainable = tune.with_parameters(run_with_fault, study=with_values(StudyConfig(), SETTINGS), data=data)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            run = find_run(str(place / "run"))
            resources = {"cpu": 1.0, "gpu": 0.0}
            results = fit(trainable, run, resources, self.saboteur, max_failures=3, param_space=space)
        self.results = {result.config["fault"]: result for result in results if result.config}
        self.lines = said.getvalue().splitlines()

    def last(self, fault: str) -> dict[str, Any]:
        return self.results[fault].metrics or {}

    def epochs(self, fault: str) -> list[int]:
        return [report["epoch"] for report in self.saboteur.reports[fault]]

    def said(self, fault: str) -> str:
        started = next(line for line in self.lines if f"starts: seed=3, fault={fault}" in line)
        number = started.partition("]")[2].split()[0]
        return "\n".join(line for line in self.lines if f" {number} " in line)


@pytest.fixture(scope="module")
def outcomes(data: TrialData, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    faults = ["none", "diverges", "memory", "damaged", "all damaged"]
    return Outcomes(faults, data, tmp_path_factory.mktemp("faults"))


def test_no_trial_is_lost_or_counted_twice(outcomes: Outcomes) -> None:
    assert len(outcomes.results) == 5
    assert all(result.error is None for result in outcomes.results.values())
    assert outcomes.epochs("none") == [1, 2, 3, 4, 5]
    assert [report["finished"] for report in outcomes.saboteur.reports["none"]] == [False] * 4 + [True]


def test_a_diverged_trial_says_so_and_is_not_started_again(outcomes: Outcomes) -> None:
    (report,) = outcomes.saboteur.reports["diverges"]
    assert math.isnan(report[SCORE]) and not report["finished"]
    assert "the loss became nan (weights)" in report["error"] and "search.weight_lr" in report["error"]
    assert f"failed: {report['error']}" in outcomes.said("diverges")
    assert "stopped early" not in outcomes.said("diverges")


def test_a_trial_that_runs_out_of_memory_goes_on_in_parts_and_says_so(outcomes: Outcomes) -> None:
    reports = outcomes.saboteur.reports["memory"]
    assert outcomes.epochs("memory") == [1, 2, 3, 4, 5] and reports[-1]["finished"]
    assert {report["micro_batch"] for report in reports} == {2}
    assert outcomes.said("memory").count("4 images do not fit into memory: each batch of them goes in parts of 2") == 1
    assert all("micro_batch" not in report for report in outcomes.saboteur.reports["none"])


HALF = "checkpoint_000002 cannot be read (is truncated, damaged, or no file of irnas_ray)"


@pytest.mark.parametrize(
    ("fault", "epochs", "said"),
    [
        ("damaged", [1, 2, 3, 3, 4, 5], f"{HALF}; goes on from checkpoint_000001 instead"),
        ("all damaged", [1, 2, 3, 1, 2, 3, 4, 5], "no other checkpoint is left, begins anew"),
    ],
)
def test_damaged_checkpoints_cost_what_they_held(outcomes: Outcomes, fault: str, epochs: list[int], said: str) -> None:
    assert outcomes.epochs(fault) == epochs
    assert {name: outcomes.last(fault)[name] for name in FOUND} == {name: outcomes.last("none")[name] for name in FOUND}
    assert outcomes.said(fault).count(said) == 1
