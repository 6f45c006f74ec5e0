"""What a study is begun with: where it is kept and whose it is, what it proposes, how configurations are repeated."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler

from irnas_ray.hpo.methods import METHODS
from irnas_ray.hpo.objectives import OBJECTIVES, Limits, Objective, objectives_of
from irnas_ray.hpo.rungs import milestones
from irnas_ray.hpo.samplers import make_sampler, seed_of
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.storage import lies_in
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
            own
            if own.population is not None
            else replace(own, population=max(2, tuned.trials // (4 if own.method == "predictor" else 3))),
        )

    def make_sampler(self, number: int) -> BaseSampler:
        """The sampler that proposes configuration ``number``; to be made anew for each."""
        if self.space.architecture is None:
            return make_sampler(self.sampler, self.seed, number, self.space, len(self.objectives))
        return METHODS[self.search.method](self.space, self.search, seed_of(self.seed, number), self.limits)

    def drawing_uniformly(self) -> "StudyPlan":
        """The plan with nothing learned: its sampler draws domains, or its method genotypes, at random."""
        return replace(self, sampler="random", search=replace(self.search, method="random"))

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


def claim_study(plan: StudyPlan, folder: Path, search_space: str) -> optuna.Study:
    """The Optuna study of a plan, made if need be; ValueError if it belongs to another folder or search space.

    Studies that share a database under one name would be merged without a word. A database in the study's own folder
    is shared by no other, so that such a folder may have been moved or copied since.
    """
    ours = {
        "folder": str(folder),
        "search_space": search_space,
        "objectives": [f"{objective.direction} {objective.name}" for objective in plan.objectives],
        "domains": {key: str(domain) for key, domain in sorted(plan.space.domains.items())},
    }
    study = optuna.create_study(
        storage=plan.storage,
        study_name=plan.name,
        directions=[objective.direction for objective in plan.objectives],
        load_if_exists=True,
    )
    theirs = study.user_attrs
    if "folder" not in theirs and study.get_trials(deepcopy=False):
        raise ValueError(
            f"study {plan.name!r} exists in the storage and is of another program; choose another name, study=NAME"
        )
    for key in ("folder", "search_space", "objectives", "domains"):
        if key == "folder" and lies_in(plan.storage, folder):
            continue
        if (theirs.get(key), ours[key]) == ("quickstart", "irnas_small"):
            # what the first releases' quickstart searched is called so now
            continue
        # a study of an earlier release holds its folder only
        if key in theirs and theirs[key] != ours[key]:
            raise ValueError(
                f"study {plan.name!r} exists in the storage with another {key.replace('_', ' ')} "
                f"({theirs[key]}; now {ours[key]}); choose another name, study=NAME"
            )
    for key, value in ours.items():
        study.set_user_attr(key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([objective.label for objective in plan.objectives])
    return study
