"""The Optuna samplers by name, made so that a resumed study proposes what an undisturbed one would."""

import io
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from irnas_ray.hpo.domains import Conditional, distribution_of, ends_of, values_of
from irnas_ray.hpo.search_space import SearchSpace

#: Configurations that are random before a model proposes, and individuals of an evolutionary sampler's generation: few,
#: because a study of architectures has tens of configurations, not thousands.
STARTUP = 5
POPULATION = 8
#: Samplers that learn from completed configurations alone: what was refused they would propose again.
DEAF_TO_REFUSALS = ("gp",)
#: Largest grid; going through more takes longer than anyone waits.
MOST_GRID = 100_000
#: What the state of CMA-ES is made of, in both homes of numpy's.
CMAES_PARTS = {("cmaes._cma", "CMA"), ("numpy", "dtype"), ("numpy", "ndarray")} | {
    (f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")
}


def _tpe(seed: int) -> BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True)


def _gp(seed: int) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP, warn_independent_sampling=False)


def read_cmaes(state: bytes) -> Any:
    """CMA-ES as it was when it wrote its state; UnpicklingError where something else is written there."""
    return _StateOfCmaes(io.BytesIO(state)).load()


class _StateOfCmaes(pickle.Unpickler):
    """Reads what CMA-ES keeps of itself in a storage that may be of others, as a pickle; makes nothing else of it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in CMAES_PARTS:
            raise pickle.UnpicklingError(
                f"the state of tune.sampler=cmaes in the study's storage names {module}.{name}"
            )
        return super().find_class(module, name)


def _cmaes(seed: int) -> BaseSampler:
    # Optuna has no other door: it unpickles whatever a trial's attributes hold
    module: Any = optuna.samplers._cmaes
    module.pickle = SimpleNamespace(dumps=pickle.dumps, loads=read_cmaes)
    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)


def _nsga2(seed: int) -> BaseSampler:
    # Optuna's default only exchanges values, which finds nothing new in small generations
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        crossover = optuna.samplers.nsgaii.BLXAlphaCrossover()
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION, crossover=crossover)


def _random(seed: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


_MAKERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": _tpe,
    "gp": _gp,
    "cmaes": _cmaes,
    "nsga2": _nsga2,
    "random": _random,
}
#: Names of the samplers.
SAMPLERS = (*_MAKERS, "grid")


def make_sampler(name: str, seed: int, number: int, space: SearchSpace, objectives: int = 1) -> BaseSampler:
    """The sampler that proposes configuration ``number`` of a study; to be made anew for each.

    What it proposes depends on its arguments and on the study's trials alone: between configurations the samplers keep
    nothing in memory (CMA-ES and NSGA-II keep their states in the storage), and the seed is one of the configuration.

    Raises ValueError as ``check_sampler``.
    """
    check_sampler(name, space, objectives)
    if name == "grid":
        return GridSampler(list(space.grid()), seed)
    return _MAKERS[name](seed_of(seed, number))


def seed_of(seed: int, number: int) -> int:
    """The seed of the sampler that proposes a configuration."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def check_sampler(name: str, space: SearchSpace, objectives: int = 1) -> None:
    """ValueError saying why a sampler cannot propose from these domains, or that there is none of this name."""
    if name not in SAMPLERS:
        raise ValueError(f"tune.sampler: unknown {name!r}; possible: {', '.join(SAMPLERS)}")
    if name == "grid":
        grid_size(space)
        return
    if not space.domains:
        raise ValueError(
            "domains: nothing is tuned; a search space needs at least one domain, or tune.sampler=grid, which then "
            "runs the one configuration under tune.replicates seeds"
        )
    if name == "cmaes":
        _check_cmaes(space, objectives)
    if name == "nsga2":
        _check_nsga2(space)


def _check_nsga2(space: SearchSpace) -> None:
    """Optuna's crossing makes arrays of choices that are lists, and then finds them in no distribution."""
    for name in space.domains:
        if any(isinstance(value, list | tuple) for value in ends_of(space.distribution(name))):
            raise ValueError(
                f"tune.sampler: nsga2 cannot cross choices that are lists, as those of domains.{name}; use tpe, gp, "
                "random or grid"
            )


def _check_cmaes(space: SearchSpace, objectives: int) -> None:
    if objectives > 1:
        raise ValueError("tune.sampler: cmaes has one objective; with several use tpe, gp, nsga2, random or grid")
    for name, domain in space.domains.items():
        if isinstance(domain, Conditional):
            raise ValueError(
                f"tune.sampler: cmaes needs the same domains in every configuration, but domains.{name} is "
                "conditional; use tpe, or leave out its condition"
            )
    if all(_is_choice(distribution_of(domain)) for domain in space.domains.values()):
        raise ValueError(
            "tune.sampler: cmaes moves along numbers, but all domains are choices or single values; use tpe, gp, nsga2 "
            "or grid"
        )


def _is_choice(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, CategoricalDistribution) or distribution.single()


def grid_size(space: SearchSpace) -> int:
    """How many configurations a grid has, 1 without domains; ValueError if it is continuous or has no end."""
    size = sum(1 for _ in islice(space.grid(), MOST_GRID + 1))
    if size > MOST_GRID:
        counts = {name: len(values_of(distribution_of(domain)) or []) for name, domain in space.domains.items()}
        raise ValueError(f"tune.sampler: the grid has more than {MOST_GRID} configurations ({counts}); use another")
    return size


class OneByOneSampler(BaseSampler):
    """Base of samplers that choose values one by one, and none together."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: values are chosen one by one."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing: values are chosen one by one."""
        return {}


class GridSampler(OneByOneSampler):
    """Goes through configurations once each, in an order that the seed decides; those that failed come again.

    Optuna's own grids stop with an error where trials are asked for and told one by one, and take a failed trial for a
    done one; ``SearchSpace.grid`` also knows conditions.
    """

    def __init__(self, configurations: Sequence[Mapping[str, Any]], seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(configurations))
        self._configurations = [configurations[index] for index in order]

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value in the first configuration that no other trial has, and that the trial's values before it fit."""
        states = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
        others = study.get_trials(deepcopy=False, states=states)
        taken = [other.params for other in others if other.number != trial.number]
        fitting = [
            configuration
            for configuration in self._configurations
            if param_name in configuration and trial.params.items() <= configuration.items()
        ]
        free = (configuration for configuration in fitting if configuration not in taken)
        return next(free, fitting[0])[param_name]
