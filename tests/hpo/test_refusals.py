"""Configurations beyond the limits: refused before they cost anything, told to Optuna as such, counted by nobody."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from ledger_cases import COMPLETE, PRUNED, RUNNING, make_ledger, report, states

from irnas_ray.hpo import ledger as ledger_module
from irnas_ray.hpo.ledger import Ledger, LimitsUnmet
from irnas_ray.hpo.objectives import Limits
from irnas_ray.hpo.records import ended_since, records_of


def thousands(values: Mapping[str, Any]) -> dict[str, float]:
    return {"parameters": 1000 * values["architecture.nodes"]}


#: Nodes are 2 to 5.
LIMITS = Limits({"parameters": 2500}, thousands, exact=True)


def refused(ledger: Ledger) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in ledger.study.trials if "beyond the limits" in trial.user_attrs]


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "gp"])
def test_what_is_proposed_beyond_the_limits_is_no_trial(sampler: str) -> None:
    ledger = make_ledger(None, sampler, limits=LIMITS, total=8)
    for number in range(8):
        suggested = ledger.suggest(f"t{number}")
        assert suggested is not None and suggested["architecture.nodes"] == 2
        ledger.end(f"t{number}", report(ledger, f"t{number}", 20.0 + number, parameters=2000))
    assert ledger.finished() and ledger.missing() == 0
    beyond = refused(ledger)
    assert beyond and {trial.state for trial in beyond} == {PRUNED} and states(ledger).count(COMPLETE) == 8
    for trial in ledger.study.trials:
        share = 1000 * trial.params["architecture.nodes"] / 2500 - 1
        assert trial.constraints == {"parameters": pytest.approx(share)} and (share > 0) == (trial in beyond)
    records = ended_since(ledger.study, [])
    assert len(records) == 8 and sum(record.get("refused", 0) for record in records) <= len(beyond)
    assert not [record for trial in beyond for record in records_of(trial)]
    assert ledger.study.best_trial.params["architecture.nodes"] == 2


def test_gp_does_not_insist_on_what_was_refused(monkeypatch: Any) -> None:
    """The better score lies beyond the limit, of which its model learns nothing."""
    monkeypatch.setattr(ledger_module, "MOST_REFUSED", 40)
    ledger = make_ledger(None, "gp", limits=Limits({"parameters": 4500}, thousands, exact=True), total=12)
    for number in range(12):
        suggested = ledger.suggest(f"t{number}")
        assert suggested is not None
        nodes = suggested["architecture.nodes"]
        ledger.end(f"t{number}", report(ledger, f"t{number}", 20.0 + nodes, parameters=1000 * nodes))
    row = most = 0
    for trial in ledger.study.trials:
        row = row + 1 if "beyond the limits" in trial.user_attrs else 0
        most = max(most, row)
    assert ledger.finished() and 1 <= most < 10


def test_a_driver_that_died_among_refusals_goes_on_and_they_are_counted_once(tmp_path: Path, monkeypatch: Any) -> None:
    calm = make_ledger(None, limits=LIMITS)
    expected = [calm.suggest(f"t{number}") for number in range(4)]
    ledger = make_ledger(tmp_path, limits=LIMITS)
    told = 0

    def dies(*arguments: Any, **keywords: Any) -> None:
        nonlocal told
        told += 1
        if told == 2:
            raise KeyboardInterrupt

    suggested = []
    with monkeypatch.context() as patched:
        tell = optuna.Study.tell
        patched.setattr(optuna.Study, "tell", lambda self, *a, **k: (tell(self, *a, **k), dies())[0])
        with pytest.raises(KeyboardInterrupt):
            suggested += [ledger.suggest(f"t{number}") for number in range(4)]
    again = make_ledger(tmp_path, limits=LIMITS)
    begun = len([trial for trial in again.study.trials if "replicates" in trial.user_attrs])
    found = [again.suggest(f"u{number}") for number in range(4)]
    # what ran when the driver died runs again, under new names
    assert found == expected and begun < 4
    counted = sum(trial.user_attrs.get("refused", 0) for trial in again.study.trials)
    assert counted == len(refused(again)) == len(refused(calm))


def test_limits_that_nothing_meets_end_the_study_with_one_message(monkeypatch: Any) -> None:
    monkeypatch.setattr(ledger_module, "MOST_REFUSED", 5)
    ledger = make_ledger(None, limits=Limits({"parameters": 10}, thousands, exact=True))
    with pytest.raises(
        LimitsUnmet, match=r"none of the last 5 proposals .*parameters at most 10; the last one had \d000"
    ):
        ledger.suggest("t0")
    assert states(ledger) == [PRUNED] * 5 and ledger.missing() > 0


def test_what_is_known_only_at_the_end_is_told_then() -> None:
    """A supernet's trial begins where the smallest network of its space fits; the one that it finds may not."""
    limits = Limits({"parameters": 2500}, lambda values: {"parameters": 1000}, exact=False)
    ledger = make_ledger(None, limits=limits)
    for number, parameters in enumerate((2000, 5000)):
        ledger.suggest(f"t{number}")
        ledger.end(f"t{number}", report(ledger, f"t{number}", 20.0 + number, parameters=parameters))
    ledger.suggest("runs")
    trials = ledger.study.trials
    assert [trial.state for trial in trials] == [COMPLETE, COMPLETE, RUNNING]
    assert trials[0].constraints == {"least parameters": pytest.approx(-0.6), "parameters": pytest.approx(-0.2)}
    assert trials[1].constraints["parameters"] == pytest.approx(1.0) and trials[2].constraints.keys() == {
        "least parameters"
    }
    # the better score is of a network that is too large
    assert ledger.study.best_trial.number == 0


def test_starting_points_beyond_the_limits_and_long_rows_of_refusals_are_told(capsys: Any, monkeypatch: Any) -> None:
    ledger = make_ledger(None, limits=LIMITS)
    ledger.study.enqueue_trial({"architecture.nodes": 5})
    ledger.suggest("t0")
    out = capsys.readouterr().out
    said = "in each of 100 completions, the last with 5000 parameters, and left out: nodes=5\n"
    assert out.count("[search] a starting point") == 1 and said in out
    assert "in a row" not in out
    monkeypatch.setattr(ledger_module, "BETWEEN_LINES", -1)
    ledger.study.enqueue_trial({"architecture.nodes": 5, "search.ssim_weight": 0.5})
    ledger.suggest("t1")
    out = capsys.readouterr().out
    assert "a starting point is beyond the limits with 5000 parameters, and left out: nodes=5, ssim_weight=0.5" in out
    assert "[search] 1 proposals in a row are beyond the limits, the last with 5000 parameters" in out


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "gp"])
def test_what_a_starting_point_leaves_open_is_drawn_again_until_it_fits(sampler: str, capsys: Any) -> None:
    """The limit is on what was left open, which three of four draws exceed; every point is tried, and none twice."""
    ledger = make_ledger(None, sampler, limits=LIMITS, total=8)
    weights = [0.2, 0.4, 0.6, 0.8]
    for weight in weights:
        ledger.study.enqueue_trial({"search.ssim_weight": weight})
    suggested = [ledger.suggest(f"t{number}") for number in range(6)]
    assert all(one is not None and one["architecture.nodes"] == 2 for one in suggested)
    found = [one["search.ssim_weight"] for one in suggested if one is not None]
    assert sorted(found[:4]) == weights and not set(found[4:]) & set(weights)
    assert refused(ledger) and "starting point" not in capsys.readouterr().out


def test_starting_points_that_never_fit_do_not_end_a_study(monkeypatch: Any) -> None:
    monkeypatch.setattr(ledger_module, "MOST_REFUSED", 30)
    ledger = make_ledger(None, limits=LIMITS)
    for _ in range(2):
        ledger.study.enqueue_trial({"architecture.nodes": 5})
    suggested = ledger.suggest("t0")
    assert suggested is not None and suggested["architecture.nodes"] == 2
