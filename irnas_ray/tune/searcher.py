"""The bridge from Ray Tune to the Optuna study: what is suggested, and what the study is told.

Ray's own ``OptunaSearch`` records stopped trials as complete and NaN as running for ever, and knows nothing of seeds.
"""

import math
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from irnas_ray.hpo.configuration import ENDED, Replicate
from irnas_ray.hpo.ledger import Known, Seeds
from irnas_ray.hpo.objectives import OBJECTIVES, Objective
from irnas_ray.hpo.rungs import Values, Verdict
from irnas_ray.hpo.search_space import SearchSpace


class StudySearch(Searcher):
    """Optuna proposes configurations; each runs under ``replicates`` seeds and is told once, with the mean.

    Trials report the objectives' metrics and ``epoch`` with every report, ``finished=True`` with the last one, and
    ``error`` where they gave up. All state is in the study's storage, from which it is read again after a restart. Tune
    writes the files of its own state one after the other, so that those of a killed driver may not fit each other: only
    its list of trials is asked for, and how many there are to be is for the study to say.

    Args:
        space: What is tuned.
        study_name, storage: The study, which exists (``claim_study``).
        sampler: Name of the Optuna sampler.
        seed: Of the sampler, and of the first trial; replicate r of configuration n has seed + n * replicates + r.
        replicates: Seeds of each configuration.
        objectives: What is told to Optuna.
        milestones, factor: Rungs of the early stopping, see ``Rungs``; it takes ``ConfigurationHalving`` as scheduler.
        ended: Trials of earlier runs of Tune that ended; all others that the study believes running are lost.
        total: Seeds that the study is to have, those of earlier rounds included.
    """

    def __init__(
        self,
        space: SearchSpace,
        study_name: str,
        storage: optuna.storages.BaseStorage,
        sampler: str = "tpe",
        seed: int = 0,
        replicates: int = 1,
        objectives: Sequence[Objective] = (OBJECTIVES["score"],),
        milestones: Sequence[int] = (),
        factor: int = 3,
        ended: Iterable[str] = (),
        total: int = sys.maxsize,
    ) -> None:
        # Tune is not told the metrics: one that is missing from a report would end the whole study
        super().__init__()
        self._objectives = list(objectives)
        self._seeds = Seeds(
            space,
            study_name,
            storage,
            sampler,
            seed,
            replicates,
            objectives,
            milestones,
            factor,
            ended,
        )
        self._total = total
        #: Most trials at a time.
        self.limit = sys.maxsize
        self.adopt()

    @property
    def study(self) -> optuna.Study:
        """The Optuna study."""
        return self._seeds.study

    @property
    def _metrics(self) -> list[str]:
        return [objective.metric for objective in self._objectives]

    def know(self, trial_id: str, known: Known) -> None:
        """Take notice of a trial that Tune still has after a restart."""
        self._seeds.know(trial_id, known)

    def adopt(self) -> None:
        """After a restart, when Tune has named all its trials: suggest again the seeds whose trials it has lost.

        What has ended stays so, whether Tune knows it or not.
        """
        for trial_id, trial in self._seeds.adopt().items():
            self.on_trial_complete(trial_id, trial.last, trial.failed)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """A configuration and one of its seeds; None while as many run as may or all do, FINISHED when all have ended.

        Tune saves that it heard of the end: told earlier it would ask no more for seeds that are lost with a driver.
        """
        self.adopt()
        seeds = self._seeds
        if trial_id not in seeds.trials:
            configuration = seeds.waiting()
            if configuration is None and len(seeds) >= self._total:
                return None if seeds.running() else str(Searcher.FINISHED)
            if self._active() >= self.limit:
                return None
            seeds.begin(configuration or seeds.propose(), trial_id)
        configuration, replicate = seeds.trials[trial_id]
        return {**configuration.params, "seed": replicate.seed}

    def missing(self) -> int:
        """How many of the ``total`` seeds have not ended, as the study's storage has it now."""
        return self._total - self._seeds.ended()

    def judge(self, trial_id: str, result: Mapping[str, Any]) -> Verdict:
        """What a trial that reports is to do; a score that is not finite ends it."""
        if trial_id not in self._seeds.trials:
            return Verdict.GO_ON
        configuration, replicate = self._seeds.trials[trial_id]
        values = self._values(result)
        if values is None:
            return Verdict.STOP
        # before the verdict: Tune tells of a trial that is stopped only later, and after a restart without its result
        configuration.report(replicate.seed, int(result["epoch"]), values, result)
        if result.get("finished"):
            return Verdict.GO_ON
        verdict = self._seeds.rungs.report(configuration.number, replicate.seed, int(result["epoch"]), values)
        configuration.keep_rungs(self._seeds.rungs.standings(configuration.number))
        return verdict

    def verdict(self, trial_id: str, epoch: int) -> Verdict:
        """What a trial that does not run is to do, ``epoch`` being the last that it finished."""
        if trial_id not in self._seeds.trials:
            return Verdict.GO_ON
        configuration, replicate = self._seeds.trials[trial_id]
        if replicate.state in ENDED:
            # Tune's state is older than its end
            return Verdict.STOP
        return self._seeds.rungs.verdict(configuration.number, replicate.seed, epoch)

    def order(self, trial_id: str) -> tuple[float, int]:
        """Trials with smaller order run first: the seeds of older configurations."""
        if trial_id not in self._seeds.trials:
            return math.inf, 0
        configuration, replicate = self._seeds.trials[trial_id]
        return configuration.number, replicate.seed

    def outcome(self, trial_id: str) -> dict[str, Any]:
        """The last report of a trial that has ended, as far as the study keeps it; empty for others."""
        if trial_id not in self._seeds.trials or self._seeds.trials[trial_id][1].state not in ENDED:
            return {}
        replicate = self._seeds.trials[trial_id][1]
        found = replicate.found | dict(zip(self._metrics, replicate.values or (), strict=False))
        error = {"error": replicate.error} if replicate.error else {}
        return found | error | {"finished": replicate.state == TrialState.COMPLETE}

    def note(self, trial_id: str, folder: str | None = None, error: str | None = None) -> None:
        """Keep where a trial's files are, and the error that it died of."""
        if trial_id in self._seeds.trials:
            replicate = self._seeds.trials[trial_id][1]
            replicate.folder = folder or replicate.folder
            replicate.error = error or replicate.error

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep what a trial reported."""
        if trial_id in self._seeds.trials:
            configuration, replicate = self._seeds.trials[trial_id]
            values = self._values(result)
            if values is not None:
                configuration.report(replicate.seed, int(result["epoch"]), values, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note how a trial ended; with the last seed of a configuration the study is told."""
        if trial_id not in self._seeds.trials:
            return
        configuration, replicate = self._seeds.trials[trial_id]
        if result and not error:
            # where the scheduler stopped it, this is the first that is heard of its last report
            self.on_trial_result(trial_id, result)
        state, text = self._ended(replicate, result or {}, error)
        configuration.end(replicate.seed, state, text)
        self._seeds.rungs.end(configuration.number, replicate.seed, state == TrialState.FAIL)
        configuration.keep_rungs(self._seeds.rungs.standings(configuration.number))

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
            and self._seeds.rungs.verdict(configuration.number, replicate.seed, replicate.epoch) != Verdict.WAIT
            for configuration, replicate in self._seeds.trials.values()
        )

    def _values(self, result: Mapping[str, Any]) -> Values | None:
        values = [result.get(metric) for metric in self._metrics]
        return tuple(map(float, values)) if all(map(_is_finite, values)) else None  # type: ignore[arg-type]

    def save(self, checkpoint_path: str) -> None:
        """Write a file, as Tune expects one; everything is in the study's storage."""
        Path(checkpoint_path).write_bytes(pickle.dumps(None))

    def restore(self, checkpoint_path: str) -> None:
        """Go on from the study's storage; Tune then names the trials that it still has."""
        self._seeds.load()


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
