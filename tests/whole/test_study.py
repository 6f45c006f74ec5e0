"""Studies end to end on small budgets: everything is kept, resumed and told truthfully."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from command_line_cases import compose
from event_files import values
from study_cases import ROOT, launch, retrain, search

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.checkpoints import load_network
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.study import study as study_module
from irnas_ray.study.study import run_study
from irnas_ray.system.exit_status import Incomplete

#: The quickstart itself, with trainings that take seconds.
QUICK = (
    "search.steps_per_epoch=1 search.batch=2 final.batch=2 final.steps=4 final.validate_every=2 final.images=1"
    " tune.max_multiply_adds=6000"
).split()


def check_names(summary: dict[str, Any], said: str) -> None:
    """A trial has one name: its number in Optuna, also in the terminal and where a final says what it is from."""
    names = [trial["name"] for trial in summary["trials"]]
    assert names == [str(trial["configuration"]) for trial in summary["trials"]]
    assert {final["trial"] for final in summary["finals"]} <= set(names)
    assert all(f"trial {name}: finished" in said for name in names)


@pytest.mark.whole
def test_quickstart_end_to_end(tmp_path: Path, ray_local: None) -> None:
    """The commands themselves, from any folder: a search, then every other launcher works on what it left."""
    done = launch("search", *QUICK, "tune.trials=2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "results" / "quickstart"
    summary = json.loads((folder / "summary.json").read_text())
    expected = {"study", "search_space", "protocol", "versions", "seconds", "trials", "finals", "baselines"}
    assert expected <= summary.keys()
    assert summary["study"] == summary["search_space"] == "quickstart"
    assert summary["protocol"] == "photographs-gray"
    assert {"id", "name", "state", "config", "psnr", "ssim", "genotype", "seconds"} <= summary["trials"][0].keys()
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETE", "COMPLETE"]
    assert summary["trials"][0]["config"]["seed"] != summary["trials"][1]["config"]["seed"]
    assert set(summary["baselines"]) == {"degraded input", "non-local means"}
    for final in summary["finals"]:
        network, _ = load_network(folder / final["network"])
        assert network.genotype == Genotype.load(folder / "finals" / str(final["rank"]) / "genotype.json")
        assert final["parameters"] == sum(parameter.numel() for parameter in network.parameters())
        assert (folder / "finals" / str(final["rank"]) / "images" / "chelsea.png").exists()
    for trial in summary["trials"]:
        found = Genotype.load(folder / "genotypes" / f"{trial['name']}.json")
        assert found == Genotype.from_json(json.dumps(trial["genotype"]))
        for name in ("loss", "score", "psnr", "ssim"):
            curve = values(folder / "trials" / "round-1" / trial["id"] / f"trial-{trial['name']}", f"ray/tune/{name}")
            assert {step for step, _ in curve} >= {1, 2}, name
    study = optuna.load_study(study_name="quickstart", storage=f"sqlite:///{folder / 'study.db'}")
    check_names(summary, done.stdout)
    # proposals beyond the limit of multiply-adds are kept as PRUNED
    tried = [trial for trial in study.trials if trial.state.name != "PRUNED"]
    assert [trial.state.name for trial in tried] == ["COMPLETE", "COMPLETE"]
    assert sorted(trial.value for trial in tried) == sorted(trial["score"] for trial in summary["trials"])
    assert all({"genotype.cell0.node1.inputs", "final.width"} <= trial.params.keys() for trial in tried)
    assert (folder / "report.html").exists() and "non-local means" in done.stdout

    with pytest.raises(ValueError, match=r"resume=true.*study=NAME"):
        run_study(compose(*QUICK, "tune.trials=2", f"results={tmp_path / 'results'}"))
    assert json.loads((folder / "summary.json").read_text()) == summary

    network_file = str(folder / summary["finals"][0]["network"])
    scored = launch("evaluate", f"network={network_file}", "images=1", "baselines=false", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert f"{summary['finals'][0]['psnr']:.2f}" in scored.stdout
    pictures = str(folder / "finals" / "1" / "images")
    restoring = ("restore", f"network={network_file}", f"input={pictures}", "output=restored")
    restored = launch(*restoring, cwd=tmp_path)
    assert restored.returncode == 0 and (tmp_path / "restored" / "chelsea.png").exists()
    before = (tmp_path / "restored" / "chelsea.png").stat().st_mtime_ns
    again = launch(*restoring, cwd=tmp_path)
    assert again.returncode == 0 and (tmp_path / "restored" / "chelsea.png").stat().st_mtime_ns == before
    analyzed = launch("analyze", f"study={folder}", cwd=tmp_path)
    assert analyzed.returncode == 0, analyzed.stderr


@pytest.mark.whole
def test_more_trials_on_resume_and_retraining_one_genotype(tmp_path: Path, ray_local: None) -> None:
    """`resume=true` adds trials with new seeds and keeps the old ones; retraining needs nothing but a genotype.

    The study has been moved to another folder in between.
    """
    first = search(tmp_path / "first", "study=s", "tune.trials=1")
    # the proxy's score, not the supernet's
    assert all(trial["score"] != trial["psnr"] for trial in first["trials"])
    with pytest.raises(ValueError, match=r"search.batch \(2 -> 3\)"):
        search(tmp_path / "first", "study=s", "resume=true", "search.batch=3")
    tmp_path = (tmp_path / "first").rename(tmp_path / "second")
    second = search(tmp_path, "study=s", "tune.trials=2", "resume=true")
    assert second["trials"][0] == first["trials"][0] and len(second["trials"]) == 2
    assert second["trials"][1]["config"]["seed"] == first["trials"][0]["config"]["seed"] + 1

    # the finals are those of all trials, not of the first run
    assert len(second["finals"]) == min(2, len({trial["digest"] for trial in second["trials"]}))
    best = max(second["trials"], key=lambda trial: trial["score"])
    assert second["finals"][0]["genotype"] == best["genotype"]

    genotype = tmp_path / "s" / "genotypes" / f"{first['trials'][0]['name']}.json"
    final = retrain(tmp_path, f"genotype={genotype}", "study=again")["finals"][0]
    assert Genotype.from_json(json.dumps(final["genotype"])) == Genotype.load(genotype)
    # the same genotype, data, seed and settings give the same network, whichever command trains it
    assert final["psnr"] == first["finals"][0]["psnr"]


@pytest.mark.whole
def test_trials_are_kept_behind_a_url(tmp_path: Path, ray_local: None) -> None:
    """The study's folder holds all but Tune's files, and only the study that claimed a storage uses it."""
    storage = f"cluster.storage=file://{tmp_path / 'shared'}"
    summary = search(tmp_path / "a", storage, "study=s", "tune.trials=1")
    runs = sorted(path.name.partition("-")[0] for path in (tmp_path / "shared" / "s").iterdir() if path.is_dir())
    assert runs == ["finals", "round"]
    folder = tmp_path / "a" / "s"
    assert not [path for path in (folder / "trials").iterdir() if path.is_dir()]
    load_network(folder / summary["finals"][0]["network"])
    assert len(search(tmp_path / "a", storage, "study=s", "tune.trials=1", "resume=true")["trials"]) == 1
    with pytest.raises(ValueError, match=r"cluster.storage: the trials of study 's' are kept in file://.*not in /"):
        search(tmp_path / "a", "study=s", "tune.trials=1", "resume=true")
    with pytest.raises(ValueError, match=r"cluster.storage: .* holds the trials of another study of this name"):
        search(tmp_path / "b", storage, "study=s", "tune.trials=1")
    with pytest.raises(ValueError, match=r"cluster.storage: cannot open nonsense://x/t.*s3://bucket/prefix"):
        search(tmp_path / "b", "cluster.storage=nonsense://x", "study=t", "tune.trials=1")


BAD_INPUT = {
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


@pytest.mark.parametrize("arguments", BAD_INPUT, ids=" ".join)
def test_bad_input_ends_at_once_with_one_message(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before Ray is started: exit status not 0, one message that names what and where, nothing left behind."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(arguments))

    def connect(*_: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(study_module, "connect", connect)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "launchers" / f"{arguments[0]}.py"), run_name="__main__")
    said = capsys.readouterr().err
    assert ended.value.code in (1, 2)
    assert BAD_INPUT[arguments] in said and "Traceback" not in said and "Ray was started" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


@pytest.mark.whole
def test_a_final_that_diverged_is_named_and_a_resume_does_not_try_it_again(
    tmp_path: Path, ray_local: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that only died goes on, as ``resume_errored`` makes it."""
    compared = [
        "network=dncnn",
        "network_arguments={depth: 3, width: 4}",
        "compare.final.lr=[0.001,1e30]",
        "final.gradient_clip=null",
        "study=s",
    ]
    for resume in ("false", "true"):
        with pytest.raises(
            Incomplete, match="1 final trainings failed; resume=true goes on with those whose workers died"
        ):
            retrain(tmp_path, *compared, "tune.max_failures=0", f"resume={resume}")
        said = capsys.readouterr().out
        assert ("failed: the loss became" in said) == (resume == "false"), said
        assert said.count(" starts with ") == (2 if resume == "false" else 0)
    assert len(json.loads((tmp_path / "s" / "summary.json").read_text())["finals"]) == 1


@pytest.mark.parametrize(
    ("states", "finals", "said"),
    [
        (["COMPLETE", "FAIL"], 0, "1 of 2 configurations failed; resume=true makes up for them"),
        (
            ["COMPLETE", "PRUNED"],
            1,
            "1 final trainings failed; resume=true goes on with those whose workers died, the ",
        ),
        (["FAIL", "FAIL"], 1, "2 of 2 configurations failed; resume=true makes up for them, and 1 final trainings"),
        ([], 1, "1 final trainings failed"),
    ],
)
def test_what_a_resume_will_do_about_failures_is_said(states: list[str], finals: int, said: str) -> None:
    config = with_values(StudyConfig(), {"tune.trials": 2})
    records = [{"id": str(number), "state": state} for number, state in enumerate(states)]
    with pytest.raises(Incomplete) as caught:
        study_module._complain_of_failures(config, records, finals)
    assert str(caught.value).startswith(f"the study is finished, but {said}")


def test_nobody_complains_of_a_study_without_failures() -> None:
    study_module._complain_of_failures(
        with_values(StudyConfig(), {"tune.trials": 1}), [{"id": "a", "state": "PRUNED"}], 0
    )
