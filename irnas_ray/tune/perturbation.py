"""Population-based training (Jaderberg et al. 2017) of the search's own rates: what is changed, and what is told."""

import json
import math
import random
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution

from irnas_ray.datasets.batches import State, TrainingBatches
from irnas_ray.hpo.domains import Conditional, values_of
from irnas_ray.settings.study import StudyConfig

#: What a population changes while it trains.
RATES = ("search.weight_lr", "search.arch_lr")
#: A copied rate is multiplied by one of these, or drawn anew from its domain with this probability.
FACTORS = (0.8, 1.25)
RESAMPLE = 0.25
#: Settings that a copied state depends on, so that they must be the same in all trials.
SHARED = ("search.steps_per_epoch", "search.weight_lr_min")


def check_population(config: StudyConfig) -> None:
    """ValueError naming the setting with which no population can be trained; nothing if none is asked for."""
    every = config.tune.perturb_every
    if every is None:
        return
    if not 1 <= every < config.search.epochs:
        raise ValueError(f"tune.perturb_every: {every}; from 1 to below search.epochs={config.search.epochs}")
    if config.tune.objectives != ["score"]:
        raise ValueError(
            f"tune.objectives: {config.tune.objectives}; a population (tune.perturb_every) has the score only"
        )
    if config.tune.trials < 2:
        raise ValueError(f"tune.trials: {config.tune.trials}; a population (tune.perturb_every) has at least 2")
    if config.tune.replicates > 1:
        raise ValueError(
            f"tune.replicates: {config.tune.replicates}; the trials of a population (tune.perturb_every) copy each "
            "other, so that seeds are not replicates; set it to 1"
        )
    if config.cluster.max_concurrent is not None and config.cluster.max_concurrent < config.tune.trials:
        raise ValueError(
            f"cluster.max_concurrent: {config.cluster.max_concurrent}; the {config.tune.trials} trials of a population "
            "(tune.perturb_every) take turns on all places of the cluster; leave it out"
        )
    _check_rates(config)


def _check_rates(config: StudyConfig) -> None:
    for key, domain in config.domains.items():
        if key.startswith("architecture.") or key in SHARED:
            raise ValueError(
                f"domains.{key}: trials of a population (tune.perturb_every) copy each other's supernets and "
                f"schedules, so it must be the same in all; leave it out with domains.{key}=null"
            )
        if key in RATES and isinstance(domain, Conditional):
            raise ValueError(f"domains.{key}: a rate that a population changes cannot be conditional")
    for key in RATES:
        if rate_of(config, key) <= 0 and key not in config.domains:
            raise ValueError(f"{key}: {rate_of(config, key)}; more than 0, for a population multiplies it")


def rate_of(config: StudyConfig, key: str) -> float:
    """The study's own value of one of ``RATES``."""
    return config.search.arch_rate() if key == "search.arch_lr" else float(config.search.weight_lr)


def kept_checkpoints(config: StudyConfig) -> int:
    """How many checkpoints of a trial are kept: in a population back to that which others may copy until its turn."""
    every = config.tune.perturb_every
    # Tune counts the one that may be copied twice
    return 2 if every is None else 2 + math.ceil(every / config.search.validate_every)


def explored(
    config: Mapping[str, Any], domains: Mapping[str, BaseDistribution | None], generator: random.Random
) -> dict[str, float]:
    """The rates of a configuration, each changed a little, or drawn anew from its domain if it has one."""
    rates = {}
    for key, domain in domains.items():
        if domain is None:
            rates[key] = config[key] * generator.choice(FACTORS)
        elif (values := values_of(domain)) is not None:
            rates[key] = _another(sorted(values), config[key], generator)
        else:
            rates[key] = _within(domain, config[key], generator)
    return rates


def _another(values: list[float], rate: float, generator: random.Random) -> float:
    """A neighbour of a rate among the values that are possible, or any of them."""
    if generator.random() < RESAMPLE:
        return generator.choice(values)
    nearest = min(range(len(values)), key=lambda index: abs(values[index] - rate))
    return values[min(max(nearest + generator.choice((-1, 1)), 0), len(values) - 1)]


def _within(domain: Any, rate: float, generator: random.Random) -> float:
    if generator.random() >= RESAMPLE:
        return float(min(max(rate * generator.choice(FACTORS), domain.low), domain.high))
    if domain.log:
        return math.exp(generator.uniform(math.log(domain.low), math.log(domain.high)))
    return generator.uniform(domain.low, domain.high)


def continued(state: State, seed: int, train_w: TrainingBatches, train_a: TrainingBatches) -> State:
    """The state that a trial goes on from: its own as it is, another's with this trial's own stream of images.

    The streams go on where the other trial's were, in their own order.
    """
    if state.get("seed", seed) == seed:
        return state
    own = {}
    for name, batches in (("train_w", train_w), ("train_a", train_a)):
        batches.follow(state[name]["inner"])
        own[name] = {**state[name], "inner": batches.state_dict()}
    return {**state, **own}


def lineage(state: State | None, seed: int, weight_lr: float, arch_lr: float) -> list[dict[str, float]]:
    """From which epoch on, under which seed and with which rates the weights were trained, up to now."""
    now = {"seed": seed, "weight_lr": weight_lr, "arch_lr": arch_lr}
    before = [] if state is None else json.loads(state.get("lineage", "[]"))
    epoch = 0 if state is None else int(state["epoch"])
    if before and {**before[-1], **now} == before[-1]:
        return before
    return [*before, {"epoch": epoch, **now}]
