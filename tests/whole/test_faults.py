"""Trials that meet with faults: each ends as it would have ended undisturbed, or says why it cannot; none is lost."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fault_cases
import pytest
from fault_cases import FOUND, Outcomes, make_data
from ray import cloudpickle, tune

from irnas_ray.hpo.objectives import SCORE
from irnas_ray.networks.checkpoints import load_network
from irnas_ray.progress.callback import StageProgress
from irnas_ray.study.final_training import FinalData
from irnas_ray.study.trial import TrialData
from irnas_ray.tune.runner import find_run, fit

pytestmark = pytest.mark.whole

# the tests' folder is on no worker's path
cloudpickle.register_pickle_by_value(fault_cases)


@pytest.fixture(scope="module")
def trial_data(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> TrialData:
    return make_data(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def outcomes(trial_data: TrialData, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    faults = ["none", "diverges", "diverges later", "memory", "too large", "final too large", "damaged", "all damaged"]
    return Outcomes(faults, trial_data, tmp_path_factory.mktemp("faults"))


def found(outcomes: Outcomes, fault: str) -> dict[str, Any]:
    """What a trial came to."""
    return {name: outcomes.last(fault)[name] for name in FOUND}


def test_no_trial_is_lost_or_counted_twice(outcomes: Outcomes) -> None:
    assert len(outcomes.results) == 8
    assert all(result.error is None for result in outcomes.results.values())
    assert outcomes.epochs("none") == [1, 2, 3, 4, 5]
    assert [report["finished"] for report in outcomes.saboteur.reports["none"]] == [False] * 4 + [True]


def test_a_diverged_trial_says_so_and_is_not_started_again(outcomes: Outcomes) -> None:
    (report,) = outcomes.saboteur.reports["diverges"]
    assert math.isnan(report[SCORE]) and not report["finished"]
    assert "the loss became nan (weights)" in report["error"] and "search.weight_lr" in report["error"]
    assert f"failed: {report['error']}" in outcomes.said("diverges")
    assert "stopped early" not in outcomes.said("diverges")


def test_a_trial_that_diverges_after_a_restart_says_in_which_epoch(outcomes: Outcomes) -> None:
    assert outcomes.epochs("diverges later") == [1, 2, 3, 4]
    last = outcomes.last("diverges later")
    assert math.isnan(last[SCORE]) and "the loss became nan (weights)" in last["error"]


def test_a_trial_that_runs_out_of_memory_goes_on_in_parts_and_says_so(outcomes: Outcomes) -> None:
    reports = outcomes.saboteur.reports["memory"]
    assert outcomes.epochs("memory") == [1, 2, 3, 4, 5] and reports[-1]["finished"]
    assert {report["micro_batch"] for report in reports} == {2}
    assert outcomes.said("memory").count("4 images do not fit into memory: each batch of them goes in parts of 2") == 1
    assert all("micro_batch" not in report for report in outcomes.saboteur.reports["none"])


@pytest.mark.parametrize(("fault", "score"), [("too large", SCORE), ("final too large", "psnr")])
def test_what_no_memory_holds_is_not_started_again(outcomes: Outcomes, fault: str, score: str) -> None:
    (report,) = outcomes.saboteur.reports[fault]
    assert math.isnan(report[score]) and not report["finished"]
    assert (
        report["error"].startswith("one image does not fit into memory; ") and "CUDA out of memory" in report["error"]
    )
    assert outcomes.said(fault).count("failed: one image does not fit") == 1
    assert "started again" not in outcomes.said(fault)


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
    assert found(outcomes, fault) == found(outcomes, "none")
    assert outcomes.said(fault).count(said) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    with mounted(tmp_path / "disk", "4m") as place:
        yield place


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], stderr=subprocess.DEVNULL
    ).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_costs_a_trial_nothing_but_the_checkpoint(
    outcomes: Outcomes, trial_data: TrialData, small_disk: Path
) -> None:
    full = Outcomes(["full disk"], trial_data, small_disk, disk=small_disk)
    assert full.saboteur.hit == {"full disk"} and full.epochs("full disk") == [1, 2, 3, 4, 5]
    assert full.said("full disk").count("its checkpoint cannot be saved (No space left on device); goes on, and") == 1
    # the earlier ones stayed, nothing was left of the one that did not fit, and the next was saved again
    assert full.saboteur.left == ["checkpoint_000000", "checkpoint_000001"]
    assert full.results["full disk"].checkpoint is not None
    assert Path(full.results["full disk"].checkpoint.path).name == "checkpoint_000003"
    assert {name: full.last("full disk")[name] for name in FOUND} == {
        name: outcomes.last("none")[name] for name in FOUND
    }
    told = [line for line in full.lines if "where the trials stand cannot be saved" in line]
    assert len(told) <= 1 and all("No space left on device" in line for line in told)


def test_the_last_report_of_a_final_training_waits_for_space(trial_data: TrialData, small_disk: Path) -> None:
    data = FinalData(trial_data.train_w, trial_data.validation, trial_data.validation)
    full = Outcomes(["full disk"], data, small_disk, disk=small_disk)
    assert full.saboteur.hit == {"full disk"}
    assert "its results cannot be saved (No space left on device); waits up to 10 minutes" in full.said("full disk")
    assert [report["finished"] for report in full.saboteur.reports["full disk"]] == [False, False, True]
    checkpoint = full.results["full disk"].checkpoint
    assert checkpoint is not None
    with checkpoint.as_directory() as folder:
        network, notes = load_network(Path(folder) / "network.pt")
        assert json.loads((Path(folder) / "metrics.json").read_text())["psnr"] == notes["psnr"]


def count(config: dict[str, Any]) -> None:
    """Three reports, and the first so long that it fills a disk of a few hundred kilobytes."""
    for step in range(1, 4):
        tune.report({"step": step, "progress": f"{step}", "finished": step == 3, "text": "x" * config["length"]})


def test_a_full_disk_under_tune_itself_ends_in_one_line_and_the_run_can_go_on(ray_local: None, tmp_path: Path) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])

    def run(length: int) -> list[tune.Result]:
        progress = StageProgress("count", 1, "step")
        found = find_run(str(tmp_path / "run"))
        return fit(count, found, {"cpu": 0.5, "gpu": 0.0}, progress, max_failures=0, param_space={"length": length})

    # where Ray's Tune prepares what it writes to the storage
    prepared = Path(os.environ["RAY_TMPDIR"]).resolve() / "ray" / "session_latest" / "artifacts"
    with mounted(prepared, "256k"), pytest.raises(OSError, match="Tune cannot note where .*No space left") as caught:
        run(2**20)
    assert "continue with resume=true" in str(caught.value) and "\n" not in str(caught.value)
    (result,) = run(1)
    assert (result.metrics or {})["finished"]
