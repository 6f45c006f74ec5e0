"""Nothing is lost: workers, drivers and nodes are killed for real, and the numbers are those of a calm run."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from head_node import HeadNode
from study_cases import ROOT, TINY, command, environment, search, wait_for

pytestmark = pytest.mark.whole

#: Two trials one after the other, so that one has finished while the other runs; a final of several checkpoints.
KILLED = "tune.trials=2 cluster.max_concurrent=1 search.epochs=6 search.steps_per_epoch=6 final.count=1 study=s".split()
KILLED += ["final.steps=16"]
#: What every disturbance must leave as it is.
SAME = ("state", "config", "psnr", "ssim", "score", "genotype", "margins")


@pytest.fixture(scope="module")
def undisturbed(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of a run that nothing disturbs."""
    return search(tmp_path_factory.mktemp("calm"), *KILLED)


def facts(trial: dict[str, Any]) -> dict[str, Any]:
    return {key: trial[key] for key in SAME}


def by_seed(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The trials in the order of their seeds; Tune takes up those of a continued run in another one."""
    return sorted(summary["trials"], key=lambda trial: trial["config"]["seed"])


def assert_same(summary: dict[str, Any], undisturbed: dict[str, Any], results: Path) -> None:
    """No trial lost, none counted twice, and every number as if nothing had happened."""
    assert [facts(trial) for trial in by_seed(summary)] == [facts(trial) for trial in by_seed(undisturbed)]
    assert [final["psnr"] for final in summary["finals"]] == [final["psnr"] for final in undisturbed["finals"]]
    assert states(results) == ["COMPLETE", "COMPLETE"]


def states(results: Path) -> list[str]:
    """The states of the Optuna study's trials."""
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{results / 's' / 'study.db'}")
    return [trial.state.name for trial in study.trials]


def trial_worker() -> int:
    """Process id of the worker of this test process's own Ray that runs a trial."""
    own = f"RAY_TMPDIR={os.environ['RAY_TMPDIR']}\0".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_text()
            if title.startswith(("ray::run_trial", "ray::ImplicitFunc")) and own in (process / "environ").read_bytes():
                return int(process.name)
        except OSError:
            continue
    raise AssertionError("no worker runs a trial")


def checkpointed(results: Path, run: str) -> set[Path]:
    """Folders of the trials of a run that have saved at least two checkpoints."""
    return {path.parent for path in results.glob(f"s/trials/{run}/*/checkpoint_00000[1-9]")}


def test_a_killed_worker(tmp_path: Path, undisturbed: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Tune starts the trial again from its checkpoint."""
    killed: list[int] = []

    def kill() -> None:
        wait_for(lambda: checkpointed(tmp_path, "round-1"))
        killed.append(trial_worker())
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    summary = search(tmp_path, *KILLED)
    killer.join()
    assert killed and "started again from its last checkpoint" in capsys.readouterr().out
    assert_same(summary, undisturbed, tmp_path)


@pytest.fixture(scope="module")
def killed(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a study whose driver was killed in the middle of the second trial, moved to another folder since."""
    results = tmp_path_factory.mktemp("killed")
    with open(results / "log", "w") as log:
        arguments = command("search", *TINY, f"results={results}", *KILLED)
        run = subprocess.Popen(arguments, cwd=results, env=environment(), stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: len(checkpointed(results, "round-1")) == 2, run)
    finally:
        run.kill()
        run.wait()
    return results.rename(results.with_name("moved"))


def test_a_killed_driver(tmp_path: Path, killed: Path, undisturbed: dict[str, Any]) -> None:
    """resume=true goes on in the middle of the trial, also where the folder was moved and copied."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    before = sorted(killed.rglob("*"))
    # damaged or not, Tune's own description of the run is not needed
    (tmp_path / "s" / "trials" / "round-1" / "tuner.pkl").write_bytes(b"")
    assert_same(search(tmp_path, *KILLED, "resume=true"), undisturbed, tmp_path)
    assert sorted(killed.rglob("*")) == before


def test_a_driver_killed_while_it_wrote(
    tmp_path: Path, killed: Path, undisturbed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where Tune cannot continue, what has ended is kept, and all else goes on from its last checkpoint."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    for record in (tmp_path / "s" / "trials" / "round-1").glob("experiment_state-*.json"):
        record.write_bytes(record.read_bytes()[:1000])
    summary = search(tmp_path, *KILLED, "resume=true")
    said = capsys.readouterr().out
    assert "1 of 2 trials had ended and are kept, the others go on from what they had saved" in said
    assert re.search(r"goes on from checkpoint_00000\d of the trial that it replaces", said)
    (reports,) = (tmp_path / "s" / "trials" / "round-1-again-2").glob("*/result.json")
    assert json.loads(reports.read_text().splitlines()[0])["epoch"] > 2
    assert_same(summary, undisturbed, tmp_path)


#: A driver that is killed when it comes to a function of a module.
DYING = """
import importlib, os, signal, sys
module, name, *words = sys.argv[1:]
setattr(importlib.import_module(module), name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
from irnas_ray.__main__ import main
main(words)
"""


def test_a_driver_killed_in_finals_evaluation_and_report(
    tmp_path: Path, killed: Path, undisturbed: dict[str, Any]
) -> None:
    """Killed four times on its way, in the search, too, a study comes to the same end."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    words = [*TINY, *KILLED, f"results={tmp_path}", "resume=true"]
    with open(tmp_path / "log", "w") as log:
        run = subprocess.Popen(command("search", *words), env=environment(), stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: checkpointed(tmp_path, "finals-*"), run)
    finally:
        run.kill()
        run.wait()
    for module, name in (("irnas_ray.study.study", "summarise"), ("irnas_ray.results.report", "write_report")):
        arguments = [sys.executable, "-c", DYING, module, name, "search", *words]
        run_again = subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=600)
        assert run_again.returncode == -signal.SIGKILL, run_again.stderr
        (final,) = (tmp_path / "s" / "finals").glob("*/metrics.json")
        reports = final.stat().st_mtime_ns
    assert not (tmp_path / "s" / "report.html").exists()
    assert_same(search(tmp_path, *KILLED, "resume=true"), undisturbed, tmp_path)
    assert final.stat().st_mtime_ns == reports and (tmp_path / "s" / "report.html").exists()


def test_a_storage_that_nodes_do_not_see_and_killed_nodes(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    """The node of a trial and then that of a final training die; each goes on from its checkpoint on another node."""
    with HeadNode(cpus=0) as head:
        head.add_node(cpus=1)
        own = {**environment(), **head.environment(), "RAY_ADDRESS": head.gcs, "PYTHONPATH": str(ROOT)}
        # this storage is a process's own memory: no other node sees what is written there
        hidden = [f"results={tmp_path / 'hidden'}", "cluster.storage=fsspec+memory://trials"]
        head.wait_for_nodes(2)
        refused = subprocess.run(
            command("search", *TINY, *KILLED, *hidden),
            cwd=tmp_path,
            env=own,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert refused.returncode == 1
        assert "fsspec+memory://trials/s is not visible on 1 of 2 nodes" in refused.stderr, refused.stderr
        with open(tmp_path / "log", "w") as log:
            arguments = command("search", *TINY, f"results={tmp_path}", *KILLED)
            run = subprocess.Popen(arguments, cwd=tmp_path, env=own, stdout=log, stderr=subprocess.STDOUT)
        try:
            for stage in ("round-1", "finals-*"):
                wait_for(lambda stage=stage: head.restart_nodes() or checkpointed(tmp_path, stage), run)  # type: ignore[misc]
                head.remove_node()
                head.add_node(cpus=1)
            wait_for(lambda: head.restart_nodes() or run.poll() is not None, seconds=600)
            assert run.returncode == 0, (tmp_path / "log").read_text()
        finally:
            run.kill()
            run.wait()
    text = (tmp_path / "log").read_text()
    assert text.count("started again from its last checkpoint") >= 2, text
    assert_same(json.loads((tmp_path / "s" / "summary.json").read_text()), undisturbed, tmp_path)
