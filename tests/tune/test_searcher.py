"""What Ray Tune and a study's ledger say to each other."""

import pickle
from pathlib import Path

import pytest
from ledger_cases import COMPLETE, FAIL, RUNNING, make_ledger, report, states
from ray.tune.search import Searcher

from irnas_ray.hpo.ledger import Known
from irnas_ray.hpo.rungs import Verdict
from irnas_ray.tune.searcher import StudySearch


def test_a_search_waits_while_as_many_trials_run_as_may_and_is_finished_when_all_have_ended() -> None:
    search = StudySearch(make_ledger(None, replicates=2, milestones=[1], total=2))
    assert search.set_max_concurrency(1)
    first = search.suggest("a")
    assert isinstance(first, dict) and search.suggest("b") is None
    # a trial that waits at a rung leaves its place
    report(search.ledger, "a", 1.0, finished=False)
    assert search.suggest("b") == {**first, "seed": 4}
    assert search.suggest("c") is None
    search.on_trial_complete("a", report(search.ledger, "a", 1.0, 2.0))
    assert search.suggest("c") is None
    search.on_trial_complete("b", error=True)
    assert search.suggest("c") == Searcher.FINISHED == "FINISHED"


def test_the_ledger_hears_of_reports_and_ends() -> None:
    search = StudySearch(make_ledger(None))
    for trial in "abc":
        search.suggest(trial)
    search.on_trial_result("a", {"score": 1.0, "epoch": 1})
    assert search.ledger.study.trials[0].intermediate_values == {1: 1.0}
    search.on_trial_complete("a", {"score": 2.0, "epoch": 2, "finished": True})
    search.on_trial_complete("b", None, True)
    assert states(search.ledger) == [COMPLETE, FAIL, RUNNING]
    assert search.ledger.study.trials[0].value == 2.0
    search.on_trial_complete("unknown", {"score": 3.0, "epoch": 2, "finished": True})
    search.on_trial_result("unknown", {"score": 3.0, "epoch": 2})


@pytest.mark.parametrize("pickled", [False, True])
def test_a_restored_search_reads_the_storage_again(tmp_path: Path, pickled: bool) -> None:
    """Tune makes the search anew, or pickles it with its own settings; then it calls restore and names its trials."""
    search = StudySearch(make_ledger(tmp_path, replicates=2, milestones=[1]))
    search.suggest("kept")
    report(search.ledger, "kept", 1.0, finished=False)
    search.save(str(tmp_path / "search.pkl"))
    lost = search.suggest("lost")
    other = StudySearch(make_ledger(tmp_path, replicates=2, milestones=[1]))
    if pickled:
        other = pickle.loads(pickle.dumps(search))
    other.restore(str(tmp_path / "search.pkl"))
    other.ledger.know("kept", Known(1))
    other.ledger.adopt()
    assert other.ledger.verdict("kept", 1) == Verdict.WAIT
    assert other.suggest("again") == lost
    other.on_trial_complete("again", report(other.ledger, "again", 3.0, 23.0))
    other.on_trial_complete("kept", report(other.ledger, "kept", 1.0, 21.0))
    assert states(other.ledger) == [COMPLETE] and other.ledger.study.trials[0].value == 22.0
