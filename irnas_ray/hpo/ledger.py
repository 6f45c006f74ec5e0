"""The seeds of a study's configurations, as its storage has them: proposed, running, lost with a driver, or ended."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from irnas_ray.hpo.configuration import ENDED, Configuration, Replicate
from irnas_ray.hpo.objectives import Objective
from irnas_ray.hpo.rungs import Rungs
from irnas_ray.hpo.samplers import make_sampler
from irnas_ray.hpo.search_space import SearchSpace


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


class Seeds:
    """All configurations of a study with their seeds, where they stand in the rungs, and proposals of new ones.

    Pickled, it is read again from the storage. See ``StudySearch`` for the arguments.
    """

    def __init__(
        self,
        space: SearchSpace,
        study_name: str,
        storage: optuna.storages.BaseStorage,
        sampler: str,
        seed: int,
        replicates: int,
        objectives: Sequence[Objective],
        milestones: Sequence[int],
        factor: int,
        ended: Iterable[str],
    ) -> None:
        self._space, self._study_name, self._storage = space, study_name, storage
        self._sampler, self._seed, self._replicates = sampler, seed, replicates
        self._objectives, self._milestones, self._factor = list(objectives), list(milestones), factor
        self._ended_before = set(ended)
        self.load()

    def load(self) -> None:
        """Read everything from the storage; trials of which Tune may know no more are still to be adopted."""
        self.study = optuna.load_study(study_name=self._study_name, storage=self._storage)
        self.rungs = Rungs(self._milestones, self._factor, [objective.maximise for objective in self._objectives])
        self.configurations: dict[int, Configuration] = {}
        #: Id of a Tune trial -> its configuration and seed.
        self.trials: dict[str, tuple[Configuration, Replicate]] = {}
        #: What Tune knows of its trials after a restart, by id; None when that was taken up.
        self._known: dict[str, Known] | None = {}
        for trial in self.study.get_trials(deepcopy=False):
            # one that waits was enqueued, and one without a record was not yet proposed in full
            if trial.state != TrialState.WAITING and "replicates" in trial.user_attrs:
                self._add(trial)
        for configuration in self.configurations.values():
            configuration.tell()
            self.rungs.decide(configuration.number)

    def _add(self, trial: FrozenTrial) -> Configuration:
        first = self._seed + trial.number * self._replicates
        seeds = range(first, first + self._replicates)
        configuration = Configuration(self.study, self._storage, self._objectives, trial, seeds)
        self.configurations[trial.number] = configuration
        self.rungs.enter(trial.number, configuration.running(), configuration.rungs)
        for replicate in configuration.replicates.values():
            if replicate.trial is not None:
                self.trials[replicate.trial] = configuration, replicate
        return configuration

    def know(self, trial_id: str, known: Known) -> None:
        """Take notice of a trial that Tune still has after a restart."""
        if self._known is not None:
            self._known[trial_id] = known

    def adopt(self) -> dict[str, Known]:
        """After a restart, when Tune has named all its trials: set free the seeds whose trials it has lost.

        What has ended stays so, whether Tune knows it or not. Gives the trials that are over for Tune, once.
        """
        if self._known is None:
            return {}
        known, self._known = self._known, None
        for trial_id, (configuration, replicate) in list(self.trials.items()):
            if configuration.told or replicate.state in ENDED or trial_id in self._ended_before:
                continue
            if trial_id in known:
                replicate.set_back(known[trial_id].epoch)
            else:
                del self.trials[trial_id]
                replicate.lose()
                self.rungs.enter(configuration.number, configuration.running())
        return {trial_id: trial for trial_id, trial in known.items() if trial.ended}

    def waiting(self) -> Configuration | None:
        """The oldest configuration with a seed that Tune does not know of."""
        return next((found for found in self.configurations.values() if found.next_waiting()), None)

    def begin(self, configuration: Configuration, trial_id: str) -> None:
        """Note that the next seed of a configuration became a trial of Tune."""
        replicate = configuration.next_waiting()
        assert replicate is not None
        configuration.begin(replicate.seed, trial_id)
        self.trials[trial_id] = configuration, replicate

    def __len__(self) -> int:
        return sum(len(configuration.replicates) for configuration in self.configurations.values())

    def running(self) -> bool:
        """Whether a seed has not ended."""
        return any(configuration.running() for configuration in self.configurations.values())

    def ended(self) -> int:
        """How many seeds have ended, as the storage has it now: a copy of this one may have written there."""
        names = {state.name for state in ENDED}
        trials = self.study.get_trials(deepcopy=False)
        return sum(seed["state"] in names for trial in trials for seed in trial.user_attrs.get("replicates", []))

    def propose(self) -> Configuration:
        """A new configuration, proposed by a sampler made anew for it."""
        states = [state for state in TrialState if state != TrialState.WAITING]
        trials = self.study.get_trials(deepcopy=False, states=states)
        half = [trial for trial in trials if trial.state == TrialState.RUNNING and "replicates" not in trial.user_attrs]
        number = half[0].number if half else len(trials)
        self.study.sampler = make_sampler(self._sampler, self._seed, number, self._space, len(self._objectives))
        study_id = self._storage.get_study_id_from_name(self._study_name)
        if half:
            # the driver died while it was proposed
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
            trial = optuna.Trial(self.study, trial_id)
        else:
            trial = self.study.ask()
        self._space.propose(trial)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        return self._add(self._storage.get_trial(trial_id))

    def __getstate__(self) -> dict[str, Any]:
        read = ("study", "rungs", "configurations", "trials", "_known")
        return {name: value for name, value in self.__dict__.items() if name not in read}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.load()
