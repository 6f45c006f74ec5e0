"""The ledger of a study's seeds, as its storage has them: proposed, running, waiting at a rung, lost, or ended."""

import math
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from irnas_ray.hpo.configuration import BEYOND, REFUSED, REPEATED, Configuration, set_constraint
from irnas_ray.hpo.methods import Method
from irnas_ray.hpo.plan import StudyPlan
from irnas_ray.hpo.replicate import ENDED, Replicate, finite_values
from irnas_ray.hpo.rungs import Rungs, Verdict
from irnas_ray.hpo.samplers import DEAF_TO_REFUSALS
from irnas_ray.settings.study import short_values

#: Proposals in a row that may be beyond the limits before the study gives up.
MOST_REFUSED = 1000
#: How often what a starting point leaves open is drawn again until all of it is within the limits.
MOST_COMPLETIONS = 100
#: User attribute of a starting point that was drawn again: how often.
DRAWN_AGAIN = "completed before"
#: Seconds between two lines about them.
BETWEEN_LINES = 10


class LimitsUnmet(BaseException):
    """No proposal lies within the limits of the study.

    No Exception: Tune takes those that a search algorithm raises for failures of a trial and runs it again.
    """


@dataclass(frozen=True)
class Known:
    """What Tune knows of a trial after a restart."""

    #: The last epoch that it reported, 0 before the first.
    epoch: int
    #: Whether it is over for Tune, and whether it failed.
    ended: bool = False
    failed: bool = False
    #: Its last report.
    last: dict[str, Any] | None = None


class Ledger:
    """Optuna proposes configurations; each runs under several seeds and is told once, with the mean.

    A seed runs as one trial, named by its id. Trials report the objectives' metrics and ``epoch`` with every report,
    ``finished=True`` with the last one, and ``error`` where they gave up. All state is in the study's storage, from
    which it is read again after a restart; pickled, the ledger holds its arguments only. Tune writes the files of its
    own state one after the other, so that those of a killed driver may not fit each other: only its list of trials is
    asked for, and how many there are to be is for the study to say.

    Args:
        plan: The study, which exists in its storage (``claim_study``).
        total: Seeds that the study is to have, those of earlier rounds included.
        ended: Trials of earlier runs of Tune that ended; all others that the study believes running are lost.
    """

    def __init__(self, plan: StudyPlan, total: int = sys.maxsize, ended: Iterable[str] = ()) -> None:
        self.plan, self.total, self._ended_before = plan, total, frozenset(ended)
        self.load()
        self.adopt()

    def load(self) -> None:
        """Read everything from the storage; trials of which Tune may know no more are still to be adopted."""
        plan = self.plan
        #: The Optuna study.
        self.study = optuna.load_study(study_name=plan.name, storage=plan.storage)
        self._rungs = Rungs(plan.milestones, plan.factor, [objective.maximise for objective in plan.objectives])
        self._configurations: dict[int, Configuration] = {}
        #: Id of a trial -> its configuration and seed.
        self._trials: dict[str, tuple[Configuration, Replicate]] = {}
        #: What Tune knows of its trials after a restart, by id; None when that was taken up.
        self._known: dict[str, Known] | None = {}
        for trial in self.study.get_trials(deepcopy=False):
            # one that waits was enqueued, and one without a record was not yet proposed in full
            if trial.state != TrialState.WAITING and "replicates" in trial.user_attrs:
                self._add(trial)
        for configuration in self._configurations.values():
            configuration.tell()
            self._rungs.decide(configuration.number)

    def know(self, trial_id: str, known: Known) -> None:
        """Take notice of a trial that Tune still has after a restart."""
        if self._known is not None:
            self._known[trial_id] = known

    def adopt(self) -> None:
        """After a restart, when Tune has named all its trials: suggest again the seeds whose trials it has lost.

        What has ended stays so, whether Tune knows it or not. Does nothing a second time.
        """
        if self._known is None:
            return
        known, self._known = self._known, None
        for trial_id, (configuration, replicate) in list(self._trials.items()):
            if configuration.told or replicate.state in ENDED or trial_id in self._ended_before:
                continue
            if trial_id in known:
                replicate.set_back(known[trial_id].epoch)
            else:
                del self._trials[trial_id]
                replicate.lose()
                self._rungs.enter(configuration.number, configuration.running())
        for trial_id, trial in known.items():
            if trial.ended:
                self.end(trial_id, trial.last, trial.failed)

    def suggest(self, trial_id: str, limit: int = sys.maxsize) -> dict[str, Any] | None:
        """A configuration and one of its seeds, for a trial; None while ``limit`` trials are active, or all have begun.

        Trials that wait at a rung are not active.
        """
        self.adopt()
        if trial_id not in self._trials:
            waiting = next((found for found in self._configurations.values() if found.next_waiting()), None)
            if (waiting is None and self._begun() >= self.total) or self._active() >= limit:
                return None
            self._begin(waiting or self._propose(), trial_id)
        configuration, replicate = self._trials[trial_id]
        return {**configuration.params, "seed": replicate.seed}

    def finished(self) -> bool:
        """Whether there are as many seeds as the study is to have, and all have ended."""
        running = any(configuration.running() for configuration in self._configurations.values())
        return not running and self._begun() >= self.total

    def missing(self) -> int:
        """How many of the ``total`` seeds have not ended, as the storage has it now.

        A copy of this ledger may have written there.
        """
        names = {state.name for state in ENDED}
        trials = self.study.get_trials(deepcopy=False)
        ended = [seed for trial in trials for seed in trial.user_attrs.get("replicates", []) if seed["state"] in names]
        return self.total - len(ended)

    def report(self, trial_id: str, result: Mapping[str, Any]) -> Verdict:
        """Keep what a trial reported, and say what it is to do; a score that is not finite ends it."""
        if trial_id not in self._trials:
            return Verdict.GO_ON
        configuration, replicate = self._trials[trial_id]
        values = finite_values(result, self.plan.metrics)
        if values is None:
            return Verdict.STOP
        # before the verdict: Tune tells of a trial that is stopped only later, and after a restart without its result
        self.record(trial_id, result)
        if result.get("finished"):
            return Verdict.GO_ON
        verdict = self._rungs.report(configuration.number, replicate.seed, int(result["epoch"]), values)
        configuration.keep_rungs(self._rungs.standings(configuration.number))
        return verdict

    def record(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Keep what a trial reported, and decide nothing."""
        if trial_id in self._trials:
            configuration, replicate = self._trials[trial_id]
            values = finite_values(result, self.plan.metrics)
            if values is not None:
                configuration.report(replicate.seed, int(result["epoch"]), values, result)

    def verdict(self, trial_id: str, epoch: int) -> Verdict:
        """What a trial that does not run is to do, ``epoch`` being the last that it finished."""
        if trial_id not in self._trials:
            return Verdict.GO_ON
        configuration, replicate = self._trials[trial_id]
        if replicate.state in ENDED:
            # Tune's state is older than its end
            return Verdict.STOP
        return self._rungs.verdict(configuration.number, replicate.seed, epoch)

    def end(self, trial_id: str, result: Mapping[str, Any] | None = None, failed: bool = False) -> None:
        """Note how a trial ended; with the last seed of a configuration the study is told."""
        if trial_id not in self._trials:
            return
        configuration, replicate = self._trials[trial_id]
        if result and not failed:
            # where the scheduler stopped it, this is the first that is heard of its last report
            self.record(trial_id, result)
        state, error = replicate.ending(self.plan.metrics, result or {}, failed)
        configuration.end(replicate.seed, state, error)
        self._rungs.end(configuration.number, replicate.seed, state == TrialState.FAIL)
        configuration.keep_rungs(self._rungs.standings(configuration.number))

    def note(self, trial_id: str, folder: str | None = None, error: str | None = None) -> None:
        """Keep where a trial's files are, and the error that it died of."""
        if trial_id in self._trials:
            replicate = self._trials[trial_id][1]
            replicate.folder = folder or replicate.folder
            replicate.error = error or replicate.error

    def order(self, trial_id: str) -> tuple[float, int]:
        """Trials with smaller order run first: the seeds of older configurations."""
        if trial_id not in self._trials:
            return math.inf, 0
        configuration, replicate = self._trials[trial_id]
        return configuration.number, replicate.seed

    def outcome(self, trial_id: str) -> dict[str, Any]:
        """The last report of a trial that has ended, as far as the study keeps it; empty for others."""
        if trial_id not in self._trials or self._trials[trial_id][1].state not in ENDED:
            return {}
        return self._trials[trial_id][1].outcome(self.plan.metrics)

    def _begun(self) -> int:
        return sum(len(configuration.replicates) for configuration in self._configurations.values())

    def _active(self) -> int:
        """Trials that run, or would if there were room."""
        return sum(
            replicate.state == TrialState.RUNNING
            and self._rungs.verdict(configuration.number, replicate.seed, replicate.epoch) != Verdict.WAIT
            for configuration, replicate in self._trials.values()
        )

    def _begin(self, configuration: Configuration, trial_id: str) -> None:
        replicate = configuration.next_waiting()
        assert replicate is not None
        configuration.begin(replicate.seed, trial_id)
        self._trials[trial_id] = configuration, replicate

    def _add(self, trial: FrozenTrial) -> Configuration:
        plan = self.plan
        first = plan.seed + trial.number * plan.replicates
        seeds = range(first, first + plan.replicates)
        configuration = Configuration(self.study, plan.storage, plan.objectives, trial, seeds, plan.limits)
        self._configurations[trial.number] = configuration
        self._rungs.enter(trial.number, configuration.running(), configuration.rungs)
        for replicate in configuration.replicates.values():
            if replicate.trial is not None:
                self._trials[replicate.trial] = configuration, replicate
        return configuration

    def _propose(self) -> Configuration:
        """A new configuration within the limits; those beyond are told to the study as such and cost nothing."""
        said, told = "", time.monotonic()
        refused = given = 0
        while refused - given < MOST_REFUSED:
            if time.monotonic() - told > BETWEEN_LINES:
                told = time.monotonic()
                print(f"[search] {refused} proposals in a row are beyond the limits, the last with {said}", flush=True)
            trial_id = self._ask()
            beyond = self._beyond(trial_id)
            if not beyond:
                self._count_refused(trial_id)
                return self._add(self.plan.storage.get_trial(trial_id))
            said = ", ".join(f"{cost:.0f} {metric}" for metric, cost in beyond.items())
            refused += 1
            given += self._refuse(trial_id, beyond, said)
        assert self.plan.limits is not None
        limits = ", ".join(f"{metric} at most {most:g}" for metric, most in self.plan.limits.most.items())
        raise LimitsUnmet(
            f"none of the last {MOST_REFUSED} proposals has a network within the limits ({limits}; the last one had "
            f"{said})"
        )

    def _refuse(self, trial_id: int, beyond: dict[str, float], said: str) -> bool:
        """Tell the study that a proposal is beyond the limits; whether it was a starting point."""
        storage = self.plan.storage
        trial = storage.get_trial(trial_id)
        point = trial.system_attrs.get("fixed_params")
        if point is not None:
            # before the study is told: a driver that dies in between leaves the point twice, and does not lose it
            drawn = trial.user_attrs.get(DRAWN_AGAIN, 0) + 1
            if drawn < MOST_COMPLETIONS and trial.params.keys() - point.keys():
                self.study.enqueue_trial(point, user_attrs={DRAWN_AGAIN: drawn})
            else:
                tried = f" in each of {drawn} completions, the last" if drawn > 1 else ""
                given = short_values(point)
                print(
                    f"[search] a starting point is beyond the limits{tried} with {said}, and left out: {given}",
                    flush=True,
                )
        storage.set_trial_user_attr(trial_id, BEYOND, beyond)
        self.study.tell(trial.number, state=TrialState.PRUNED)
        return point is not None

    def _beyond(self, trial_id: int) -> dict[str, float]:
        """What a proposal costs where that is beyond a limit; its trial tells Optuna all costs as constraints."""
        limits, storage = self.plan.limits, self.plan.storage
        if limits is None:
            return {}
        costs = limits.known(storage.get_trial(trial_id).params)
        excess = limits.excess(costs)
        for metric, share in excess.items():
            set_constraint(storage, trial_id, limits.name_of(metric), share)
        return {metric: costs[metric] for metric, share in excess.items() if share > 0}

    def _count_refused(self, trial_id: int) -> None:
        """Note with a proposal how many were refused since the one before it, by an earlier driver too."""
        trials = self.study.get_trials(deepcopy=False)
        refused = sum(BEYOND in trial.user_attrs for trial in trials)
        refused -= sum(trial.user_attrs.get(REFUSED, 0) for trial in trials)
        if refused:
            self.plan.storage.set_trial_user_attr(trial_id, REFUSED, refused)

    def _ask(self) -> int:
        """The id of a trial with a proposal, made by a sampler made anew for it."""
        plan = self.plan
        states = [state for state in TrialState if state != TrialState.WAITING]
        trials = self.study.get_trials(deepcopy=False, states=states)
        half = [trial for trial in trials if trial.state == TrialState.RUNNING and "replicates" not in trial.user_attrs]
        number = half[0].number if half else len(trials)
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        # a model may propose the same thing again and again
        again = any(DRAWN_AGAIN in trial.user_attrs for trial in (half or waiting)[:1])
        if plan.space.architecture is None and plan.sampler in DEAF_TO_REFUSALS:
            last = [trial for trial in trials if trial not in half][-1:]
            again = again or any(BEYOND in trial.user_attrs for trial in last)
        self.study.sampler = (plan.drawing_uniformly() if again else plan).make_sampler(number)
        study_id = plan.storage.get_study_id_from_name(plan.name)
        if half:
            # the driver died while it was proposed
            trial_id = plan.storage.get_trial_id_from_study_id_trial_number(study_id, number)
            trial = optuna.Trial(self.study, trial_id)
        else:
            trial = self.study.ask()
        plan.space.propose(trial)
        if isinstance(self.study.sampler, Method) and self.study.sampler.repeated:
            trial.set_user_attr(REPEATED, self.study.sampler.repeated)
        return plan.storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)

    def __getstate__(self) -> dict[str, Any]:
        return {"plan": self.plan, "total": self.total, "_ended_before": self._ended_before}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.load()
