"""Which trials of Ray Tune run: successive halving of configurations, or all in turn; and where a trial's files lie.

The halving holds no state: where every configuration stands is kept by the ledger in the study's storage, so that rungs
survive a killed driver (Tune saves no scheduler's state).
"""

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from irnas_ray.hpo.ledger import Known, Ledger
from irnas_ray.hpo.rungs import Verdict
from irnas_ray.progress.internals import last_line
from irnas_ray.tune.internals import keep_in_place, last_report, leave_waiting, live_trials, searcher_of, stop_waiting
from irnas_ray.tune.searcher import StudySearch

DECISIONS = {
    Verdict.GO_ON: TrialScheduler.CONTINUE,
    Verdict.WAIT: TrialScheduler.PAUSE,
    Verdict.STOP: TrialScheduler.STOP,
}


class ConfigurationHalving(TrialScheduler):
    """Runs the trials of a ``StudySearch``; a seed waits, without resources, until its configuration's fate is decided.

    With one seed for each configuration none waits, as in ASHA. Where the search has no rungs, all trials run to the
    end. There are never more running trials than the search's limit, after a restart either.
    """

    @property
    def supports_buffered_results(self) -> bool:
        """No: Tune is to ask after each report."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self._restarted = True

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Let the search know, after a restart, that Tune still has a trial."""
        take_up(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Go on, pause or stop, as the search says."""
        ledger = ledger_of(tune_controller)
        ledger.note(trial.trial_id, folder=trial.path)
        return DECISIONS[ledger.report(trial.trial_id, result)]

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Keep the error for the study; it is told if the trial is not tried again."""
        note_error(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Nothing: the search is told by Tune."""

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Nothing: the search is told by Tune."""

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The next trial that may run; before that, trials are stopped or left waiting whose rung was decided since."""
        limit, ledger = search_of(tune_controller).limit, ledger_of(tune_controller)
        if self._restarted:
            self._restarted = False
            ledger.adopt()
            for trial in self._ready(tune_controller, Trial.PENDING)[limit:]:
                leave_waiting(tune_controller, trial)
        for trial in _in_order(tune_controller, Trial.PENDING, Trial.PAUSED):
            verdict = ledger.verdict(trial.trial_id, epoch_of(trial))
            if verdict == Verdict.STOP:
                stop_waiting(tune_controller, trial, {**trial.last_result, **ledger.outcome(trial.trial_id)})
            elif verdict == Verdict.WAIT and trial.status == Trial.PENDING:
                leave_waiting(tune_controller, trial)
        active = _in_order(tune_controller, Trial.PENDING, Trial.RUNNING)
        paused = self._ready(tune_controller, Trial.PAUSED)
        if paused and len(active) < limit:
            return paused[0]
        return next((trial for trial in active if trial.status == Trial.PENDING), None)

    def _ready(self, tune_controller: Any, status: str) -> list[Trial]:
        ledger = ledger_of(tune_controller)
        return [
            trial
            for trial in _in_order(tune_controller, status)
            if ledger.verdict(trial.trial_id, epoch_of(trial)) == Verdict.GO_ON
        ]

    def debug_string(self) -> str:
        """What Tune's status shows."""
        return "Successive halving of configurations"


def take_up(tune_controller: Any, trial: Trial) -> None:
    """Let a trial that is added to Tune's list lie in the folder of its run, and the search know of it.

    After a restart Tune adds those that it still has.
    """
    keep_in_place(tune_controller, trial)
    ledger = ledger_of(tune_controller)
    failed = trial.status == Trial.ERROR
    if failed:
        ledger.note(trial.trial_id, error=last_line(trial))
    known = Known(epoch_of(trial), failed or trial.status == Trial.TERMINATED, failed, trial.last_result)
    ledger.know(trial.trial_id, known)


def note_error(tune_controller: Any, trial: Trial) -> None:
    """Keep the error that a trial died of for the study, and where its files are."""
    ledger_of(tune_controller).note(trial.trial_id, folder=trial.path, error=last_line(trial))


def search_of(tune_controller: Any) -> StudySearch:
    """The search whose trials Tune runs."""
    return searcher_of(tune_controller, StudySearch)


def ledger_of(tune_controller: Any) -> Ledger:
    """The ledger of the study whose trials Tune runs."""
    return search_of(tune_controller).ledger


def _in_order(tune_controller: Any, *states: str) -> list[Trial]:
    ledger = ledger_of(tune_controller)
    trials = [trial for trial in live_trials(tune_controller) if trial.status in states]
    return sorted(trials, key=lambda trial: ledger.order(trial.trial_id))


def epoch_of(trial: Trial) -> int:
    """The last epoch that a trial reported, 0 before the first."""
    return int(last_report(trial).get("epoch", 0))


class InPlaceScheduler(FIFOScheduler):
    """Runs all trials to their end, in the order in which they were added."""

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Let it lie in the folder of its run."""
        keep_in_place(tune_controller, trial)
