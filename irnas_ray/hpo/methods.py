"""Search methods without a supernet: each proposes whole configurations, the domains' values and a genotype's genes."""

import math
import warnings
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from irnas_ray.genotypes.encoding import MOST_REJECTIONS, PREFIX
from irnas_ray.hpo.configuration import BEYOND
from irnas_ray.hpo.domains import contains, moved
from irnas_ray.hpo.objectives import Limits
from irnas_ray.hpo.prediction import MOST_FITTED, best_to_try, expected_scores, features_of
from irnas_ray.hpo.samplers import STARTUP, OneByOneSampler
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.settings.study import Search

#: Of so many possible configurations the most promising is tried; they are the first within the limits of so many.
POOL, MOST_DRAWN = 80, 400
#: Of so many of the best configurations are children looked at, of so many edits at most.
PARENTS, MOST_EDITS = 5, 3
#: How often an edit of a number looks nearby, and not anywhere.
NEARBY = 0.5
#: Values of domains and genes.
Values = dict[str, Any]


class Method(OneByOneSampler):
    """An Optuna sampler that proposes a configuration as a whole when a trial begins, from what is in the study alone.

    A method is a class that says in ``propose`` what comes next, and a line in ``METHODS``. ``space`` has an
    architecture; the sampler is made anew for each configuration, with a seed of its own.
    """

    #: Most objectives that it can have.
    objectives: float = math.inf

    def __init__(self, space: SearchSpace, search: Search, seed: int, limits: Limits | None = None) -> None:
        self.space, self.search, self.rng, self.limits = space, search, Random(seed), limits
        self._independent = RandomSampler(seed=seed)
        self._proposed: Values = {}
        #: How many configurations were drawn that the study had already.
        self.repeated = 0

    def propose(self, study: optuna.Study, trial: FrozenTrial) -> Values:
        """The configuration of a trial."""
        raise NotImplementedError

    def uniform(self, study: optuna.Study, trial: FrozenTrial) -> Values:
        """Any configuration; given its domains' values, each genotype with the same probability."""
        return self._completed(study, trial, {})

    def fresh(self, study: optuna.Study, trial: FrozenTrial, draw: Callable[[], Values]) -> Values:
        """The first draw that no other trial has; where nothing new comes, what was tried comes again.

        What failed may come again, what was refused may not.
        """
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        known = {_key(other.params) for other in others if other.state not in (TrialState.FAIL, TrialState.WAITING)}
        values = draw()
        while _key(values) in known and self.repeated < MOST_REJECTIONS:
            self.repeated += 1
            values = draw()
        return values

    def _completed(self, study: optuna.Study, trial: FrozenTrial, given: Mapping[str, Any]) -> Values:
        """A configuration with the given values where they are possible; only the rest is drawn."""
        values: Values = {}
        for name in self.space.in_order():
            if self.space.holds(name, values):
                values[name] = given[name] if name in given else self._drawn(study, trial, name)
        encoding = self.space.encoding(values)
        return values | encoding.encode(encoding.sample(self.rng, given))

    def _drawn(self, study: optuna.Study, trial: FrozenTrial, name: str) -> Any:
        return self._independent.sample_independent(study, trial, name, self.space.distribution(name))

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Propose the configuration whose values are then asked for one by one."""
        self._proposed = self.propose(study, trial)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value in what was proposed; where a starting point has other domains, genes follow them."""
        if param_name.startswith(PREFIX) and not any(name.startswith(PREFIX) for name in trial.params):
            self._proposed = self._completed(study, trial, self._proposed | trial.params)
        if param_name in self._proposed and contains(param_distribution, self._proposed[param_name]):
            return self._proposed[param_name]
        return self._independent.sample_independent(study, trial, param_name, param_distribution)


class Uniform(Method):
    """Every configuration is drawn uniformly, and none twice."""

    def propose(self, study: optuna.Study, trial: FrozenTrial) -> Values:
        """Something new."""
        return self.fresh(study, trial, lambda: self.uniform(study, trial))


class Evolution(Method):
    """Regularised evolution (Real et al. 2019): children of the best of a few, who die of age, not of weakness.

    The first ``search.population`` configurations are uniform. Then parents are the newest so many that have a score;
    of ``search.tournament`` of them, drawn at random, the best has a child that differs in one edit: a value of a
    domain, where numbers move nearby as often as anywhere, or an edge or level of the genotype. One that ran to the end
    is better than one that was stopped early, and of those the one that came further.
    """

    objectives = 1

    def propose(self, study: optuna.Study, trial: FrozenTrial) -> Values:
        """Something new, uniform at first, then a child."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        own = [other for other in others if other.state != TrialState.WAITING and BEYOND not in other.user_attrs]
        scored = [other for other in own if _merit(other) is not None]
        assert self.search.population is not None
        if len(own) < self.search.population or not scored:
            return self.fresh(study, trial, lambda: self.uniform(study, trial))
        population = scored[-self.search.population :]
        rivals = self.rng.sample(population, min(self.search.tournament, len(population)))
        child: Values = dict(max(rivals, key=lambda other: _merit(other) or ()).params)

        def mutate() -> Values:
            # where a child is known, a child of it is next
            nonlocal child
            child = self._mutated(study, trial, child)
            return child

        return self.fresh(study, trial, mutate)

    def _mutated(self, study: optuna.Study, trial: FrozenTrial, values: Values) -> Values:
        domains = [name for name in values if name in self.space.domains and not self.space.distribution(name).single()]
        encoding = self.space.encoding(values)
        genes = {name: value for name, value in values.items() if name.startswith(PREFIX)}
        place = self.rng.randrange(max(1, len(domains) + len(genes)))
        if place < len(domains):
            name = domains[place]
            distribution, nearby = self.space.distribution(name), self.rng.random() < NEARBY
            other = moved(distribution, values[name], self.rng) if nearby else self._drawn(study, trial, name)
            return self._completed(study, trial, values | {name: other})
        if encoding.size == 1:
            return values
        kept = {name: value for name, value in values.items() if name not in genes}
        return kept | encoding.encode(encoding.mutate(encoding.decode(genes), self.rng))


class Tpe(Method):
    """Optuna's multivariate TPE over domains and genes, in groups of those that occur together; uniform at first."""

    def __init__(self, space: SearchSpace, search: Search, seed: int, limits: Limits | None = None) -> None:
        super().__init__(space, search, seed, limits)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._model = TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, group=True)
        self._begun = False

    def propose(self, study: optuna.Study, trial: FrozenTrial) -> Values:
        """Something new and uniform while little is known; then nothing, for the model is asked."""
        known = [other for other in study.get_trials(deepcopy=False) if _merit(other) is not None]
        self._begun = len(known) >= STARTUP
        return {} if self._begun else self.fresh(study, trial, lambda: self.uniform(study, trial))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What the model has seen."""
        return self._model.infer_relative_search_space(study, trial) if self._begun else {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What the model proposes."""
        return self._model.sample_relative(study, trial, search_space) if self._begun else {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """What was drawn, or what the model says of a value that it has not yet seen together with others."""
        if not self._begun:
            return super().sample_independent(study, trial, param_name, param_distribution)
        return self._model.sample_independent(study, trial, param_name, param_distribution)


class Predictor(Evolution):
    """Of many configurations the one with the largest expected improvement under a Gaussian process.

    As BANANAS (White et al. 2021), which predicts with networks, it chooses among children of the best ones, here of
    one to three edits, and among uniform ones; those beyond the limits are not looked at. The process sees what
    configurations are made of and what their networks cost (``prediction``). The first ``search.population`` are
    uniform.
    """

    def propose(self, study: optuna.Study, trial: FrozenTrial) -> Values:
        """Something new, uniform at first, then the most promising."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        own = [other for other in others if other.state != TrialState.WAITING and BEYOND not in other.user_attrs]
        scored = [(score, other) for score, other in zip(expected_scores(own), own, strict=True) if score is not None]
        assert self.search.population is not None
        if len(own) < self.search.population or len(scored) < 2:
            return self.fresh(study, trial, lambda: self.uniform(study, trial))
        scored = sorted(scored, key=lambda pair: -pair[0])[:MOST_FITTED]
        best = [other for _, other in scored[:PARENTS]]
        pool: dict[str, Values] = {}
        known = {_key(other.params) for other in others}
        for place in range(MOST_DRAWN):
            drawn = self._child(study, trial, best[place % len(best)]) if place % 2 else self.uniform(study, trial)
            if _key(drawn) not in known and self._affordable(drawn):
                pool[_key(drawn)] = drawn
            if len(pool) == POOL:
                break
        if not pool:
            return self.fresh(study, trial, lambda: self.uniform(study, trial))
        rows = [self._features(other.params) for _, other in scored]
        proposals = list(pool.values())
        return proposals[best_to_try(rows, [score for score, _ in scored], [self._features(one) for one in proposals])]

    def _child(self, study: optuna.Study, trial: FrozenTrial, parent: FrozenTrial) -> Values:
        child: Values = dict(parent.params)
        for _ in range(self.rng.randint(1, MOST_EDITS)):
            child = self._mutated(study, trial, child)
        return child

    def _affordable(self, values: Values) -> bool:
        limits = self.limits
        return limits is None or all(share <= 0 for share in limits.excess(limits.known(values)).values())

    def _features(self, values: Mapping[str, Any]) -> dict[str, float]:
        genes = {name: value for name, value in values.items() if name.startswith(PREFIX)}
        genotype = self.space.encoding(values).decode(genes)
        costs = self.limits.known(values) if self.limits is not None else {}
        return features_of({name: value for name, value in values.items() if name not in genes}, genotype, costs)


#: Search methods without a supernet, by name.
METHODS: dict[str, type[Method]] = {"evolution": Evolution, "predictor": Predictor, "tpe": Tpe, "random": Uniform}


def _key(params: Mapping[str, Any]) -> str:
    return str(sorted(params.items()))


def _merit(trial: FrozenTrial) -> tuple[float, float] | None:
    """How far a configuration came and its score there, to be compared; None without a score."""
    if trial.state == TrialState.COMPLETE:
        return math.inf, trial.values[0]
    if trial.state != TrialState.PRUNED or not trial.intermediate_values:
        return None
    last = max(trial.intermediate_values)
    return float(last), trial.intermediate_values[last]
