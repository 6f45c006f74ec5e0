"""The real search command with several seeds, early stopping and two objectives."""

import json
import math
from pathlib import Path

import optuna
import pytest
from study_cases import TINY, launch

from irnas_ray.genotypes.genotype import Genotype


@pytest.mark.whole
def test_seeds_rungs_and_a_front_from_the_command_line_to_the_report(tmp_path: Path) -> None:
    """One Optuna trial for each configuration, one Tune trial for each seed; everything that is told agrees."""
    arguments = [argument for argument in TINY if argument != "tune.early_stopping=false"]
    arguments += ["domains.architecture.nodes=[1,3]", "tune.sampler=grid", "domains.search.ssim_weight=null"]
    arguments += ["tune.trials=2", "tune.replicates=2"]
    arguments += ["tune.early_stopping=true", "tune.grace_epochs=1", "tune.reduction_factor=2"]
    arguments += ["tune.objectives=[score,parameters]", "final.count=3", "search.proxy_steps=2"]
    done = launch(
        "search", *[a for a in arguments if a != "domains.architecture.nodes=null"], cwd=tmp_path, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "results" / "irnas_small"
    summary = json.loads((folder / "summary.json").read_text())
    trials, configurations = summary["trials"], summary["configurations"]
    assert sorted(trial["config"]["seed"] for trial in trials) == [0, 1, 2, 3]
    study = optuna.load_study(study_name="irnas_small", storage=f"sqlite:///{folder / 'study.db'}")
    assert [trial.state.name for trial in study.trials] == [entry["state"] for entry in configurations]
    assert {entry["params"]["architecture.nodes"] for entry in configurations} == {1, 3}
    for frozen, entry in zip(study.trials, configurations, strict=True):
        own = [trial for trial in trials if trial["configuration"] == frozen.number]
        assert [trial["name"] for trial in own] == entry["trials"] == [f"{frozen.number}-0", f"{frozen.number}-1"]
        if entry["state"] == "COMPLETE":
            means = [math.fsum(trial[key] for trial in own) / 2 for key in ("score", "parameters")]
            assert frozen.values == means == [entry["means"]["score"], entry["means"]["parameters"]]
        # both seeds were compared at the second of two rungs, validations being two epochs apart, and had one fate
        assert frozen.user_attrs["rungs"].keys() == {"2"}
        assert {trial["state"] for trial in own} == {entry["state"]}
        assert all(len(rung["values"]) == 2 for rung in frozen.user_attrs["rungs"].values())
        found = Genotype.from_json(frozen.user_attrs["genotype"])
        best = max(own, key=lambda trial: trial["score"])
        assert found == Genotype.from_json(json.dumps(best["genotype"]))
        assert frozen.user_attrs["digest"] == best["digest"] and frozen.user_attrs["device"] == "cpu"
    assert summary["pareto"] == [trial.number for trial in sorted(study.best_trials, key=lambda t: t.number)]
    assert {final["trial"] for final in summary["finals"]} <= {
        t for e in configurations if e["pareto"] for t in e["trials"]
    }
    for final in summary["finals"]:
        trial = next(trial for trial in trials if trial["name"] == final["trial"])
        # what the trial reported of its decoded network is what the final network has
        assert final["parameters"] == trial["parameters"]
        assert final["multiply_adds_per_pixel"] == trial["multiply_adds_per_pixel"]
    assert "Pareto front" in done.stdout and "<h2>Pareto front</h2>" in (folder / "report.html").read_text()
