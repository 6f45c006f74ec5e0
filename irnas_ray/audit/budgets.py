"""What a search may spend, known before it begins, and random search with as much."""

from random import Random
from statistics import fmean

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from irnas_ray.audit.ledger import TOLERANCE
from irnas_ray.audit.networks import UniformNetworks
from irnas_ray.networks.building import make_supernet
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.search.paths import PathNetwork, encoding_of
from irnas_ray.search.successive_halving import total_steps
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.training.validation import validation_pixels

#: Units of budgets: steps of equal trainings, or multiply-adds, where trials of two methods are of two kinds.
STEPS, MULTIPLY_ADDS = "steps", "multiply-adds"
#: Side in pixels of the image on which a supernet's multiply-adds are counted.
COUNTED_SIDE = 32
#: Networks by which the size of a random one is estimated, values of the domains that supernets are counted for, and
#: paths through each.
SAMPLED, SAMPLED_SUPERNETS, SAMPLED_PATHS = 50, 5, 10
#: What a step costs in passes forward: the pass back counts twice, for the inputs' and the weights' gradients.
PASSES = 3


def steps_of(config: StudyConfig) -> int:
    """Steps of a trial that nobody stops, without the short training that ends one with a supernet."""
    return config.search.epochs * config.search.steps_per_epoch


def trial_multiply_adds(config: StudyConfig) -> float:
    """Multiply-adds of a trial that nobody stops: mean over the search space, forward and backward.

    Validations on the way count nothing, here as in a trial; those that decode a supernet do.
    """
    own, final = config.search, config.final
    networks = UniformNetworks(config, seed=0)
    step = PASSES * fmean(networks.draw().multiply_adds for _ in range(SAMPLED)) * final.batch * final.crop**2
    if not own.supernet:
        return steps_of(config) * step
    spaces = [with_values(config, networks.values()) for _ in range(SAMPLED_SUPERNETS)]
    short = total_steps(own.proxy_steps, own.candidates, config.tune.reduction_factor)
    return fmean(map(supernet_multiply_adds, spaces)) + short * step


def supernet_multiply_adds(config: StudyConfig) -> float:
    """Multiply-adds of a supernet's training and decoding; ValueError naming the setting that leaves them open."""
    own = config.search
    patches = own.batch * own.crop**2
    with torch.random.fork_rng(devices=[]):
        net = make_supernet(config)
        mixture = multiply_adds(net, config.architecture.channels)
        path = mixture
        if own.method == "single_path" or own.warmup_paths:
            drawn = [encoding_of(net).sample(Random(seed)) for seed in range(SAMPLED_PATHS)]
            path = fmean(multiply_adds(PathNetwork(net, one), config.architecture.channels) for one in drawn)
    scored = validation_pixels(own.validation_share, own.steps_per_epoch * own.validate_every, own.batch, own.crop)
    if own.method == "single_path":
        if scored is None:
            raise ValueError("search.validation_share: 1; how much single_path costs is known only where it is less")
        return path * (PASSES * patches * steps_of(config) + own.path_evaluations * scored)
    warmup = own.warmup_epochs * own.steps_per_epoch
    first = warmup * (path if own.warmup_paths else mixture)
    rest = (steps_of(config) - warmup + own.arch_steps()) * mixture
    return PASSES * patches * (first + rest) + _masking(config, net, mixture, scored)


def _masking(config: StudyConfig, net: SuperNet, mixture: float, scored: int | None) -> float:
    """What decoding by masking costs: the supernet is scored without each operator, and trained after each decision."""
    own = config.search
    if own.decoding != "masking":
        return 0.0
    if scored is None:
        raise ValueError("search.validation_share: 1; how much masking costs is known only where it is less")
    cells, edges, operators = net.alpha.shape
    # of the inputs of a node all but two are dropped, one after the other
    drops = [left for node in range(net.nodes) for left in range(node + 2, 2, -1)]
    decisions, scores = cells * (edges + len(drops)), cells * (edges * operators + sum(drops))
    return mixture * (PASSES * own.batch * own.crop**2 * decisions * own.masking_steps + scores * scored)


def multiply_adds(network: nn.Module, channels: int) -> float:
    """Multiply-adds of a pass forward for each pixel of an image, as PyTorch counts them on a small one."""
    image = torch.zeros(1, channels, COUNTED_SIDE, COUNTED_SIDE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops() / (2 * COUNTED_SIDE**2)


def planned_budget(config: StudyConfig, unit: str) -> float:
    """What a run may spend: its trials in steps, or in multiply-adds."""
    trials = config.tune.trials * config.tune.replicates
    return trials * (steps_of(config) if unit == STEPS else trial_multiply_adds(config))


def unit_of(config: StudyConfig) -> str:
    """In what the budget of a method is compared with that of random search."""
    return MULTIPLY_ADDS if config.search.supernet else STEPS


def random_search(config: StudyConfig) -> StudyConfig:
    """Random search with the budget of another one, on the same rungs and with the same recipe.

    Beside a method without a supernet it has as many trials of as many steps. Beside one with a supernet its trials are
    as long as the short trainings by which that one chooses, or as its search where there are none, and as many as cost
    the same; their length then gives way a little.
    """
    changed = with_values(config, {"search.method": "random", "search.population": None, "search.proxy_steps": 0})
    if not config.search.supernet:
        return changed
    budget = planned_budget(config, MULTIPLY_ADDS) / config.tune.replicates
    wanted = max(1, round((config.search.proxy_steps or steps_of(config)) / config.search.epochs))
    step = trial_multiply_adds(changed) / changed.search.steps_per_epoch
    best = (float("inf"), 0, 0)
    for steps in range(max(1, wanted // 2), 2 * wanted + 1):
        trials = max(1, round(budget / (steps * step)))
        gap = abs(trials * steps * step / budget - 1)
        # of lengths that keep the budget, the one nearest to that of the other search
        best = min(best, (abs(steps - wanted) if gap <= TOLERANCE / 2 else 1e9 + gap, steps, trials))
    return with_values(changed, {"search.steps_per_epoch": best[1], "tune.trials": best[2]})
