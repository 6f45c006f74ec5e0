"""The real commands end to end on small budgets: everything is kept, resumed and told truthfully."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest

from irnas_ray.checkpoints import load_network
from irnas_ray.genotype import Genotype

ROOT = Path(__file__).parents[1]
TINY = [
    "search.epochs=3",
    "search.warmup_epochs=1",
    "search.steps_per_epoch=2",
    "search.batch=2",
    "domains.architecture.nodes=null",
    "architecture.nodes=2",
    "domains.architecture.width=null",
    "architecture.width=2",
    "final.width=2",
    "final.batch=2",
    "final.steps=4",
    "final.validate_every=2",
    "final.images=1",
    "tune.early_stopping=false",
]


def command(launcher: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "launchers" / f"{launcher}.py"), *arguments]


def launch(
    launcher: str, *arguments: str, cwd: Path | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(launcher, *arguments), capture_output=True, text=True, timeout=timeout, cwd=cwd, env=environment()
    )


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}


def test_quickstart_end_to_end(tmp_path: Path) -> None:
    """From any folder: search, finals, scores, summary; then every other launcher works on what it left."""
    done = launch("search", *TINY, "tune.trials=2", "search.proxy_steps=2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "results" / "quickstart"
    summary = json.loads((folder / "summary.json").read_text())
    expected = {"study", "search_space", "protocol", "versions", "seconds", "trials", "finals", "baselines"}
    assert expected <= summary.keys()
    assert summary["study"] == summary["search_space"] == "quickstart"
    assert summary["protocol"] == "photographs-gray"
    assert {"id", "state", "config", "psnr", "ssim", "genotype", "seconds"} <= summary["trials"][0].keys()
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETE", "COMPLETE"]
    assert summary["trials"][0]["config"]["seed"] != summary["trials"][1]["config"]["seed"]
    assert set(summary["baselines"]) == {"degraded input", "non-local means"}
    for final in summary["finals"]:
        network, _ = load_network(folder / final["network"])
        assert network.genotype == Genotype.load(folder / "finals" / str(final["rank"]) / "genotype.json")
        assert final["parameters"] == sum(parameter.numel() for parameter in network.parameters())
        assert (folder / "finals" / str(final["rank"]) / "images" / "chelsea.png").exists()
    for trial in summary["trials"]:
        found = Genotype.load(folder / "genotypes" / f"{trial['id']}.json")
        assert found == Genotype.from_json(json.dumps(trial["genotype"]))
    study = optuna.load_study(study_name="quickstart", storage=f"sqlite:///{folder / 'study.db'}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
    assert sorted(trial.value for trial in study.trials) == sorted(trial["score"] for trial in summary["trials"])
    assert all(
        trial.value != trial.user_attrs["psnr"] for trial in study.trials
    )  # the proxy's score, not the supernet's
    assert (folder / "report.html").exists() and "non-local means" in done.stdout

    again = launch("search", *TINY, "tune.trials=2", cwd=tmp_path)
    assert again.returncode == 1 and "resume=true" in again.stderr and "study=NAME" in again.stderr
    assert json.loads((folder / "summary.json").read_text()) == summary

    network_file = str(folder / summary["finals"][0]["network"])
    scored = launch("evaluate", f"network={network_file}", "images=1", "baselines=false", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert f"{summary['finals'][0]['psnr']:.2f}" in scored.stdout
    pictures = str(folder / "finals" / "1" / "images")
    restored = launch("restore", f"network={network_file}", f"input={pictures}", "output=restored", cwd=tmp_path)
    assert restored.returncode == 0 and (tmp_path / "restored" / "chelsea.png").exists()
    refused = launch("restore", f"network={network_file}", f"input={pictures}", "output=restored", cwd=tmp_path)
    assert refused.returncode == 1 and "overwrite=true" in refused.stderr
    analyzed = launch("analyze", f"study={folder}", cwd=tmp_path)
    assert analyzed.returncode == 0, analyzed.stderr


def test_more_trials_on_resume_and_retraining_one_genotype(tmp_path: Path) -> None:
    """`resume=true` adds trials with new seeds and keeps the old ones; `retrain.py` needs nothing but a genotype."""
    folder = tmp_path / "results" / "s"
    assert launch("search", *TINY, "study=s", "tune.trials=1", cwd=tmp_path).returncode == 0
    first = json.loads((folder / "summary.json").read_text())
    changed = launch("search", *TINY, "study=s", "resume=true", "search.batch=3", cwd=tmp_path)
    assert changed.returncode == 1 and "search.batch (2 -> 3)" in changed.stderr
    more = launch("search", *TINY, "study=s", "tune.trials=2", "resume=true", cwd=tmp_path)
    assert more.returncode == 0, more.stdout + more.stderr
    second = json.loads((folder / "summary.json").read_text())
    assert second["trials"][0] == first["trials"][0] and len(second["trials"]) == 2
    assert second["trials"][1]["config"]["seed"] == first["trials"][0]["config"]["seed"] + 1

    # the finals are those of all trials, not of the first run
    assert len(second["finals"]) == min(2, len({trial["digest"] for trial in second["trials"]}))
    best = max(second["trials"], key=lambda trial: trial["score"])
    assert second["finals"][0]["genotype"] == best["genotype"]

    genotype = folder / "genotypes" / f"{first['trials'][0]['id']}.json"
    overrides = [override for override in TINY if not override.startswith("domains")]
    retrained = launch("retrain", f"genotype={genotype}", *overrides, "study=again", cwd=tmp_path)
    assert retrained.returncode == 0, retrained.stdout + retrained.stderr
    final = json.loads((tmp_path / "results" / "again" / "summary.json").read_text())["finals"][0]
    assert Genotype.from_json(json.dumps(final["genotype"])) == Genotype.load(genotype)
    # the same genotype, data, seed and settings give the same network, whichever launcher trains it
    assert final["psnr"] == first["finals"][0]["psnr"]


KILLED = [*TINY, "tune.trials=1", "search.epochs=6", "search.steps_per_epoch=6", "study=s"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The summary of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("calm")
    done = launch("search", *KILLED, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "results" / "s" / "summary.json").read_text())


@pytest.mark.parametrize("victim", ["trial", "driver"])
def test_a_killed_run_ends_with_the_numbers_of_an_undisturbed_one(
    tmp_path: Path, undisturbed: dict, victim: str
) -> None:
    """kill -9 of a trial's worker, or of the driver followed by `resume=true`, changes no result and loses no trial."""
    folder = tmp_path / "results" / "s"
    with open(tmp_path / "log", "w") as log:
        run = subprocess.Popen(
            command("search", *KILLED), cwd=tmp_path, env=environment(), stdout=log, stderr=subprocess.STDOUT
        )
    deadline = time.time() + 120
    while not list(folder.glob("trials/round-1/*/checkpoint_00000[1-9]")):
        assert run.poll() is None and time.time() < deadline, "the run ended before it could be killed"
        time.sleep(0.05)
    if victim == "trial":
        os.kill(trial_worker(), signal.SIGKILL)
        assert run.wait(timeout=240) == 0, (tmp_path / "log").read_text()
    else:
        run.kill()
        run.wait(timeout=60)
        resumed = launch("search", *KILLED, "resume=true", cwd=tmp_path)
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    summary = json.loads((folder / "summary.json").read_text())
    same = ("state", "config", "psnr", "ssim", "score", "genotype", "margins")
    assert len(summary["trials"]) == 1
    assert {key: summary["trials"][0][key] for key in same} == {key: undisturbed["trials"][0][key] for key in same}
    assert summary["finals"][0]["psnr"] == undisturbed["finals"][0]["psnr"]
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder / 'study.db'}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"]


def trial_worker() -> int:
    """Process id of the Ray worker that runs a search trial."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_text()
        except OSError:
            continue
        if title.startswith(("ray::run_trial", "ray::ImplicitFunc")):
            return int(process.name)
    raise AssertionError("no worker runs a trial")


def test_bad_input_ends_at_once_with_one_message(tmp_path: Path) -> None:
    """Before Ray is started: exit status not 0, one message that names what and where, nothing left behind."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    cases = {
        ("search", "architecture.operators=[conv,blur]"): "unknown operator 'blur'",
        ("search", "search.crop=200"): "search.crop",
        ("search", "data=images", "data.source=empty"): "empty",
        ("search", "data=images", "data.source=missing"): "missing",
        ("search", "results=file"): "file",
        ("search", "domains.architecture.nodez=[1]"): "architecture.nodez",
        ("search", "resume=true"): "nothing to resume",
        ("retrain", "genotype=file"): "genotype file file",
        ("evaluate", "network=file"): "file",
        ("evaluate", "network=missing.pt"): "missing.pt",
    }
    with ThreadPoolExecutor(2) as pool:
        outcomes = dict(zip(cases, pool.map(lambda case: launch(*case, cwd=tmp_path), cases), strict=True))
    for arguments, message in cases.items():
        done = outcomes[arguments]
        assert done.returncode in (1, 2), arguments
        assert message in done.stderr and "Traceback" not in done.stderr, (arguments, done.stderr)
        assert "Ray dashboard" not in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]
