"""The bridge from Ray Tune to the Optuna study: what is suggested, and what the study is told.

Ray's own ``OptunaSearch`` records stopped trials as complete and NaN as running for ever, and knows nothing of seeds.
"""

import math
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from irnas_ray.domains import Domains, propose
from irnas_ray.objectives import OBJECTIVES, Objective
from irnas_ray.replicates import ENDED, Configuration, Replicate
from irnas_ray.rungs import Rungs, Values, Verdict
from irnas_ray.samplers import make_sampler


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


class StudySearch(Searcher):
    """Optuna proposes configurations; each runs under ``replicates`` seeds and is told once, with the mean.

    Trials report the objectives' metrics and ``epoch`` with every report, ``finished=True`` with the last one, and
    ``error`` where they gave up. All state is in the study's storage, from which it is read again after a restart. Tune
    writes the files of its own state one after the other, so that those of a killed driver may not fit each other: only
    its list of trials is asked for, and how many there are to be is for the study to say.

    Args:
        domains: Dotted key of a setting -> its distribution.
        study_name, storage: The study, which exists (``claim_study``).
        sampler: Name of the Optuna sampler.
        seed: Of the sampler, and of the first trial; replicate r of configuration n has seed + n * replicates + r.
        replicates: Seeds of each configuration.
        objectives: What is told to Optuna.
        milestones, factor: Rungs of the early stopping, see ``Rungs``; it takes ``ConfigurationHalving`` as scheduler.
        fixed: The study's own values of what conditions name (``domains.fixed_values``).
        ended: Trials of earlier runs of Tune that ended; all others that the study believes running are lost.
        total: Seeds that the study is to have, those of earlier rounds included.
    """

    def __init__(
        self,
        domains: Domains,
        study_name: str,
        storage: optuna.storages.BaseStorage,
        sampler: str = "tpe",
        seed: int = 0,
        replicates: int = 1,
        objectives: Sequence[Objective] = (OBJECTIVES["score"],),
        milestones: Sequence[int] = (),
        factor: int = 3,
        fixed: Mapping[str, Any] | None = None,
        ended: Iterable[str] = (),
        total: int = sys.maxsize,
    ) -> None:
        # Tune is not told the metrics: one that is missing from a report would end the whole study
        super().__init__()
        self._objectives = list(objectives)
        self._domains, self._study_name, self._storage = dict(domains), study_name, storage
        self._sampler, self._seed, self._replicates = sampler, seed, replicates
        self._milestones, self._factor = list(milestones), factor
        self._fixed, self._ended_before, self._total = dict(fixed or {}), set(ended), total
        #: Most trials at a time.
        self.limit = sys.maxsize
        #: After a restart, until they are adopted: what Tune knows of its trials, by id.
        self._known: dict[str, Known] | None = {}
        self._load()
        self.adopt()

    @property
    def _metrics(self) -> list[str]:
        return [objective.metric for objective in self._objectives]

    def _load(self) -> None:
        self.study = optuna.load_study(study_name=self._study_name, storage=self._storage)
        maximise = [objective.maximise for objective in self._objectives]
        self._rungs = Rungs(self._milestones, self._factor, maximise)
        self._configurations: dict[int, Configuration] = {}
        #: Id of a Tune trial -> its configuration and seed.
        self._trials: dict[str, tuple[Configuration, Replicate]] = {}
        for trial in self.study.get_trials(deepcopy=False):
            # one that waits was enqueued, and one without a record was not yet proposed in full
            if trial.state != TrialState.WAITING and "replicates" in trial.user_attrs:
                self._add(trial)
        for configuration in self._configurations.values():
            configuration.tell()
            self._rungs.decide(configuration.number)

    def _add(self, trial: FrozenTrial) -> Configuration:
        first = self._seed + trial.number * self._replicates
        seeds = range(first, first + self._replicates)
        configuration = Configuration(self.study, self._storage, self._objectives, trial, seeds)
        self._configurations[trial.number] = configuration
        self._rungs.enter(trial.number, configuration.running(), configuration.rungs)
        for replicate in configuration.replicates.values():
            if replicate.trial is not None:
                self._trials[replicate.trial] = configuration, replicate
        return configuration

    def know(self, trial_id: str, known: "Known") -> None:
        """Take notice of a trial that Tune still has after a restart."""
        if self._known is not None:
            self._known[trial_id] = known

    def adopt(self) -> None:
        """After a restart, when Tune has named all its trials: suggest again the seeds whose trials it has lost.

        What has ended stays so, whether Tune knows it or not.
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
                self.on_trial_complete(trial_id, trial.last, trial.failed)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """A configuration and one of its seeds; None while as many run as may or all do, FINISHED when all have ended.

        Tune saves that it heard of the end: told earlier it would ask no more for seeds that are lost with a driver.
        """
        self.adopt()
        if trial_id not in self._trials:
            configuration = next((c for c in self._configurations.values() if c.next_waiting()), None)
            if configuration is None and self._begun() >= self._total:
                running = any(found.running() for found in self._configurations.values())
                return None if running else str(Searcher.FINISHED)
            if self._active() >= self.limit:
                return None
            configuration = configuration or self._add(self._ask())
            replicate = configuration.next_waiting()
            assert replicate is not None
            configuration.begin(replicate.seed, trial_id)
            self._trials[trial_id] = configuration, replicate
        configuration, replicate = self._trials[trial_id]
        return {**configuration.params, "seed": replicate.seed}

    def _begun(self) -> int:
        return sum(len(configuration.replicates) for configuration in self._configurations.values())

    def missing(self) -> int:
        """How many of the ``total`` seeds have not ended, as the study's storage has it now."""
        ended = {state.name for state in ENDED}
        trials = self.study.get_trials(deepcopy=False)
        return self._total - sum(
            replicate["state"] in ended for trial in trials for replicate in trial.user_attrs.get("replicates", [])
        )

    def _ask(self) -> FrozenTrial:
        """A new configuration, proposed by a sampler made anew for it."""
        states = [state for state in TrialState if state != TrialState.WAITING]
        trials = self.study.get_trials(deepcopy=False, states=states)
        half = [trial for trial in trials if trial.state == TrialState.RUNNING and "replicates" not in trial.user_attrs]
        number = half[0].number if half else len(trials)
        self.study.sampler = make_sampler(
            self._sampler, self._seed, number, self._domains, len(self._objectives), self._fixed
        )
        study_id = self._storage.get_study_id_from_name(self._study_name)
        if half:
            # the driver died while it was proposed
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
            trial = optuna.Trial(self.study, trial_id)
        else:
            trial = self.study.ask()
        propose(trial, self._domains, self._fixed)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        return self._storage.get_trial(trial_id)

    def judge(self, trial_id: str, result: Mapping[str, Any]) -> Verdict:
        """What a trial that reports is to do; a score that is not finite ends it."""
        if trial_id not in self._trials:
            return Verdict.GO_ON
        configuration, replicate = self._trials[trial_id]
        values = self._values(result)
        if values is None:
            return Verdict.STOP
        # before the verdict: Tune tells of a trial that is stopped only later, and after a restart without its result
        configuration.report(replicate.seed, int(result["epoch"]), values, result)
        if result.get("finished"):
            return Verdict.GO_ON
        verdict = self._rungs.report(configuration.number, replicate.seed, int(result["epoch"]), values)
        configuration.keep_rungs(self._rungs.standings(configuration.number))
        return verdict

    def verdict(self, trial_id: str, epoch: int) -> Verdict:
        """What a trial that does not run is to do, ``epoch`` being the last that it finished."""
        if trial_id not in self._trials:
            return Verdict.GO_ON
        configuration, replicate = self._trials[trial_id]
        if replicate.state in ENDED:
            # Tune's state is older than its end
            return Verdict.STOP
        return self._rungs.verdict(configuration.number, replicate.seed, epoch)

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
        replicate = self._trials[trial_id][1]
        found = replicate.found | dict(zip(self._metrics, replicate.values or (), strict=False))
        error = {"error": replicate.error} if replicate.error else {}
        return found | error | {"finished": replicate.state == TrialState.COMPLETE}

    def note(self, trial_id: str, folder: str | None = None, error: str | None = None) -> None:
        """Keep where a trial's files are, and the error that it died of."""
        if trial_id in self._trials:
            replicate = self._trials[trial_id][1]
            replicate.folder = folder or replicate.folder
            replicate.error = error or replicate.error

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep what a trial reported."""
        if trial_id in self._trials:
            configuration, replicate = self._trials[trial_id]
            values = self._values(result)
            if values is not None:
                configuration.report(replicate.seed, int(result["epoch"]), values, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note how a trial ended; with the last seed of a configuration the study is told."""
        if trial_id not in self._trials:
            return
        configuration, replicate = self._trials[trial_id]
        if result and not error:
            # where the scheduler stopped it, this is the first that is heard of its last report
            self.on_trial_result(trial_id, result)
        state, text = self._ended(replicate, result or {}, error)
        configuration.end(replicate.seed, state, text)
        self._rungs.end(configuration.number, replicate.seed, state == TrialState.FAIL)
        configuration.keep_rungs(self._rungs.standings(configuration.number))

    def _ended(self, replicate: Replicate, result: Mapping[str, Any], error: bool) -> tuple[TrialState, str | None]:
        if error:
            return TrialState.FAIL, replicate.error or "the trial died"
        if result.get("error"):
            return TrialState.FAIL, str(result["error"])
        wrong = [metric for metric in self._metrics if not _is_finite(result.get(metric))]
        if wrong and "epoch" in result:
            return TrialState.FAIL, f"{wrong[0]} is {result.get(wrong[0])} after epoch {result['epoch']}"
        if replicate.values is None:
            return TrialState.FAIL, "the trial ended without a report"
        return (TrialState.COMPLETE if result.get("finished") else TrialState.PRUNED), None

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Let at most so many trials run, not counting those that wait at a rung."""
        self.limit = max_concurrent
        return True

    def _active(self) -> int:
        """Trials that run, or would if there were room."""
        return sum(
            replicate.state == TrialState.RUNNING
            and self._rungs.verdict(configuration.number, replicate.seed, replicate.epoch) != Verdict.WAIT
            for configuration, replicate in self._trials.values()
        )

    def _values(self, result: Mapping[str, Any]) -> Values | None:
        values = [result.get(metric) for metric in self._metrics]
        return tuple(map(float, values)) if all(map(_is_finite, values)) else None  # type: ignore[arg-type]

    def save(self, checkpoint_path: str) -> None:
        """Write a file, as Tune expects one; everything is in the study's storage."""
        Path(checkpoint_path).write_bytes(pickle.dumps(None))

    def restore(self, checkpoint_path: str) -> None:
        """Go on from the study's storage; Tune then names the trials that it still has."""
        self._load()
        self._known = {}

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("study", "_rungs", "_configurations", "_trials"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._load()


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
