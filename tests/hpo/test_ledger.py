"""What the Optuna study is told about trials that Tune runs."""

import math
import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest
from ledger_cases import COMPLETE, FAIL, PRUNED, RUNNING, SPACE, TWO, make_ledger, report, states
from optuna.distributions import IntDistribution

from irnas_ray.hpo.domains import Conditional, Domains
from irnas_ray.hpo.ledger import Known, Ledger
from irnas_ray.hpo.rungs import Verdict
from irnas_ray.hpo.samplers import make_sampler
from irnas_ray.hpo.search_space import SearchSpace


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_suggestions_lie_in_the_space_and_repeat_with_the_seed(sampler: str) -> None:
    first, second = make_ledger(None, sampler), make_ledger(None, sampler)
    suggestions = [first.suggest(f"t{i}") for i in range(8)]
    assert suggestions == [second.suggest(f"t{i}") for i in range(8)]
    for number, suggestion in enumerate(suggestions):
        assert suggestion is not None
        assert suggestion["architecture.nodes"] in range(2, 6) and 0.1 <= suggestion["search.ssim_weight"] <= 1.0
        assert suggestion["seed"] == 3 + number
    assert len({suggestion["search.ssim_weight"] for suggestion in suggestions if suggestion}) > 1


def test_states_and_values_are_the_truth(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    for trial in ("done", "stopped", "died", "nan", "gave up", "silent"):
        ledger.suggest(trial)
    ledger.note("done", folder="/somewhere/done")
    ledger.end("done", report(ledger, "done", 20.0, 21.0, 22.5, genotype="{}", parameters=7))
    ledger.end("stopped", report(ledger, "stopped", 19.0, 18.0, finished=False))
    report(ledger, "died", 19.5, finished=False)
    ledger.note("died", error="OutOfMemoryError: 2 GiB")
    ledger.end("died", failed=True)
    ledger.end("nan", report(ledger, "nan", 19.0, math.nan))
    ledger.end("gave up", {"score": math.nan, "error": "the loss became nan in epoch 1"})
    ledger.end("silent", {"done": True})
    trials = ledger.study.trials
    assert states(ledger) == [COMPLETE, PRUNED, FAIL, FAIL, FAIL, FAIL]
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
    ledger = make_ledger(None, replicates=2)
    configs = [ledger.suggest(trial) for trial in ("a", "b", "c", "d")]
    stripped = [{k: v for k, v in (config or {}).items() if k != "seed"} for config in configs]
    assert stripped[0] == stripped[1] and stripped[2] == stripped[3] and stripped[0] != stripped[2]
    assert [(config or {})["seed"] for config in configs] == [3, 4, 5, 6]
    ledger.end("a", report(ledger, "a", 20.0, 24.0, genotype="worse"))
    assert states(ledger) == [RUNNING, RUNNING] and ledger.study.trials[0].intermediate_values == {}
    ledger.end("b", report(ledger, "b", 22.0, 28.0, genotype="better"))
    first = ledger.study.trials[0]
    assert first.state == COMPLETE and first.value == 26.0
    assert first.intermediate_values == {1: 21.0}
    assert first.user_attrs["score of seeds"] == {"3": 24.0, "4": 28.0}
    assert first.user_attrs["score, mean"] == 26.0
    assert first.user_attrs["score, standard deviation"] == pytest.approx(8**0.5)
    assert first.user_attrs["genotype/seed 3"] == "worse" and first.user_attrs["genotype/seed 4"] == "better"
    assert first.user_attrs["genotype"] == "better" and first.user_attrs["best seed"] == 4


def test_a_configuration_outlives_some_of_its_seeds() -> None:
    """Means are over the seeds that live; where all die the configuration has failed, and says of what."""
    ledger = make_ledger(None, replicates=3)
    for trial in "abcdef":
        ledger.suggest(trial)
    report(ledger, "a", 20.0, finished=False)
    report(ledger, "b", 40.0, finished=False)
    ledger.end("c", failed=True)
    assert ledger.study.trials[0].intermediate_values == {1: 30.0}
    ledger.end("b", failed=True)
    ledger.end("a", report(ledger, "a", 20.0, 21.0, 23.0))
    assert states(ledger) == [COMPLETE, RUNNING] and ledger.study.trials[0].value == 23.0
    assert ledger.study.trials[0].intermediate_values == {1: 30.0, 2: 21.0}
    for trial in "def":
        ledger.note(trial, error=f"no {trial}")
        ledger.end(trial, failed=True)
    assert states(ledger) == [COMPLETE, FAIL]
    assert ledger.study.trials[1].user_attrs["error"] == "seed 6: no d; seed 7: no e; seed 8: no f"


def test_siblings_wait_are_stopped_together_and_recorded_as_stopped() -> None:
    ledger = make_ledger(None, replicates=2, milestones=[2], factor=2)
    for trial in "abcd":
        ledger.suggest(trial)
    report(ledger, "a", 5.0, 20.0, finished=False)
    assert ledger.verdict("a", 2) == Verdict.WAIT
    report(ledger, "b", 5.0, 30.0, finished=False)
    assert ledger.verdict("a", 2) == ledger.verdict("b", 2) == Verdict.GO_ON
    report(ledger, "c", 5.0, 48.0, finished=False)
    last = report(ledger, "d", 5.0, 1.0, finished=False)
    assert ledger.verdict("c", 2) == Verdict.STOP
    ledger.end("d", last)
    assert states(ledger) == [RUNNING, RUNNING]
    # Tune tells of a trial that is stopped while it waits without its result
    ledger.end("c")
    assert states(ledger) == [RUNNING, PRUNED]
    stopped = ledger.study.trials[1]
    assert stopped.intermediate_values == {1: 5.0, 2: 24.5} and stopped.value == 24.5
    assert stopped.user_attrs["rungs"] == {"2": {"values": {"5": [48.0], "6": [1.0]}, "mean": [24.5], "goes on": False}}
    assert [entry["state"] for entry in stopped.user_attrs["replicates"]] == ["PRUNED", "PRUNED"]


def test_trials_that_wait_leave_their_place_to_others() -> None:
    ledger = make_ledger(None, replicates=2, milestones=[1])
    first = ledger.suggest("a", limit=1)
    assert first is not None and ledger.suggest("b", limit=1) is None
    report(ledger, "a", 1.0, finished=False)
    second = ledger.suggest("b", limit=1)
    assert second == {**first, "seed": 4}
    report(ledger, "b", 1.0, finished=False)
    # both go on, one after the other, before another configuration is begun
    assert ledger.suggest("c", limit=1) is None
    ledger.end("a", report(ledger, "a", 1.0, 2.0))
    assert ledger.suggest("c", limit=1) is None
    ledger.end("b", report(ledger, "b", 1.0, 2.0))
    assert ledger.suggest("c", limit=1) is not None


def test_two_objectives() -> None:
    """Each is told, intermediate values are kept although Optuna takes none, and dominated configurations stop."""
    ledger = make_ledger(None, objectives=TWO, milestones=[1], factor=2)
    for trial in "abc":
        ledger.suggest(trial)
    ledger.end("a", report(ledger, "a", 20.0, 21.0, parameters=100))
    ledger.end("b", report(ledger, "b", 19.0, finished=False, parameters=100))
    ledger.end("c", report(ledger, "c", 10.0, 11.0, parameters=50))
    assert states(ledger) == [COMPLETE, PRUNED, COMPLETE]
    assert [trial.values for trial in ledger.study.trials] == [[21.0, 100.0], None, [11.0, 50.0]]
    assert ledger.study.trials[1].user_attrs["reports"] == {"1": [19.0, 100.0]}
    assert [trial.number for trial in ledger.study.best_trials] == [0, 2]


def test_tpe_is_told_the_mean_and_nothing_of_lucky_seeds() -> None:
    """It proposes exactly what it does in a study that knows no seeds and is told the mean."""
    ledger = make_ledger(None, "tpe", replicates=2)
    plain = optuna.create_study(direction="maximize")
    for number in range(12):
        plain.sampler = make_sampler("tpe", 3, number, SearchSpace(SPACE))
        reference = plain.ask(SPACE)
        for replicate, luck in enumerate((50.0, -50.0)):
            config = ledger.suggest(f"{number}-{replicate}")
            assert config == {**reference.params, "seed": 3 + 2 * number + replicate}
            score = -100 * (config["search.ssim_weight"] - 0.8) ** 2
            trial = f"{number}-{replicate}"
            ledger.end(trial, report(ledger, trial, score + luck * (1 + number % 3)))
        plain.tell(reference, score)
        assert ledger.study.trials[number].value == pytest.approx(score)


def test_a_completion_that_comes_twice_or_is_unknown_changes_nothing() -> None:
    ledger = make_ledger(None)
    ledger.suggest("a")
    result = report(ledger, "a", 20.0)
    ledger.end("a", result)
    ledger.end("a", result | {"score": 30.0})
    ledger.record("a", result | {"score": 30.0})
    ledger.end("unknown", result)
    ledger.record("unknown", result)
    assert ledger.report("unknown", result) == Verdict.GO_ON
    assert [trial.value for trial in ledger.study.trials] == [20.0]


def test_a_restored_ledger_goes_on_and_suggests_again_what_died_with_the_driver(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, replicates=2, milestones=[1])
    ledger.suggest("kept")
    report(ledger, "kept", 1.0, finished=False)
    lost = ledger.suggest("lost")
    other = pickle.loads(pickle.dumps(ledger))
    other.know("kept", Known(1))
    other.adopt()
    assert states(other) == [RUNNING]
    assert other.verdict("kept", 1) == Verdict.WAIT and other.verdict("kept", 0) == Verdict.GO_ON
    assert other.suggest("again") == lost
    report(other, "again", 3.0, finished=False)
    assert other.verdict("kept", 1) == Verdict.GO_ON
    other.end("kept", report(other, "kept", 1.0, 21.0))
    other.end("again", report(other, "again", 3.0, 23.0))
    assert states(other) == [COMPLETE]
    assert other.study.trials[0].value == 22.0 and other.study.trials[0].intermediate_values == {1: 2.0}


def reopened(ledger: Ledger, folder: Path, replicates: int) -> Ledger:
    """The ledger of a further driver, as Tune restores it from its own state and the study's database."""
    again = make_ledger(folder, replicates=replicates, milestones=[2], factor=2)
    again.load()
    for trial_id, (_, replicate) in ledger._trials.items():
        again.know(trial_id, Known(replicate.epoch))
    again.adopt()
    return again


def test_a_stop_that_the_driver_did_not_live_to_carry_out_is_no_failure(tmp_path: Path) -> None:
    """It dies between the verdict and the stop; Tune then stops a trial that does not run, and hands on no result."""
    ledger = make_ledger(tmp_path, milestones=[2], factor=2)
    ledger.suggest("a")
    ledger.suggest("b")
    report(ledger, "a", 5.0, 20.0, finished=False)
    report(ledger, "b", 6.0, 10.0, finished=False)
    again = reopened(ledger, tmp_path, replicates=1)
    assert again.verdict("b", 2) == Verdict.STOP
    again.end("b")
    stopped = again.study.trials[1]
    assert stopped.state == PRUNED and stopped.value == 10.0 and stopped.intermediate_values == {1: 6.0, 2: 10.0}
    assert stopped.user_attrs["replicates"][0]["score"] == 10.0 and "error" not in stopped.user_attrs


def test_a_seed_that_waited_through_a_restart_counts_with_its_last_values(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, replicates=2, milestones=[2], factor=2)
    for trial in "abc":
        ledger.suggest(trial)
    report(ledger, "a", 5.0, 20.0, finished=False)
    report(ledger, "b", 5.0, 20.0, finished=False)
    report(ledger, "c", 7.0, finished=False)
    # its record is written here, with the values of that time
    ledger.suggest("d")
    report(ledger, "c", 7.0, 12.0, finished=False)
    again = reopened(ledger, tmp_path, replicates=2)
    last = report(again, "d", 1.0, 2.0, finished=False)
    assert again.verdict("c", 2) == Verdict.STOP
    again.end("c")
    again.end("d", last)
    stopped = again.study.trials[1]
    assert [(entry["state"], entry["score"]) for entry in stopped.user_attrs["replicates"]] == [
        ("PRUNED", 12.0),
        ("PRUNED", 2.0),
    ]
    assert stopped.user_attrs["score, mean"] == 7.0 and stopped.intermediate_values == {1: 4.0, 2: 7.0}


def test_a_new_round_runs_again_what_an_earlier_one_left_running(tmp_path: Path) -> None:
    """No configuration stays RUNNING for ever, and an undisturbed study's proposals are proposed."""
    calm = make_ledger(None, "tpe")
    undisturbed = [calm.suggest(f"t{i}") for i in range(4)]
    ledger = make_ledger(tmp_path, "tpe")
    assert [ledger.suggest("a"), ledger.suggest("b")] == undisturbed[:2]
    # killed while it proposed the third: only the trial is there, and nothing of what it holds
    ledger.study.ask()
    later = make_ledger(tmp_path, "tpe")
    assert [later.suggest(trial) for trial in "wxyz"] == undisturbed
    assert states(later) == [RUNNING] * 4


def test_a_driver_that_died_before_it_told_the_study_tells_it_now(tmp_path: Path, monkeypatch: Any) -> None:
    ledger = make_ledger(tmp_path)
    ledger.suggest("a")
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ledger.end("a", report(ledger, "a", 1.0, 2.0))
    assert states(ledger) == [RUNNING]
    later = make_ledger(tmp_path)
    assert states(later) == [COMPLETE] and later.study.trials[0].value == 2.0


def test_optuna_shows_the_study() -> None:
    """The pictures and tables that Optuna makes of a study, whatever states its trials have."""
    ledger = make_ledger(None, replicates=2)
    for number in range(5):
        for replicate in range(2):
            trial = f"{number}-{replicate}"
            config = ledger.suggest(trial)
            assert config is not None
            if number < 4:
                score = config["search.ssim_weight"] + replicate
                last = report(ledger, trial, score, score + 1, score + 2, finished=number != 1)
                ledger.end(trial, last, failed=number == 2)
    assert states(ledger) == [COMPLETE, PRUNED, FAIL, COMPLETE, RUNNING]
    table = ledger.study.trials_dataframe()
    assert list(table["state"]) == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE", "RUNNING"]
    assert set(table["user_attrs_best seed"].dropna()) == {4, 6, 10}
    curves = optuna.visualization.matplotlib.plot_intermediate_values(ledger.study)
    assert sorted(len(line.get_xdata()) for line in curves.get_lines()) == [2, 2, 3]
    history = optuna.visualization.matplotlib.plot_optimization_history(ledger.study)
    assert len(history.collections[0].get_offsets()) == 2
    optuna.visualization.matplotlib.plot_timeline(ledger.study)


def test_a_ledger_without_domains_runs_one_configuration_under_its_seeds() -> None:
    ledger = make_ledger(None, "grid", replicates=3, space=SearchSpace({}))
    assert [ledger.suggest(f"t{seed}") for seed in (3, 4, 5)] == [{"seed": 3}, {"seed": 4}, {"seed": 5}]
    assert len(ledger.study.trials) == 1


def test_a_ledger_knows_conditions_and_starting_points(tmp_path: Path) -> None:
    """Also one whose driver died before all points were tried."""
    domains: Domains = {"a": IntDistribution(1, 9), "b": Conditional(IntDistribution(1, 9), {"a": (1, 2), "e": (7,)})}
    space, journal = SearchSpace(domains, {"e": 7, "b": 0, "a": 0}), f"journal:{tmp_path / 'log'}"
    first = make_ledger(tmp_path, "tpe", space=space, url=journal)
    first.study.enqueue_trial({"a": 1, "b": 5})
    first.study.enqueue_trial({"a": 4})
    assert first.suggest("x") == {"a": 1, "b": 5, "seed": 3}
    second = make_ledger(tmp_path, "tpe", space=space, url=journal)
    assert second.suggest("x again") == {"a": 1, "b": 5, "seed": 3}
    assert second.suggest("y") == {"a": 4, "seed": 4}
    others = [second.suggest(f"z{index}") for index in range(20)]
    assert all(values is not None and ("b" in values) == (values["a"] in (1, 2)) for values in others)


def test_no_more_is_suggested_when_all_seeds_have_begun_and_what_is_missing_is_counted() -> None:
    ledger = make_ledger(None, replicates=2, total=2)
    assert ledger.suggest("a") is not None and ledger.suggest("b") is not None and ledger.suggest("c") is None
    assert not ledger.finished() and ledger.missing() == 2
    ledger.end("a", report(ledger, "a", 1.0))
    assert not ledger.finished() and ledger.missing() == 1
    ledger.end("b", failed=True)
    assert ledger.finished() and ledger.missing() == 0 and ledger.suggest("c") is None


def test_what_a_trial_came_to_is_told_when_it_has_ended() -> None:
    ledger = make_ledger(None)
    ledger.suggest("a")
    ledger.suggest("b")
    last = report(ledger, "a", 20.0, 21.0)
    assert ledger.outcome("a") == {} and ledger.outcome("unknown") == {}
    ledger.end("a", last)
    ledger.note("b", error="no memory")
    ledger.end("b", failed=True)
    assert ledger.outcome("a") == {"score": 21.0, "digest": "abc", "finished": True}
    assert ledger.outcome("b") == {"error": "no memory", "finished": False}
    assert ledger.order("a") < ledger.order("b") < ledger.order("unknown")
