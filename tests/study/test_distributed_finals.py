"""Finals that several Ray workers train: the result of one process, whatever happens to a worker in between."""

import json
from pathlib import Path
from typing import Any

import distributed_finals_cases
import numpy as np
import pytest
import ray.cloudpickle
import skimage.data
import torch
from distributed_finals_cases import Precise, Unlucky
from PIL import Image

from irnas_ray.datasets.batches import State
from irnas_ray.datasets.builder import prepare
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.datasets.ray_data import open_patches
from irnas_ray.datasets.whole_images import load_images
from irnas_ray.genotypes.published import load_genotype
from irnas_ray.networks.checkpoints import load_state
from irnas_ray.results.folder import StudyFolder
from irnas_ray.settings.study import Data, StudyConfig, with_values
from irnas_ray.study.candidates import Candidate
from irnas_ray.study.checks import check_settings
from irnas_ray.study.distributed_finals import check_workers, concurrent_finals, run_name
from irnas_ray.study.final_training import FinalData, train_final
from irnas_ray.study.finals import run_finals
from irnas_ray.tune.reports import Reports, Write

STEPS, VALIDATE_EVERY, KILLED_IN = 9, 2, 6
SETTINGS: dict[str, Any] = {"final.width": 2, "final.stem_channels": 4, "final.aspp_channels": 4}
SETTINGS |= {"final.low_level_channels": 2, "final.batch": 4, "final.crop": 20, "final.rotate": True}
SETTINGS |= {"final.steps": STEPS, "final.validate_every": VALIDATE_EVERY, "final.ema_decay": 0.5}
SETTINGS |= {"final.protocol": "images-gray", "architecture.residual": True, "final.lr": 3e-3, "study": "several"}
ONE_CPU = {"cpu": 1.0, "gpu": 0.0}


class KeptFiles(Reports):
    """Keeps the files of the last report."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def report(self, metrics: dict[str, Any], state: State | None = None, write: Write | None = None) -> None:
        if write is not None:
            write(self.folder)


@pytest.fixture(scope="module")
def data(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> FinalData:
    """Parts of a photograph."""
    root = tmp_path_factory.mktemp("images")
    (root / "in").mkdir()
    photograph = skimage.data.camera()
    for index in range(5):
        part = np.ascontiguousarray(photograph[64 * index : 64 * index + 48, 200:248])
        Image.fromarray(part).save(root / "in" / f"{index}.png")
    folder = prepare(Data(source=str(root / "in"), form="images", patch=24), root / "out")
    manifest = Manifest.load(folder)
    ids = manifest.ids("train")
    train = open_patches(folder, ids[1:], 2**20)
    return FinalData(train, load_images(folder, ids[:1]), load_images(folder, manifest.ids("test")))


@pytest.mark.whole
def test_two_workers_come_to_the_result_of_one_though_one_errs_and_one_is_killed(
    tmp_path: Path, data: FinalData
) -> None:
    study = with_values(StudyConfig(results=str(tmp_path / "first")), SETTINGS)
    candidate = Precise(1, "final 1", "test", load_genotype("irnas_denoise"))
    alone = tmp_path / "alone"
    alone.mkdir()
    train_final(candidate, study, data, None, torch.device("cpu"), None, KeptFiles(alone))

    # the tests' folder is on no worker's path
    ray.cloudpickle.register_pickle_by_value(distributed_finals_cases)
    notes = tmp_path / "notes"
    notes.mkdir()
    unlucky = Unlucky(1, "final 1", "test", candidate.genotype, notes=str(notes), killed_in=KILLED_IN)
    folder = StudyFolder(study)
    (metrics,) = run_finals(with_values(study, {"final.workers": 2}), folder, [unlucky], data, ONE_CPU)

    # a worker with another genotype stops all before they build a network
    lines = (notes / "lines").read_text().split("\n")
    assert lines[0] == "confused" and sorted(lines[1:3]) == ["network 0", "network 1"]
    # the step in which a worker was killed is begun again, with those since the checkpoint before
    assert lines.count("killed") == 1 and lines.count("network 1") == 2
    repeated = lines.count("step") - STEPS
    assert 1 <= repeated <= VALIDATE_EVERY, lines

    expected, found = (json.loads((place / "metrics.json").read_text()) for place in (alone, folder.final(1)))
    assert metrics == found
    assert (found["steps"], found["best_step"]) == (STEPS, expected["best_step"])
    assert (expected["workers"], found["workers"]) == (1, 2)
    for score in ("psnr", "ssim", "validation_psnr"):
        assert found[score] == pytest.approx(expected[score], abs=1e-5)
    for file in ("network.pt", "last.pt"):
        one, two = (load_state(place / file)["weights"] for place in (alone, folder.final(1)))
        assert one.keys() == two.keys()
        for name, value in one.items():
            assert value.dtype in (torch.float64, torch.int64)
            torch.testing.assert_close(
                two[name], value, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
            )
    kept = {path.name for path in folder.final(1).iterdir()}
    assert kept == {path.name for path in alone.iterdir()} and "state.pt" not in kept

    # what is finished stays so, also where the study was moved
    (tmp_path / "first").rename(tmp_path / "second")
    moved = with_values(study, {"final.workers": 2, "results": str(tmp_path / "second")})
    assert run_finals(moved, StudyFolder(moved), [unlucky], data, ONE_CPU) == [metrics]
    assert lines == (notes / "lines").read_text().split("\n")


def test_finals_side_by_side_never_wait_for_each_others_workers(ray_local: None) -> None:
    study = with_values(StudyConfig(), SETTINGS | {"final.workers": 2})
    assert concurrent_finals(study, ONE_CPU) == 1
    check_workers(study, ONE_CPU)
    four = with_values(study, {"final.workers": 4})
    with pytest.raises(ValueError, match="final.workers: 4 workers do not fit, the cluster has room for 2 of 1 CPUs"):
        check_workers(four, ONE_CPU)
    check_workers(with_values(four, {"final.workers": 1}), ONE_CPU)


def test_a_training_has_one_run_whoever_does_it() -> None:
    """So that Ray Train continues it after any stop, and nothing else."""
    study = with_values(StudyConfig(), SETTINGS | {"final.workers": 2})
    genotype = load_genotype("irnas_denoise")
    first = Candidate(1, "final 1", "test", genotype)
    name = run_name(study, first)
    assert name == run_name(with_values(study, {"final.workers": 4}), Candidate(2, "final 2", "other", genotype))
    others = [Candidate(1, "final 1", "test", load_genotype("irnas_derain"))]
    others += [Candidate(1, "final 1", "test", genotype, settings={"final.sigma": 30})]
    names = {name, *(run_name(study, other) for other in others), run_name(with_values(study, {"final.lr": 1}), first)}
    assert len(names) == 4


def test_workers_divide_the_batch() -> None:
    with pytest.raises(
        ValueError, match="final.workers: a batch of 12 cannot be .* 5 workers; possible: 1, 2, 3, 4, 6, 12"
    ):
        check_settings(with_values(StudyConfig(), {"final.workers": 5}))
