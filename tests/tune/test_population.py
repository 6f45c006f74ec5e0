"""Trials of a population that copy each other as Ray really does it, whatever has become of what they copy."""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from pyarrow.fs import LocalFileSystem
from ray import cloudpickle, tune

from irnas_ray.hpo.ledger import Ledger
from irnas_ray.hpo.plan import StudyPlan, claim_study
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.storage import open_storage
from irnas_ray.progress.callback import StageProgress
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.tune import population as copying
from irnas_ray.tune.perturbation import RATES, kept_checkpoints
from irnas_ray.tune.population import RatePopulation, own_copy
from irnas_ray.tune.runner import find_run, fit
from irnas_ray.tune.searcher import StudySearch

EPOCHS, TURN = 10, 2
DOMAINS = {RATES[0]: FloatDistribution(1e-3, 1e-1, log=True)}
# workers cannot import this file
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def wait_for(condition: Callable[[], object]) -> None:
    """Return as soon as something is true; AssertionError if it is not within minutes."""
    deadline = time.monotonic() + 400
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.05)


def report(epoch: int, seed: int, lives: int) -> None:
    """Report an epoch of a trial that is the worse the larger its seed, with a checkpoint that says whose it is."""
    metrics = {"epoch": epoch, "score": 30.0 - seed, "progress": str(epoch), "finished": epoch > EPOCHS, "lives": lives}
    if metrics["finished"]:
        tune.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "state.json").write_text(json.dumps([epoch, seed]))
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def leave_behind(config: dict[str, Any], notes: Path) -> None:
    """Seed 0 waits after its second turn until seed 1 is to copy it, and then goes on until its checkpoint is gone.

    At their first turns nobody is copied: seed 0 comes first, when there is nobody to compare it with.
    """
    seed, first, lives = config["seed"], 1, 1
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            epoch, whose = json.loads((Path(folder) / "state.json").read_text())
        first, lives = epoch + 1, 2
        with open(notes / "copied", "a") as file:
            file.write(f"{epoch} of {whose}\n")
    for epoch in range(first, EPOCHS + 2):
        (notes / f"{seed} in {epoch}").touch()
        if seed == 1 and lives == 1:
            wait_for(lambda epoch=epoch: (notes / f"0 in {epoch + 1}").exists())  # type: ignore[misc]
        if seed == 0 and epoch == TURN + 1:
            wait_for(lambda: (notes / f"1 in {TURN + 1}").exists())
        if seed == 0 and epoch == 2 * TURN + 1:
            wait_for(lambda: list(notes.glob("round-1/*/copied_*/state.json")))
        if seed == 0 and epoch > EPOCHS:
            wait_for(lambda: (notes / "copied").exists())
        report(epoch, seed, lives)


def run_population(folder: Path) -> list[tune.Result]:
    config = with_values(
        StudyConfig(), {"tune.perturb_every": TURN, "search.epochs": EPOCHS, "search.validate_every": 1}
    )
    config.domains = DOMAINS
    plan = StudyPlan("population", open_storage(None, folder), SearchSpace(DOMAINS), "random")
    claim_study(plan, folder, "scripted")
    return fit(
        tune.with_parameters(leave_behind, notes=folder),
        find_run(str(folder / "round-1")),
        {"cpu": 1.0},
        StageProgress("search", 2, "score"),
        max_failures=0,
        search=StudySearch(Ledger(plan, total=2)),
        scheduler=RatePopulation(config, "score", 2),
        concurrent=2,
        checkpoints=kept_checkpoints(config),
    )


@pytest.mark.whole
def test_a_copy_outlives_what_was_copied(ray_local: None, tmp_path: Path) -> None:
    """The better trial has removed the checkpoint that was copied before the copy is started."""
    results = run_population(tmp_path)
    assert [result.error for result in results] == [None, None]
    better, worse = sorted(results, key=lambda result: result.config["seed"])
    assert [result.metrics["lives"] for result in (better, worse)] == [1, 2]
    assert (tmp_path / "copied").read_text().startswith(f"{2 * TURN} of 0\n")
    assert worse.metrics["epoch"] == EPOCHS + 1
    assert not (Path(better.path) / f"checkpoint_{2 * TURN - 1:06d}").exists()
    assert 1 <= len(list(Path(worse.path).glob("copied_*"))) <= 2


@pytest.fixture
def theirs(tmp_path: Path) -> tune.Checkpoint:
    """Another trial's checkpoint."""
    folder = tmp_path / "theirs" / "checkpoint_000004"
    folder.mkdir(parents=True)
    (folder / "state.pt").write_text("4")
    return tune.Checkpoint(str(folder), LocalFileSystem())


def test_a_trial_keeps_its_last_two_copies(tmp_path: Path, theirs: tune.Checkpoint) -> None:
    own = tmp_path / "own"
    for number in range(12):
        (Path(theirs.path) / "state.pt").write_text(str(number))
        copy = own_copy(theirs, str(own))
        assert copy is not None and (Path(copy.path) / "state.pt").read_text() == str(number)
    assert sorted(path.name for path in own.iterdir()) == ["copied_000010", "copied_000011"]


def test_what_is_gone_is_not_copied(tmp_path: Path, theirs: tune.Checkpoint) -> None:
    shutil.rmtree(theirs.path)
    assert own_copy(theirs, str(tmp_path / "own")) is None
    assert not list((tmp_path / "own").glob("*"))


def test_half_a_copy_is_removed(tmp_path: Path, theirs: tune.Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a whole one of before stays."""
    own = tmp_path / "own"
    assert own_copy(theirs, str(own)) is not None

    def full(source: str, target: str, *_: Any) -> None:
        (Path(target) / "state.pt").write_text("half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(copying, "copy_files", full)
    assert own_copy(theirs, str(own)) is None
    assert [path.name for path in own.iterdir()] == ["copied_000000"]
