"""Small searches in which something goes wrong on purpose, and all that they report."""

import contextlib
import io
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from ray import tune
from torch import nn

from irnas_ray.datasets.builder import prepare
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.datasets.ray_data import open_patches
from irnas_ray.datasets.whole_images import load_images
from irnas_ray.genotypes.published import load_genotype
from irnas_ray.hpo.objectives import SCORE
from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.progress.callback import StageProgress
from irnas_ray.settings.study import Data, StudyConfig, with_values
from irnas_ray.study.candidates import Candidate
from irnas_ray.study.final_training import FinalData, run_final
from irnas_ray.study.trial import TrialData, run_trial
from irnas_ray.tune import reports as reporting
from irnas_ray.tune.runner import find_run, fit

EPOCHS = 4
SETTINGS: dict[str, Any] = {"architecture.layers": 2, "architecture.nodes": 2, "architecture.width": 2}
SETTINGS |= {"architecture.stem_channels": 4, "architecture.operators": ["conv", "skip", "none"]}
SETTINGS |= {"search.epochs": EPOCHS, "search.warmup_epochs": 1, "search.steps_per_epoch": 2, "search.batch": 4}
SETTINGS |= {"search.crop": 16, "search.gradient_clip": None}
SETTINGS |= {"final.width": 2, "final.stem_channels": 4, "final.aspp_channels": 4, "final.low_level_channels": 2}
SETTINGS |= {"final.batch": 4, "final.crop": 16, "final.steps": 4, "final.validate_every": 2}
SETTINGS |= {"final.protocol": "images-gray", "architecture.residual": True}
#: A rate with which the loss is no number within an epoch.
DIVERGING = {"search.weight_lr": 1e30}
#: Most images that fit into memory at a time.
ROOM = {"memory": 2, "too large": 0, "final too large": 0}
FOUND = ("psnr", "ssim", "genotype", "margins", SCORE)


def run_with_fault(config: dict[str, Any], study: StudyConfig, data: TrialData | FinalData) -> None:
    """A trial, or a final training, in whose worker something is wrong from the start, if that is its fault."""
    reporting.AGAIN = 0.2
    fault = config["fault"]
    if fault.startswith("final") and isinstance(data, TrialData):
        data = FinalData(data.train_w, data.validation, data.validation)
    diverges = fault == "diverges" or (fault == "diverges later" and tune.get_checkpoint() is not None)
    changed = DIVERGING if diverges else {}
    with pytest.MonkeyPatch.context() as patch:
        if fault in ROOM:
            for network in (SuperNet, DerivedNetwork):
                patch.setattr(network, "forward", tight(network.forward, ROOM[fault]))
        if isinstance(data, TrialData):
            run_trial({"seed": config["seed"]} | changed, study, data)
            return
        candidate = Candidate(1, "final 1", "test", load_genotype("irnas_denoise"))
        with tempfile.TemporaryDirectory() as board:
            run_final({"rank": 1}, study, [candidate], data, Path(board))


def tight(forward: Callable[..., torch.Tensor], most: int) -> Callable[..., torch.Tensor]:
    """A forward pass in a memory that holds so many images of a training step."""

    def fitting(self: nn.Module, images: torch.Tensor) -> torch.Tensor:
        if self.training and len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return forward(self, images)

    return fitting


class Saboteur(StageProgress):
    """Notes all reports; kills the workers of some trials, perhaps damages their checkpoints, and stops others."""

    def __init__(self, *arguments: Any, disk: Path | None = None) -> None:
        super().__init__(*arguments)
        self.filler = None if disk is None else disk / "filler"
        self.reports: dict[str, list[dict[str, Any]]] = {}
        self.hit: set[str] = set()
        #: The checkpoints that were there when one could not be saved.
        self.left: list[str] = []

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        super().on_trial_result(iteration, trials, trial, result, **info)
        fault = trial.config["fault"]
        self.reports.setdefault(fault, []).append(result)
        if self.filler is not None and "cannot be saved" in result.get("notice", ""):
            self.left = sorted(path.name for path in self.filler.parent.rglob("checkpoint_*"))
            self.filler.unlink(missing_ok=True)
        if fault == "stopped" and result["epoch"] == 2 and fault not in self.hit:
            self.hit.add(fault)
            os.kill(result["pid"], signal.SIGSTOP)

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **info: Any) -> None:
        fault = trial.config["fault"]
        if self.filler is not None and fault not in self.hit and self.reports[fault][-1]["fraction"] >= 0.4:
            self.hit.add(fault)
            fill(self.filler)
        damaged = {"diverges later": 0, "damaged": 1, "all damaged": 2}.get(fault)
        if damaged is None or fault in self.hit or self.reports[fault][-1]["epoch"] < 3:
            return
        self.hit.add(fault)
        for folder in sorted(Path(checkpoint.path).parent.glob("checkpoint_*"), reverse=True)[:damaged]:
            whole = (folder / "state.pt").read_bytes()
            (folder / "state.pt").write_bytes(whole[: len(whole) // 2])
        os.kill(self.reports[fault][-1]["pid"], signal.SIGKILL)


def make_data(root: Path) -> TrialData:
    """Parts of a photograph."""
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


def fill(file: Path) -> None:
    """Write a file until its disk is full."""
    with contextlib.suppress(OSError), open(file, "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


class Outcomes:
    """What became of one trial for each fault; on ``disk`` everything is written that they leave."""

    def __init__(
        self,
        faults: list[str],
        data: TrialData | FinalData,
        place: Path,
        hang_minutes: float | None = None,
        disk: Path | None = None,
    ) -> None:
        self.saboteur = Saboteur("search", len(faults), SCORE, disk=disk)
        study = with_values(StudyConfig(), SETTINGS | {"cluster.hang_minutes": hang_minutes})
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            results = fit(
                tune.with_parameters(run_with_fault, study=study, data=data),
                find_run(str((disk or place) / "run")),
                {"cpu": 1.0, "gpu": 0.0},
                self.saboteur,
                max_failures=3,
                param_space={"seed": 3, "fault": tune.grid_search(faults)},
                hang_minutes=hang_minutes,
            )
        self.results = {result.config["fault"]: result for result in results if result.config}
        self.lines = said.getvalue().splitlines()

    def last(self, fault: str) -> dict[str, Any]:
        """The last report of a trial."""
        return self.results[fault].metrics or {}

    def epochs(self, fault: str) -> list[int]:
        """The epochs of all its reports."""
        return [report["epoch"] for report in self.saboteur.reports[fault]]

    def said(self, fault: str) -> str:
        """What the user was told about it."""
        started = next(line for line in self.lines if f": starts with seed=3, fault={fault}" in line)
        who = started.partition("] ")[2].partition(":")[0]
        return "\n".join(line for line in self.lines if f"] {who}: " in line)
