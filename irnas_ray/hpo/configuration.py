"""One configuration of a study, which is one Optuna trial, and its replicates: one Tune trial for each seed.

Everything is written to the Optuna trial at once, so that a dashboard shows it live, and a search that was killed goes
on from there.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from irnas_ray.hpo.objectives import Limits, Objective
from irnas_ray.hpo.replicate import ENDED, LONG, SHORT, Replicate
from irnas_ray.hpo.rungs import Values

#: Attribute of a proposal that was refused: its costs beyond the limits.
BEYOND = "beyond the limits"
#: Attribute of a proposal: how many were drawn before it that the study had already.
REPEATED = "drawn again"
#: Attribute of one that was not: how many were refused before it.
REFUSED = "refused"


class Configuration:
    """A configuration that is kept in a study's storage, and what its seeds came to.

    It is COMPLETE, with the mean over the seeds that finished, if one did; else PRUNED if one was stopped early; FAIL
    if all failed.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: optuna.storages.BaseStorage,
        objectives: Sequence[Objective],
        trial: FrozenTrial,
        seeds: Sequence[int],
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits
        self._study, self._storage, self._objectives = study, storage, objectives
        self._names = [objective.metric for objective in objectives]
        self.number, self.params, self.state = trial.number, dict(trial.params), trial.state
        study_id = storage.get_study_id_from_name(study.study_name)
        self._trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        plain = trial.user_attrs.get("replicates")
        if plain is None:
            self.replicates = {seed: Replicate(seed) for seed in seeds}
        else:
            replicates = [Replicate.from_plain(entry, self._names) for entry in plain]
            self.replicates = {replicate.seed: replicate for replicate in replicates}
        self.rungs: dict[str, Any] = trial.user_attrs.get("rungs", {})
        self._means: dict[int, list[float]] = {step: [value] for step, value in trial.intermediate_values.items()}
        self._means |= _by_epoch(trial.user_attrs.get("reports", {}))
        for replicate in self.replicates.values():
            kept = trial.user_attrs.get(f"reports/seed {replicate.seed}", {})
            # means over one seed are its reports
            replicate.reports = _by_epoch(kept) if len(self.replicates) > 1 else dict(self._means)
            for name in LONG:
                if self._key(name, replicate) in trial.user_attrs:
                    replicate.found[name] = trial.user_attrs[self._key(name, replicate)]

    @property
    def told(self) -> bool:
        """Whether the study knows how the configuration ended, after which nothing of it can change."""
        return self.state.is_finished()

    def running(self) -> list[int]:
        """The seeds that run or will run."""
        return [seed for seed, replicate in self.replicates.items() if replicate.state not in ENDED]

    def next_waiting(self) -> Replicate | None:
        """The next seed that Tune does not know of."""
        waiting = (replicate for replicate in self.replicates.values() if replicate.state == TrialState.WAITING)
        return None if self.told else next(waiting, None)

    def begin(self, seed: int, trial: str) -> None:
        """Note that a seed became a Tune trial."""
        replicate = self.replicates[seed]
        replicate.trial, replicate.state, replicate.error = trial, TrialState.RUNNING, None
        self._keep_replicates()

    def report(self, seed: int, epoch: int, values: Values, found: Mapping[str, Any]) -> None:
        """Note what a seed reported; as soon as all have finished an epoch, their mean is an intermediate value."""
        replicate = self.replicates[seed]
        if self.told or replicate.state in ENDED:
            return
        replicate.values = list(values)
        replicate.found |= {name: found[name] for name in (*SHORT, *LONG) if name in found}
        if found.get("finished"):
            # the score of a proxy is no point of the supernet's curve
            return
        if replicate.reports.get(epoch) == replicate.values:
            return
        replicate.reports[epoch] = list(values)
        if len(self.replicates) > 1:
            self._write(f"reports/seed {seed}", _plain(replicate.reports))
        self._keep_means()

    def end(self, seed: int, state: TrialState, error: str | None = None) -> None:
        """Note how a seed ended; with the last one the study is told."""
        replicate = self.replicates[seed]
        if self.told or replicate.state in ENDED:
            return
        replicate.state, replicate.error = state, error
        for name in LONG:
            if name in replicate.found:
                self._write(self._key(name, replicate), replicate.found[name])
        self._keep_means()
        self._keep_replicates()
        self.tell()

    def tell(self) -> None:
        """Tell the study how the configuration ended, if all its seeds have."""
        if self.told or self.running():
            return
        states = {replicate.state for replicate in self.replicates.values()}
        state = next(state for state in ENDED if state in states)
        counted = [r for r in self.replicates.values() if r.state == state and r.values is not None]
        self._keep_outcome(counted if state != TrialState.FAIL else [])
        # the study's own sampler may have been made anew since
        if state == TrialState.COMPLETE:
            self._study.tell(self.number, _mean([replicate.values or [] for replicate in counted]))
        else:
            self._study.tell(self.number, state=state)
        self.state = state

    def keep_rungs(self, rungs: dict[str, Any]) -> None:
        """Keep where the configuration stands in the rungs."""
        if rungs != self.rungs and not self.told:
            self.rungs = rungs
            self._write("rungs", rungs)

    def _keep_outcome(self, counted: list[Replicate]) -> None:
        """The values over seeds, and what the best of them found, as plain attributes."""
        if errors := [f"seed {r.seed}: {r.error}" for r in self.replicates.values() if r.error]:
            self._write("error", "; ".join(errors))
        if not counted:
            return
        for place, name in enumerate(self._names):
            values = {str(replicate.seed): (replicate.values or [])[place] for replicate in counted}
            if len(self.replicates) > 1:
                self._write(f"{name} of seeds", values)
                self._write(f"{name}, mean", math.fsum(values.values()) / len(values))
            if len(values) > 1:
                self._write(f"{name}, standard deviation", statistics.stdev(values.values()))
        score = next(place for place, objective in enumerate(self._objectives) if objective.name == "score")
        best = max(counted, key=lambda replicate: (replicate.values or [])[score])
        if len(self.replicates) > 1:
            self._write("best seed", best.seed)
        for name in (*SHORT, *LONG):
            if name in best.found:
                self._write(name, best.found[name])
        self._keep_constraints(best.found)

    def _keep_constraints(self, found: Mapping[str, Any]) -> None:
        """Tell Optuna by how much the network that was found exceeds the limits, unless it knew that before."""
        if self._limits is not None and not self._limits.exact:
            for metric, share in self._limits.excess(found).items():
                set_constraint(self._storage, self._trial_id, metric, share)

    def _keep_means(self) -> None:
        awaited = [r for r in self.replicates.values() if r.state not in ENDED]
        counted = [r for r in self.replicates.values() if r.state != TrialState.FAIL]
        for epoch in sorted({epoch for replicate in counted for epoch in replicate.reports} - self._means.keys()):
            if all(epoch in replicate.reports for replicate in awaited):
                self._means[epoch] = _mean([r.reports[epoch] for r in counted if epoch in r.reports])
                if len(self._objectives) == 1:
                    self._storage.set_trial_intermediate_value(self._trial_id, epoch, self._means[epoch][0])
                else:
                    # Optuna keeps intermediate values of one objective only
                    self._write("reports", _plain(self._means))

    def _keep_replicates(self) -> None:
        self._write("replicates", [replicate.to_plain(self._names) for replicate in self.replicates.values()])

    def _key(self, name: str, replicate: Replicate) -> str:
        return name if len(self.replicates) == 1 else f"{name}/seed {replicate.seed}"

    def _write(self, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._trial_id, key, value)


def set_constraint(storage: optuna.storages.BaseStorage, trial_id: int, name: str, excess: float) -> None:
    """Tell Optuna a constraint of a trial, kept where ``excess`` is at most 0; the second time replaces the first."""
    storage.set_trial_system_attr(trial_id, f"constraints:{name}", excess)


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def _plain(reports: Mapping[int, list[float]]) -> dict[str, list[float]]:
    return {str(epoch): values for epoch, values in reports.items()}


def _by_epoch(plain: Mapping[str, list[float]]) -> dict[int, list[float]]:
    return {int(epoch): values for epoch, values in plain.items()}
