"""What the Optuna study is told about trials that Tune runs."""

import math
import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest
from ledger_cases import COMPLETE, FAIL, PRUNED, RUNNING, SCORE, SPACE, TWO, make_search, report, states
from optuna.distributions import FloatDistribution

from irnas_ray.hpo.ledger import Known
from irnas_ray.hpo.ownership import claim_study
from irnas_ray.hpo.rungs import Verdict
from irnas_ray.hpo.samplers import make_sampler
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.storage import open_storage
from irnas_ray.tune.searcher import StudySearch


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_suggestions_lie_in_the_space_and_repeat_with_the_seed(sampler: str) -> None:
    first, second = make_search(None, sampler), make_search(None, sampler)
    suggestions = [first.suggest(f"t{i}") for i in range(8)]
    assert suggestions == [second.suggest(f"t{i}") for i in range(8)]
    for number, suggestion in enumerate(suggestions):
        assert suggestion is not None
        assert suggestion["architecture.nodes"] in range(2, 6) and 0.1 <= suggestion["search.ssim_weight"] <= 1.0
        assert suggestion["seed"] == 3 + number
    assert len({suggestion["search.ssim_weight"] for suggestion in suggestions if suggestion}) > 1


def test_states_and_values_are_the_truth(tmp_path: Path) -> None:
    search = make_search(tmp_path)
    for trial in ("done", "stopped", "died", "nan", "gave up", "silent"):
        search.suggest(trial)
    search.note("done", folder="/somewhere/done")
    search.on_trial_complete("done", report(search, "done", 20.0, 21.0, 22.5, genotype="{}", parameters=7))
    search.on_trial_complete("stopped", report(search, "stopped", 19.0, 18.0, finished=False))
    report(search, "died", 19.5, finished=False)
    search.note("died", error="OutOfMemoryError: 2 GiB")
    search.on_trial_complete("died", error=True)
    search.on_trial_complete("nan", report(search, "nan", 19.0, math.nan))
    search.on_trial_complete("gave up", {"score": math.nan, "error": "the loss became nan in epoch 1"})
    search.on_trial_complete("silent", {"done": True})
    trials = search.study.trials
    assert states(search) == [COMPLETE, PRUNED, FAIL, FAIL, FAIL, FAIL]
    assert trials[0].value == 22.5 and trials[0].intermediate_values == {1: 20.0, 2: 21.0}
    assert trials[1].value == 18.0 and trials[1].intermediate_values == {1: 19.0, 2: 18.0}
    found = trials[0].user_attrs
    assert (found["digest"], found["genotype"], found["parameters"]) == ("abc", "{}", 7)
    assert found["replicates"] == [
        {
            "seed": 3,
            "trial": "done",
            "state": "COMPLETE",
            "score": 22.5,
            "digest": "abc",
            "parameters": 7,
            "error": None,
            "folder": "/somewhere/done",
        }
    ]
    errors = [trial.user_attrs.get("error") for trial in trials]
    assert errors[:3] == [None, None, "seed 5: OutOfMemoryError: 2 GiB"]
    assert errors[3] == "seed 6: score is nan after epoch 2"
    assert errors[4:] == ["seed 7: the loss became nan in epoch 1", "seed 8: the trial ended without a report"]
    assert "replicates" in trials[2].user_attrs and trials[2].intermediate_values == {1: 19.5}


def test_replicates_share_a_configuration_and_are_told_as_their_mean() -> None:
    search = make_search(None, replicates=2)
    configs = [search.suggest(trial) for trial in ("a", "b", "c", "d")]
    stripped = [{k: v for k, v in (config or {}).items() if k != "seed"} for config in configs]
    assert stripped[0] == stripped[1] and stripped[2] == stripped[3] and stripped[0] != stripped[2]
    assert [(config or {})["seed"] for config in configs] == [3, 4, 5, 6]
    search.on_trial_complete("a", report(search, "a", 20.0, 24.0, genotype="worse"))
    assert states(search) == [RUNNING, RUNNING] and search.study.trials[0].intermediate_values == {}
    search.on_trial_complete("b", report(search, "b", 22.0, 28.0, genotype="better"))
    first = search.study.trials[0]
    assert first.state == COMPLETE and first.value == 26.0
    assert first.intermediate_values == {1: 21.0}
    assert first.user_attrs["score of seeds"] == {"3": 24.0, "4": 28.0}
    assert first.user_attrs["score, mean"] == 26.0
    assert first.user_attrs["score, standard deviation"] == pytest.approx(8**0.5)
    assert first.user_attrs["genotype/seed 3"] == "worse" and first.user_attrs["genotype/seed 4"] == "better"
    assert first.user_attrs["genotype"] == "better" and first.user_attrs["best seed"] == 4


def test_a_configuration_outlives_some_of_its_seeds() -> None:
    """Means are over the seeds that live; where all die the configuration has failed, and says of what."""
    search = make_search(None, replicates=3)
    for trial in "abcdef":
        search.suggest(trial)
    report(search, "a", 20.0, finished=False)
    report(search, "b", 40.0, finished=False)
    search.on_trial_complete("c", error=True)
    assert search.study.trials[0].intermediate_values == {1: 30.0}
    search.on_trial_complete("b", error=True)
    search.on_trial_complete("a", report(search, "a", 20.0, 21.0, 23.0))
    assert states(search) == [COMPLETE, RUNNING] and search.study.trials[0].value == 23.0
    assert search.study.trials[0].intermediate_values == {1: 30.0, 2: 21.0}
    for trial in "def":
        search.note(trial, error=f"no {trial}")
        search.on_trial_complete(trial, error=True)
    assert states(search) == [COMPLETE, FAIL]
    assert search.study.trials[1].user_attrs["error"] == "seed 6: no d; seed 7: no e; seed 8: no f"


def test_siblings_wait_are_stopped_together_and_recorded_as_stopped() -> None:
    search = make_search(None, replicates=2, milestones=[2], factor=2)
    for trial in "abcd":
        search.suggest(trial)
    report(search, "a", 5.0, 20.0, finished=False)
    assert search.verdict("a", 2) == Verdict.WAIT
    report(search, "b", 5.0, 30.0, finished=False)
    assert search.verdict("a", 2) == search.verdict("b", 2) == Verdict.GO_ON
    report(search, "c", 5.0, 48.0, finished=False)
    last = report(search, "d", 5.0, 1.0, finished=False)
    assert search.verdict("c", 2) == Verdict.STOP
    search.on_trial_complete("d", last)
    assert states(search) == [RUNNING, RUNNING]
    # Tune tells of a trial that is stopped while it waits without its result
    search.on_trial_complete("c")
    assert states(search) == [RUNNING, PRUNED]
    stopped = search.study.trials[1]
    assert stopped.intermediate_values == {1: 5.0, 2: 24.5} and stopped.value == 24.5
    assert stopped.user_attrs["rungs"] == {"2": {"values": {"5": [48.0], "6": [1.0]}, "mean": [24.5], "goes on": False}}
    assert [entry["state"] for entry in stopped.user_attrs["replicates"]] == ["PRUNED", "PRUNED"]


def test_trials_that_wait_leave_their_place_to_others() -> None:
    search = make_search(None, replicates=2, milestones=[1])
    search.set_max_concurrency(1)
    first = search.suggest("a")
    assert first is not None and search.suggest("b") is None
    report(search, "a", 1.0, finished=False)
    second = search.suggest("b")
    assert second == {**first, "seed": 4}
    report(search, "b", 1.0, finished=False)
    # both go on, one after the other, before another configuration is begun
    assert search.suggest("c") is None
    search.on_trial_complete("a", report(search, "a", 1.0, 2.0))
    assert search.suggest("c") is None
    search.on_trial_complete("b", report(search, "b", 1.0, 2.0))
    assert search.suggest("c") is not None


def test_two_objectives() -> None:
    """Each is told, intermediate values are kept although Optuna takes none, and dominated configurations stop."""
    search = make_search(None, objectives=TWO, milestones=[1], factor=2)
    for trial in "abc":
        search.suggest(trial)
    search.on_trial_complete("a", report(search, "a", 20.0, 21.0, parameters=100))
    search.on_trial_complete("b", report(search, "b", 19.0, finished=False, parameters=100))
    search.on_trial_complete("c", report(search, "c", 10.0, 11.0, parameters=50))
    assert states(search) == [COMPLETE, PRUNED, COMPLETE]
    assert [trial.values for trial in search.study.trials] == [[21.0, 100.0], None, [11.0, 50.0]]
    assert search.study.trials[1].user_attrs["reports"] == {"1": [19.0, 100.0]}
    assert [trial.number for trial in search.study.best_trials] == [0, 2]


def test_tpe_is_told_the_mean_and_nothing_of_lucky_seeds() -> None:
    """It proposes exactly what it does in a study that knows no seeds and is told the mean."""
    search = make_search(None, "tpe", replicates=2)
    plain = optuna.create_study(direction="maximize")
    for number in range(12):
        plain.sampler = make_sampler("tpe", 3, number, SearchSpace(SPACE))
        reference = plain.ask(SPACE)
        for replicate, luck in enumerate((50.0, -50.0)):
            config = search.suggest(f"{number}-{replicate}")
            assert config == {**reference.params, "seed": 3 + 2 * number + replicate}
            score = -100 * (config["search.ssim_weight"] - 0.8) ** 2
            trial = f"{number}-{replicate}"
            search.on_trial_complete(trial, report(search, trial, score + luck * (1 + number % 3)))
        plain.tell(reference, score)
        assert search.study.trials[number].value == pytest.approx(score)


def test_a_completion_that_comes_twice_or_is_unknown_changes_nothing() -> None:
    search = make_search(None)
    search.suggest("a")
    result = report(search, "a", 20.0)
    search.on_trial_complete("a", result)
    search.on_trial_complete("a", result | {"score": 30.0})
    search.on_trial_result("a", result | {"score": 30.0})
    search.on_trial_complete("unknown", result)
    search.on_trial_result("unknown", result)
    assert search.judge("unknown", result) == Verdict.GO_ON
    assert [trial.value for trial in search.study.trials] == [20.0]


def test_a_restored_search_goes_on_and_suggests_again_what_died_with_the_driver(tmp_path: Path) -> None:
    search = make_search(tmp_path, replicates=2, milestones=[1])
    search.suggest("kept")
    report(search, "kept", 1.0, finished=False)
    search.save(str(tmp_path / "search.pkl"))
    lost = search.suggest("lost")
    # what Tune pickles with its own settings
    other = pickle.loads(pickle.dumps(search))
    other.restore(str(tmp_path / "search.pkl"))
    other.know("kept", Known(1))
    other.adopt()
    assert states(other) == [RUNNING]
    assert other.verdict("kept", 1) == Verdict.WAIT and other.verdict("kept", 0) == Verdict.GO_ON
    assert other.suggest("again") == lost
    report(other, "again", 3.0, finished=False)
    assert other.verdict("kept", 1) == Verdict.GO_ON
    other.on_trial_complete("kept", report(other, "kept", 1.0, 21.0))
    other.on_trial_complete("again", report(other, "again", 3.0, 23.0))
    assert states(other) == [COMPLETE]
    assert other.study.trials[0].value == 22.0 and other.study.trials[0].intermediate_values == {1: 2.0}


def reopened(search: StudySearch, folder: Path, replicates: int) -> StudySearch:
    """The search of a further driver, as Tune restores it from its own state and the study's database."""
    search.save(str(folder / "search.pkl"))
    again = make_search(folder, replicates=replicates, milestones=[2], factor=2)
    again.restore(str(folder / "search.pkl"))
    for trial_id, (_, replicate) in search._seeds.trials.items():
        again.know(trial_id, Known(replicate.epoch))
    again.adopt()
    return again


def test_a_stop_that_the_driver_did_not_live_to_carry_out_is_no_failure(tmp_path: Path) -> None:
    """It dies between the verdict and the stop; Tune then stops a trial that does not run, and hands on no result."""
    search = make_search(tmp_path, milestones=[2], factor=2)
    search.suggest("a")
    search.suggest("b")
    report(search, "a", 5.0, 20.0, finished=False)
    report(search, "b", 6.0, 10.0, finished=False)
    again = reopened(search, tmp_path, replicates=1)
    assert again.verdict("b", 2) == Verdict.STOP
    again.on_trial_complete("b")
    stopped = again.study.trials[1]
    assert stopped.state == PRUNED and stopped.value == 10.0 and stopped.intermediate_values == {1: 6.0, 2: 10.0}
    assert stopped.user_attrs["replicates"][0]["score"] == 10.0 and "error" not in stopped.user_attrs


def test_a_seed_that_waited_through_a_restart_counts_with_its_last_values(tmp_path: Path) -> None:
    search = make_search(tmp_path, replicates=2, milestones=[2], factor=2)
    for trial in "abc":
        search.suggest(trial)
    report(search, "a", 5.0, 20.0, finished=False)
    report(search, "b", 5.0, 20.0, finished=False)
    report(search, "c", 7.0, finished=False)
    # its record is written here, with the values of that time
    search.suggest("d")
    report(search, "c", 7.0, 12.0, finished=False)
    again = reopened(search, tmp_path, replicates=2)
    last = report(again, "d", 1.0, 2.0, finished=False)
    assert again.verdict("c", 2) == Verdict.STOP
    again.on_trial_complete("c")
    again.on_trial_complete("d", last)
    stopped = again.study.trials[1]
    assert [(entry["state"], entry["score"]) for entry in stopped.user_attrs["replicates"]] == [
        ("PRUNED", 12.0),
        ("PRUNED", 2.0),
    ]
    assert stopped.user_attrs["score, mean"] == 7.0 and stopped.intermediate_values == {1: 4.0, 2: 7.0}


def test_a_new_round_runs_again_what_an_earlier_one_left_running(tmp_path: Path) -> None:
    """No configuration stays RUNNING for ever, and an undisturbed study's proposals are proposed."""
    calm = make_search(None, "tpe")
    undisturbed = [calm.suggest(f"t{i}") for i in range(4)]
    search = make_search(tmp_path, "tpe")
    assert [search.suggest("a"), search.suggest("b")] == undisturbed[:2]
    # killed while it proposed the third: only the trial is there, and nothing of what it holds
    search.study.ask()
    later = make_search(tmp_path, "tpe")
    assert [later.suggest(trial) for trial in "wxyz"] == undisturbed
    assert states(later) == [RUNNING] * 4


def test_a_driver_that_died_before_it_told_the_study_tells_it_now(tmp_path: Path, monkeypatch: Any) -> None:
    search = make_search(tmp_path)
    search.suggest("a")
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            search.on_trial_complete("a", report(search, "a", 1.0, 2.0))
    assert states(search) == [RUNNING]
    later = make_search(tmp_path)
    assert states(later) == [COMPLETE] and later.study.trials[0].value == 2.0


def test_a_study_belongs_to_one_folder_search_space_and_set_of_objectives(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path)
    study = claim_study("a", storage, tmp_path, "toy", SPACE, SCORE)
    assert claim_study("a", storage, tmp_path, "toy", dict(reversed(SPACE.items())), SCORE).study_name == "a"
    claim_study("b", storage, tmp_path / "b", "toy", SPACE, TWO)
    study.add_trial(optuna.trial.create_trial(value=1.0))
    for message, arguments in {
        "another folder": (tmp_path / "other", "toy", SPACE, SCORE),
        "another search space": (tmp_path, "paper", SPACE, SCORE),
        "another domains": (tmp_path, "toy", SPACE | {"search.arch_lr": FloatDistribution(0, 1)}, SCORE),
        "another objectives": (tmp_path, "toy", SPACE, TWO),
    }.items():
        with pytest.raises(ValueError, match=f"{message}.*study=NAME"):
            claim_study("a", storage, *arguments)
    assert optuna.load_study(study_name="a", storage=storage).user_attrs["search_space"] == "toy"


def test_optuna_shows_the_study() -> None:
    """The pictures and tables that Optuna makes of a study, whatever states its trials have."""
    search = make_search(None, replicates=2)
    for number in range(5):
        for replicate in range(2):
            trial = f"{number}-{replicate}"
            config = search.suggest(trial)
            assert config is not None
            if number < 4:
                score = config["search.ssim_weight"] + replicate
                last = report(search, trial, score, score + 1, score + 2, finished=number != 1)
                search.on_trial_complete(trial, last, error=number == 2)
    assert states(search) == [COMPLETE, PRUNED, FAIL, COMPLETE, RUNNING]
    table = search.study.trials_dataframe()
    assert list(table["state"]) == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE", "RUNNING"]
    assert set(table["user_attrs_best seed"].dropna()) == {4, 6, 10}
    curves = optuna.visualization.matplotlib.plot_intermediate_values(search.study)
    assert sorted(len(line.get_xdata()) for line in curves.get_lines()) == [2, 2, 3]
    history = optuna.visualization.matplotlib.plot_optimization_history(search.study)
    assert len(history.collections[0].get_offsets()) == 2
    optuna.visualization.matplotlib.plot_timeline(search.study)


def test_storages(tmp_path: Path) -> None:
    journal = open_storage(f"journal:{tmp_path / 'study.log'}", tmp_path)
    optuna.create_study(storage=journal, study_name="x").ask()
    again = optuna.load_study(study_name="x", storage=open_storage(f"journal:{tmp_path / 'study.log'}", tmp_path))
    assert len(again.trials) == 1
    with pytest.raises(ValueError, match="tune.storage: cannot open nonsense"):
        open_storage("nonsense://host/db", tmp_path)


def test_the_study_of_another_program_is_left_alone(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path)
    foreign = optuna.create_study(storage=storage, study_name="test", direction="maximize")
    foreign.add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(ValueError, match="'test' exists in the storage and is of another program"):
        make_search(tmp_path)
    assert foreign.user_attrs == {}
