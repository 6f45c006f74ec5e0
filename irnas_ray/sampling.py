"""The bridge from Ray Tune to the Optuna study: what is suggested, and what the study is told.

Ray's ``OptunaSearch`` records stopped trials as complete and NaN as running for ever, and knows nothing of seeds; this
subclass mends that on its public extension points.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import optuna
import optuna.storages.journal
from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch

from irnas_ray.domains import Domains, distribution_of, propose
from irnas_ray.samplers import make_sampler

#: What a trial reports that is kept as user attributes of its Optuna trial.
ATTRIBUTES = ("genotype", "digest", "margins", "psnr", "ssim", "seconds")


@dataclass
class Configuration:
    """One Optuna trial and what its replicates, one Tune trial for each seed, came to."""

    number: int
    trial: optuna.Trial
    params: dict[str, Any]
    outcomes: dict[str, tuple[TrialState, float | None]] = field(default_factory=dict)
    reports: dict[int, list[float]] = field(default_factory=dict)


class StudySearch(OptunaSearch):
    """Optuna proposes configurations; each is run under ``replicates`` seeds and told once, with the mean.

    A configuration is COMPLETE if a replicate finished, PRUNED if all that lived were stopped early, FAIL if all died
    or scored NaN. Trials report ``metric`` at every step and ``finished=True`` with their last report.
    """

    def __init__(
        self,
        space: Domains,
        study_name: str,
        storage: optuna.storages.BaseStorage,
        metric: str,
        sampler: str = "tpe",
        seed: int = 0,
        replicates: int = 1,
        started: int = 0,
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        self._replicates, self._first_seed = replicates, seed
        self._domains, self._sampler_name, self._fixed = space, sampler, fixed or {}
        #: Trials that were suggested so far, with those of earlier rounds of the same study.
        self._suggested = started
        self._configurations: dict[str, Configuration] = {}
        self._open: Configuration | None = None
        super().__init__(
            space={name: distribution_of(domain) for name, domain in space.items()},
            metric=metric,
            mode="max",
            study_name=study_name,
            storage=storage,
        )

    @property
    def study(self) -> optuna.Study:
        """The Optuna study that is told."""
        assert self._ot_study is not None
        return self._ot_study

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """A configuration and a seed; the same configuration for ``replicates`` calls in a row."""
        if trial_id not in self._configurations:
            if self._open is None or self._suggested % self._replicates == 0:
                self._open = self._ask()
            self._configurations[trial_id] = self._open
            self._ot_trials[trial_id] = self._open.trial
            seed = self._first_seed + self._suggested
            seeds = {**self._open.trial.user_attrs.get("seeds", {}), trial_id: seed}
            self._open.trial.set_user_attr("seeds", seeds)
            self._suggested += 1
        configuration = self._configurations[trial_id]
        return {**configuration.params, "seed": configuration.trial.user_attrs["seeds"][trial_id]}

    def _ask(self) -> Configuration:
        waiting = optuna.trial.TrialState.WAITING
        number = sum(trial.state != waiting for trial in self.study.get_trials(deepcopy=False))
        self.study.sampler = make_sampler(
            self._sampler_name, self._first_seed, number, self._domains, fixed=self._fixed
        )
        trial = self.study.ask()
        return Configuration(trial.number, trial, propose(trial, self._domains, self._fixed))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report the mean over the replicates at a step as soon as all have reached it."""
        configuration = self._configurations.get(trial_id)
        value = result.get(self.metric)
        if configuration is None or trial_id in self._completed_trials or not _is_number(value):
            return
        step = int(result["epoch"])
        values = configuration.reports.setdefault(step, [])
        values.append(float(value))
        if len(values) == self._replicates and not result.get("finished"):
            configuration.trial.report(sum(values) / len(values), step)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note how a replicate ended; with the last one tell the study."""
        configuration = self._configurations.get(trial_id)
        if configuration is None or trial_id in self._completed_trials:
            return
        self._completed_trials.add(trial_id)
        result = result or {}
        value = result.get(self.metric)
        if error or not _is_number(value):
            configuration.outcomes[trial_id] = (TrialState.FAIL, None)
        else:
            state = TrialState.COMPLETE if result.get("finished") else TrialState.PRUNED
            configuration.outcomes[trial_id] = (state, float(value))
        suffix = "" if self._replicates == 1 else f"/{trial_id}"
        for name in ATTRIBUTES:
            if name in result:
                configuration.trial.set_user_attr(name + suffix, result[name])
        if len(configuration.outcomes) == self._replicates:
            self._tell(configuration)

    def _tell(self, configuration: Configuration) -> None:
        outcomes = list(configuration.outcomes.values())
        finished = [value for state, value in outcomes if state == TrialState.COMPLETE and value is not None]
        configuration.trial.set_user_attr("replicate scores", [value for _, value in outcomes])
        if finished:
            self.study.tell(configuration.trial, sum(finished) / len(finished))
        elif any(state == TrialState.PRUNED for state, _ in outcomes):
            self.study.tell(configuration.trial, state=TrialState.PRUNED)
        else:
            self.study.tell(configuration.trial, state=TrialState.FAIL)

    def restore(self, checkpoint_path: str) -> None:
        """Continue a saved search; suggestions that died with the driver are marked as failed, not left running."""
        super().restore(checkpoint_path)
        known = {configuration.number for configuration in self._configurations.values()}
        fail_running(self.study, known)


def fail_running(study: optuna.Study, but: set[int]) -> None:
    """Mark the study's RUNNING trials as FAIL, except those with the given numbers."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number not in but:
            study.tell(trial.number, state=TrialState.FAIL)


def claim_study(name: str, storage: optuna.storages.BaseStorage, folder: Path) -> None:
    """Tie the storage's study of this name to a results folder; ValueError if it belongs to another one.

    Studies that share a database under one name would be merged without a word.
    """
    if name not in optuna.get_all_study_names(storage):
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
        study.set_user_attr("folder", str(folder))
        return
    study = optuna.load_study(study_name=name, storage=storage)
    owner = study.user_attrs.get("folder")
    if owner != str(folder):
        raise ValueError(
            f"study {name!r} exists in the storage and belongs to {owner}; choose another name, study=NAME"
        )


def open_storage(url: str | None, folder: Path) -> optuna.storages.BaseStorage:
    """The Optuna storage of a URL, of ``journal:PATH``, or SQLite in ``folder``; ValueError if it cannot be opened."""
    try:
        if url is not None and url.startswith("journal:"):
            path = str(Path(url.removeprefix("journal:")).absolute())
            return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
        return optuna.storages.RDBStorage(url or f"sqlite:///{folder / 'study.db'}", engine_kwargs=_patience(url))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"tune.storage: cannot open {url or folder / 'study.db'} ({reason})") from None


def _patience(url: str | None) -> dict[str, Any]:
    # a dashboard that reads must not fail the search that writes
    sqlite = url is None or url.startswith("sqlite")
    return {"connect_args": {"timeout": 60}} if sqlite else {}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
