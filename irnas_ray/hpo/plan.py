"""What a study is begun with: where it is kept, what it proposes, and how configurations are repeated and compared."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import optuna
from optuna.samplers import BaseSampler

from irnas_ray.hpo.methods import METHODS
from irnas_ray.hpo.objectives import OBJECTIVES, Limits, Objective, objectives_of
from irnas_ray.hpo.rungs import milestones
from irnas_ray.hpo.samplers import make_sampler, seed_of
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.settings.study import Search, StudyConfig


@dataclass(frozen=True)
class StudyPlan:
    """What stays the same through all rounds of a study."""

    name: str
    storage: optuna.storages.BaseStorage
    space: SearchSpace
    #: Name of the Optuna sampler.
    sampler: str = "tpe"
    #: Of the sampler, and of the first trial; replicate r of configuration n has seed + n * replicates + r.
    seed: int = 0
    #: Seeds of each configuration.
    replicates: int = 1
    #: What is told to Optuna.
    objectives: Sequence[Objective] = (OBJECTIVES["score"],)
    #: Rungs of the early stopping and its factor, see ``Rungs``; without rungs nothing is stopped early.
    milestones: Sequence[int] = ()
    factor: int = 3
    #: What a final network may cost; None: anything.
    limits: Limits | None = None
    #: How genotypes are proposed, where they are.
    search: Search = field(default_factory=Search)

    @staticmethod
    def of(
        config: StudyConfig, name: str, storage: optuna.storages.BaseStorage, limits: Limits | None = None
    ) -> "StudyPlan":
        """The plan of the study that the settings describe; ValueError as ``SearchSpace.of`` and ``objectives_of``."""
        tuned, own = config.tune, config.search
        return StudyPlan(
            name,
            storage,
            SearchSpace.of(config),
            tuned.sampler,
            tuned.seed,
            tuned.replicates,
            objectives_of(tuned.objectives),
            rungs_of(config),
            tuned.reduction_factor,
            limits,
            own if own.population is not None else replace(own, population=max(2, tuned.trials // 3)),
        )

    def make_sampler(self, number: int) -> BaseSampler:
        """The sampler that proposes configuration ``number``; to be made anew for each."""
        if self.space.architecture is None:
            return make_sampler(self.sampler, self.seed, number, self.space, len(self.objectives))
        return METHODS[self.search.method](self.space, self.search, seed_of(self.seed, number))

    @property
    def metrics(self) -> list[str]:
        """Under which names trials report the values of the objectives."""
        return [objective.metric for objective in self.objectives]


def rungs_of(config: StudyConfig) -> list[int]:
    """The epochs at which configurations are compared and stopped; none where they are not."""
    tuned, own = config.tune, config.search
    end = own.epochs + bool(own.proxy_steps and own.supernet)
    # at the last epoch a trial can only be spared its proxy
    stopping = tuned.early_stopping and tuned.perturb_every is None
    return milestones(tuned.grace_epochs, tuned.reduction_factor, end) if stopping else []
