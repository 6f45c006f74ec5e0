"""Results from before the package's modules moved load, score, restore and go on: ``tests/data/first_layout``."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line_cases import ROOT, compose
from PIL import Image

from irnas_ray.cli.command_line import compose_settings
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.datasets.ray_data import open_patches
from irnas_ray.datasets.whole_images import load_images
from irnas_ray.evaluation.commands import score_methods
from irnas_ray.evaluation.restored_files import restore_images
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.images.files import read_image
from irnas_ray.results.report import analyze, write_report
from irnas_ray.results.study_results import read_study
from irnas_ray.settings.commands import AnalyzeConfig, EvaluateConfig, RestoreConfig
from irnas_ray.settings.study import RetrainConfig
from irnas_ray.study.retraining import run_retraining
from irnas_ray.study.study import prepare_data, run_study
from irnas_ray.tune import moved_modules
from irnas_ray.tune.run_storage import why_over
from irnas_ray.tune.runner import find_run

DATA = ROOT / "tests" / "data" / "first_layout"
SETTINGS = (
    "data=images data.source=prepared data.patch=48 data.validation_fraction=0.2 architecture.layers=1"
    " architecture.nodes=2 architecture.stem_channels=4 architecture.operators=[conv,sep,skip,none] search.batch=2"
    " search.crop=16 search.epochs=6 search.warmup_epochs=1 search.steps_per_epoch=4 search.validate_every=1"
    " search.proxy_steps=4 final.width=4 final.stem_channels=4 final.aspp_channels=4 final.low_level_channels=4"
    " final.steps=20 final.batch=2 final.crop=16 final.validate_every=10 final.count=1 tune.trials=2"
    " search_spaces=irnas_small"
    " domains.architecture.width=[2,4] domains.architecture.nodes=[1,2] results=. resume=true"
).split()


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old results, in which the user stands."""
    shutil.copytree(DATA, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def resume(study: str, *arguments: str) -> dict[str, Any]:
    """The summary of a study that is continued; its records bear no marks yet."""
    return json.loads(run_study(compose(*SETTINGS, f"study={study}", "trust=true", *arguments)).read_text())


def test_a_genotype_loads() -> None:
    records = json.loads((DATA / "finished" / "trials" / "records.json").read_text())
    for record in records:
        path = DATA / "finished" / "genotypes" / f"{record['id']}.json"
        assert Genotype.load(path).digest == record["digest"]
        assert json.loads(Genotype.load(path).to_json()) == json.loads(path.read_text())


def test_a_network_scores_and_restores_as_before(old: Path) -> None:
    before = json.loads((DATA / "finished" / "finals" / "1" / "metrics.json").read_text())
    arguments = ["network=finished/finals/1/network.pt", "data.source=prepared", "output=scored", "baselines=false"]
    score_methods(compose_settings("evaluate", EvaluateConfig, arguments))
    (now,) = json.loads(Path("scored/scores.json").read_text())["evaluations"]
    assert (now["protocol"], now["sigma"], now["images"]) == ("images-gray", 50.0, 1)
    # another CPU may sum up in another order
    assert now["psnr"] == pytest.approx(before["psnr"], abs=1e-4)
    assert now["ssim"] == pytest.approx(before["ssim"], abs=1e-5)
    (picture,) = Path("scored/images").rglob("gravel.png")
    pixels = [
        np.asarray(Image.open(path), dtype=float) for path in (picture, "finished/finals/1/images/test/gravel.png")
    ]
    assert abs(pixels[0] - pixels[1]).max() <= 1 and (pixels[0] != pixels[1]).mean() < 1e-3


def test_a_network_restores_a_file(old: Path) -> None:
    arguments = ["network=finished/finals/1/network.pt", "input=photos/test/gravel.png", "output=restored"]
    restore_images(compose_settings("restore", RestoreConfig, arguments))
    restored, clean = (
        read_image(Path("restored/gravel.png"), "gray"),
        read_image(Path("photos/test/gravel.png"), "gray"),
    )
    assert restored.shape == clean.shape and restored.std() > 1


def test_a_prepared_data_set_is_used_as_it_is(old: Path, ray_local: None) -> None:
    before = contents(old / "prepared")
    config = compose(*SETTINGS, "study=finished")
    assert prepare_data(config) == old / "prepared"
    manifest = Manifest.load("prepared")
    (test,) = load_images("prepared", manifest.ids("test"))
    assert (test.clean[0] == read_image(Path("photos/test/gravel.png"), "gray")[..., 0]).all()
    clean, degraded = next(open_patches("prepared", manifest.ids("train"), 2**20).batches(3, 40, 0, "cpu"))
    assert clean.shape == (3, 1, 40, 40) and degraded is None
    assert contents(old / "prepared") == before


def test_a_study_is_read_and_reported(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = read_study(Path("finished"))
    assert results.problem is None and len(results.configurations) == 2
    assert results.best() == results.records[0] and results.records[0]["id"] == "3924e1fe"
    analyze(compose_settings("analyze", AnalyzeConfig, ["study=finished", "output=pictures"]))
    assert "14.89" in capsys.readouterr().out and {path.name for path in Path("pictures").iterdir()} >= {"genotype.png"}
    assert "3924e1fe" in write_report(Path("finished")).read_text()
    assert [record["state"] for record in read_study(Path("interrupted")).records] == ["RUNNING", "RUNNING"]


RUNS = ["finished/trials/finals-295cd5e6", "interrupted/trials/round-1"]


@pytest.mark.parametrize("run", RUNS)
def test_a_record_of_tune_that_names_former_modules_is_read(run: str) -> None:
    assert b"irnas_ray.tuning".hex() in "".join(path.read_text("latin1") for path in (DATA / run).glob("experiment*"))
    assert why_over(str(DATA / run)) is None
    assert not moved_modules.MOVED.keys() & sys.modules.keys()


def test_of_a_record_that_names_what_is_unknown_one_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(moved_modules, "MOVED", {})
    place = DATA / RUNS[1]
    run = find_run(str(place))
    assert capsys.readouterr().out == (
        f"{place}: the record of this run was written by another release of irnas_ray or Ray (No module named "
        "'irnas_ray.tuning'); 0 of 2 trials had ended and are kept, the others go on from what they had saved\n"
    )
    assert not run.begun and sorted(Path(folder).name for _, folder in run.left) == ["2f9c3023", "c3a1fff5"]
    assert [values["seed"] for values, _ in run.left] == [0, 1]


def epochs(trial: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (trial / "result.json").read_text().splitlines()]


@pytest.mark.whole
def test_a_finished_study_gets_one_more_trial(old: Path, ray_local: None) -> None:
    summary = old / "finished" / "summary.json"
    before = json.loads(summary.read_text())
    before["seconds"] = dict.fromkeys(before["seconds"], 10_000.0)
    summary.write_text(json.dumps(before))
    after = resume("finished", "tune.trials=3")
    assert [trial["id"] for trial in after["trials"]][:2] == [trial["id"] for trial in before["trials"]]
    assert after["trials"][:2] == before["trials"] and len(after["trials"]) == 3
    assert (after["trials"][2]["round"], after["trials"][2]["state"]) == (2, "COMPLETE")
    assert sorted(path.name for path in Path("finished/trials").glob("round-*")) == ["round-2"]
    assert len(read_study(Path("finished")).configurations) == 3 and len(after["finals"]) == 1
    assert all(after["seconds"][stage] > 10_000 for stage in ("prepare", "start", "search", "finals"))


@pytest.mark.whole
def test_a_finished_study_has_nothing_left_to_do(old: Path, ray_local: None) -> None:
    """Its final training is a run of Tune that is over: it is opened, and nothing is trained."""
    before = contents(old / "finished" / "finals")
    after = resume("finished")
    assert after["finals"] == json.loads((DATA / "finished" / "summary.json").read_text())["finals"]
    assert contents(old / "finished" / "finals") == before


@pytest.mark.whole
def test_an_interrupted_study_goes_on(old: Path, ray_local: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Its trials begin after the epochs that they had saved; of unreadable records: tune/test_runner.py."""
    after = resume("interrupted", "search.steps_per_epoch=100")
    assert "written by another release" not in capsys.readouterr().out
    assert [trial["state"] for trial in after["trials"]] == ["COMPLETE", "COMPLETE"] and len(after["finals"]) == 1
    for trial in after["trials"]:
        told = epochs(DATA / RUNS[1] / trial["id"])
        # both had saved an epoch more than Tune was told of
        rest = [*range({0: 3, 1: 5}[trial["config"]["seed"]], 8)]
        assert epochs(Path(RUNS[1]) / trial["id"]) == told + rest


@pytest.mark.whole
def test_a_genotype_is_trained_again(old: Path, ray_local: None) -> None:
    arguments = [x for x in SETTINGS if x.startswith(("data", "final")) and not x.startswith("final.count")]
    arguments += [
        "genotype=finished/genotypes/3924e1fe.json",
        "results=.",
        "study=again",
        "architecture.stem_channels=4",
        "search_spaces=irnas_small",
    ]
    config = compose_settings("retrain", RetrainConfig, arguments)
    (final,) = json.loads(run_retraining(config).read_text())["finals"]
    assert (
        final["parameters"]
        == json.loads((DATA / "finished" / "finals" / "1" / "metrics.json").read_text())["parameters"]
    )
