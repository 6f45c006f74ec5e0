"""What the Optuna study is told about trials that Tune runs."""

import math
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from irnas_ray.sampling import StudySearch, fail_running, open_storage

SPACE = {
    "architecture.nodes": IntDistribution(2, 5),
    "search.ssim_weight": FloatDistribution(0.1, 1.0),
}


def make_search(folder: Path, sampler: str = "random", replicates: int = 1, seed: int = 3) -> StudySearch:
    return StudySearch(SPACE, "test", open_storage(None, folder), "score", sampler, seed, replicates)


def report(search: StudySearch, trial: str, *scores: float, finished: bool = True) -> dict:
    result: dict = {}
    for epoch, score in enumerate(scores, start=1):
        last = finished and epoch == len(scores)
        result = {"score": score, "epoch": epoch, "training_iteration": epoch, "finished": last, "digest": "abc"}
        search.on_trial_result(trial, result)
    return result


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_suggestions_lie_in_the_space_and_repeat_with_the_seed(tmp_path: Path, sampler: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = make_search(tmp_path / "a", sampler), make_search(tmp_path / "b", sampler)
    suggestions = [first.suggest(f"t{i}") for i in range(8)]
    assert suggestions == [second.suggest(f"t{i}") for i in range(8)]
    for number, suggestion in enumerate(suggestions):
        assert suggestion is not None
        assert suggestion["architecture.nodes"] in range(2, 6) and 0.1 <= suggestion["search.ssim_weight"] <= 1.0
        assert suggestion["seed"] == 3 + number
    assert len({suggestion["search.ssim_weight"] for suggestion in suggestions if suggestion}) > 1


def test_states_and_values_are_the_truth(tmp_path: Path) -> None:
    search = make_search(tmp_path)
    for trial in ("done", "stopped", "died", "nan", "silent"):
        search.suggest(trial)
    search.on_trial_complete("done", report(search, "done", 20.0, 21.0, 22.5))
    search.on_trial_complete("stopped", report(search, "stopped", 19.0, 18.0, finished=False))
    search.on_trial_complete("died", report(search, "died", 19.5, finished=False), error=True)
    search.on_trial_complete("nan", report(search, "nan", math.nan))
    search.on_trial_complete("silent", None)
    trials = search.study.trials
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.FAIL,
    ]
    assert trials[0].value == 22.5 and trials[0].intermediate_values == {1: 20.0, 2: 21.0}
    assert trials[1].intermediate_values == {1: 19.0, 2: 18.0}
    assert trials[0].user_attrs["digest"] == "abc"
    assert trials[0].user_attrs["seeds"] == {"done": 3}


def test_replicates_share_a_configuration_and_are_told_as_their_mean(tmp_path: Path) -> None:
    search = make_search(tmp_path, replicates=2)
    configs = [search.suggest(trial) for trial in ("a", "b", "c", "d")]
    stripped = [{k: v for k, v in (config or {}).items() if k != "seed"} for config in configs]
    assert stripped[0] == stripped[1] and stripped[2] == stripped[3] and stripped[0] != stripped[2]
    assert len({(config or {})["seed"] for config in configs}) == 4
    assert len(search.study.trials) == 2
    search.on_trial_complete("a", report(search, "a", 20.0, 24.0))
    assert search.study.trials[0].state == TrialState.RUNNING
    search.on_trial_complete("b", report(search, "b", 22.0, 26.0))
    first = search.study.trials[0]
    assert first.state == TrialState.COMPLETE and first.value == 25.0
    assert first.intermediate_values == {1: 21.0}
    assert sorted(first.user_attrs["replicate scores"]) == [24.0, 26.0]


def test_a_completion_that_comes_twice_or_is_unknown_changes_nothing(tmp_path: Path) -> None:
    search = make_search(tmp_path)
    search.suggest("a")
    result = report(search, "a", 20.0)
    search.on_trial_complete("a", result)
    search.on_trial_complete("a", result | {"score": 30.0})
    search.on_trial_complete("unknown", result)
    search.on_trial_result("unknown", result)
    assert [trial.value for trial in search.study.trials] == [20.0]


def test_a_restored_search_goes_on_and_fails_what_died_with_the_driver(tmp_path: Path) -> None:
    search = make_search(tmp_path)
    search.suggest("kept")
    search.save(str(tmp_path / "search.pkl"))
    search.suggest("lost")
    other = make_search(tmp_path)
    other.restore(str(tmp_path / "search.pkl"))
    assert [trial.state for trial in other.study.trials] == [TrialState.RUNNING, TrialState.FAIL]
    other.on_trial_complete("kept", report(other, "kept", 21.0))
    assert other.study.trials[0].state == TrialState.COMPLETE
    suggestion = other.suggest("next")
    assert suggestion is not None and suggestion["seed"] == 4


def test_storages(tmp_path: Path) -> None:
    journal = open_storage(f"journal:{tmp_path / 'study.log'}", tmp_path)
    optuna.create_study(storage=journal, study_name="x").ask()
    again = optuna.load_study(study_name="x", storage=open_storage(f"journal:{tmp_path / 'study.log'}", tmp_path))
    assert len(again.trials) == 1
    fail_running(again, but=set())
    assert again.trials[0].state == TrialState.FAIL
    with pytest.raises(ValueError, match="tune.storage: cannot open nonsense"):
        open_storage("nonsense://host/db", tmp_path)
