"""A method without a supernet from its settings to the finals: kept, resumed, compared on rungs.

Random search as a whole study: test_audit.py; every method without Ray: hpo/test_methods.py.
"""

import json
from pathlib import Path

import optuna
import pytest
from study_cases import search

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.checkpoints import load_network

WITHOUT = "domains.search.ssim_weight=null final.steps=2 final.count=1 architecture.multipliers=[1] study=s".split()


@pytest.mark.whole
def test_evolution_within_limits_is_stopped_on_rungs_and_goes_on_when_resumed(tmp_path: Path, ray_local: None) -> None:
    arguments = [*WITHOUT, "search.method=evolution", "search.population=2", "domains.final.width=[2,40]"]
    arguments += ["tune.max_parameters=20000", "tune.early_stopping=true", "tune.grace_epochs=1"]
    first = search(tmp_path, *arguments, "tune.trials=3", "tune.replicates=2")
    second = search(tmp_path, *arguments, "tune.trials=4", "tune.replicates=2", "resume=true")
    assert second["trials"][:6] == first["trials"] and len(second["trials"]) == 8
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 's' / 'study.db'}")
    own = [trial for trial in study.trials if "replicates" in trial.user_attrs]
    refused = [trial for trial in study.trials if trial not in own]
    assert len(own) == 4 and second.get("refused", 0) == len(refused)
    assert {trial.params["final.width"] for trial in own} == {2}
    assert all(max(trial.constraints.values()) > 0 for trial in refused)
    for record in second["trials"]:
        assert record["config"].keys() == {"final.width", "seed"} and record["margins"] == []
        assert record["parameters"] <= 20000
        assert record["steps"] == (6 if record["state"] == "COMPLETE" else 4)
        assert Genotype.load(tmp_path / "s" / "genotypes" / f"{record['name']}.json").digest == record["digest"]
    best = max((t for t in second["trials"] if t["state"] == "COMPLETE"), key=lambda record: record["score"])
    network, _ = load_network(tmp_path / "s" / second["finals"][0]["network"])
    assert json.loads(network.genotype.to_json()) == best["genotype"] and network.arguments()["width"] == 2
    with pytest.raises(ValueError, match=r"final.lr \(0.01 -> 0.02\)"):
        search(tmp_path, *arguments, "tune.trials=4", "tune.replicates=2", "resume=true", "final.lr=0.02")
