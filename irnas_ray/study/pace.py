"""How long a study takes on this machine: steps are timed first, and trainings are shortened where it is too slow."""

import itertools
import math
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import optuna
import ray
import torch
from torch import nn

from irnas_ray.hpo.ledger import Ledger
from irnas_ray.hpo.plan import StudyPlan, claim_study
from irnas_ray.networks.building import make_encoding, make_network, make_supernet
from irnas_ray.results.folder import StudyFolder
from irnas_ray.search.single_path import SEARCHES
from irnas_ray.search.successive_halving import total_steps
from irnas_ray.settings.study import StudyConfig, settings_of, with_values
from irnas_ray.study.candidates import Candidate
from irnas_ray.study.limits import limits_of
from irnas_ray.study.worker import prepare_device
from irnas_ray.system.files import read_json, write_json
from irnas_ray.training.training import Training

#: Share of the time that timed steps may take; batches, validations, scores, and starts of processes take the rest.
FOR_STEPS = 0.8
#: What trials are shortened by alike, and what final trainings are.
OF_TRIALS = ("search.steps_per_epoch", "search.proxy_steps")
OF_FINALS = ("final.steps", "final.validate_every")
#: Steps that are timed of each network, after as many that are not.
TIMED_STEPS = 4
#: Seconds for which the steps of final trainings are timed: so long that most of them are at work at the same time.
TIMED_SECONDS = 4.0
#: Configurations are drawn and timed until so many seconds have passed, and so many at most.
DRAWN_SECONDS, MOST_DRAWN = 4, 12
#: A rate at which nothing diverges, and steps that never end.
HARMLESS, ENDLESS = 1e-9, 10**9

#: The settings of a trial, and the genes of its genotype where it has one already.
Drawn = tuple[StudyConfig, dict[str, str | int]]
#: Seconds of steps of search trials, and of final trainings.
Steps = tuple[list[float], list[float]]


def paced(config: StudyConfig, folder: StudyFolder, resources: dict[str, float], places: int) -> StudyConfig:
    """The settings with trials short enough that the study keeps to ``config.minutes`` on this cluster.

    Nothing is lengthened. What was measured is kept in the study's folder and holds for every run of the study.
    ``places`` is how many trials run at a time.
    """
    if config.minutes is None:
        return config
    if folder.pace.exists():
        measured = read_json(folder.pace)
    else:
        drawn = list(itertools.islice(first_configurations(config), min(MOST_DRAWN, config.tune.trials)))
        found = _side_by_side(_time_configurations, [drawn[place::places] for place in range(places)], resources)
        of_trials, of_finals = (list(itertools.chain(*steps)) for steps in zip(*found, strict=True))
        # trials train all kinds of networks, final trainings those that use what the space allows
        measured = {"search_step": fmean(of_trials), "final_step": max(of_finals)}
        measured["factor"] = shortening(config, measured["search_step"], measured["final_step"], places)
        measured["finals"] = None
        write_json(folder.pace, measured)
    _tell(config, "trial", measured["search_step"], measured["factor"])
    return shortened(config, measured["factor"], OF_TRIALS)


def paced_finals(
    config: StudyConfig,
    folder: StudyFolder,
    candidates: Sequence[Candidate],
    resources: dict[str, float],
    places: int,
    spent: float,
) -> StudyConfig:
    """The settings with final trainings that use what is left of ``config.minutes``, at most as long as they say.

    ``spent`` are the seconds of the search. Where it took longer than was thought, finals still get half of its share
    of their steps. What was decided once holds for every run of the study.
    """
    if config.minutes is None or config.final.minutes is not None:
        return config
    measured: dict[str, Any] = {"factor": 0.0, "finals": None}
    if folder.pace.exists():
        measured = read_json(folder.pace)
    # an earlier release decided on both at once
    factor = measured.get("finals", measured["factor"])
    if factor is None:
        own = [(candidate, with_values(config, candidate.settings)) for candidate in candidates]
        step = max(_side_by_side(_time_candidates, [own[place::places] for place in range(places)], resources))
        seconds = math.ceil(len(candidates) / places) * config.final.steps * step
        left = FOR_STEPS * (60 * config.minutes - spent)
        factor = min(1.0, max(measured["factor"] / 2, left / seconds))
        write_json(folder.pace, measured | {"finals": factor, "finals_step": step})
        _tell(config, "final training", step, factor)
    return shortened(config, factor, OF_FINALS)


def _tell(config: StudyConfig, what: str, step: float, factor: float) -> None:
    if factor < 1:
        print(
            f"a training step takes {1000 * step:.0f} ms here: to end within {config.minutes:g} minutes every {what} "
            f"gets {factor:.0%} of its steps (minutes=null: all of them)",
            flush=True,
        )


def shortening(config: StudyConfig, search_step: float, final_step: float, places: int) -> float:
    """By what all lengths are multiplied to keep to the minutes, at most 1; steps are given in seconds."""
    own, final = config.search, config.final
    trials = config.tune.trials * config.tune.replicates
    # what a trial without a supernet trains is no decoding, so no short training of one follows
    short = total_steps(own.proxy_steps, own.candidates, config.tune.reduction_factor) if own.supernet else 0
    search = trials * (own.epochs * own.steps_per_epoch * search_step + short * final_step) / places
    finals = math.ceil(final.count / places) * final.steps * final_step
    assert config.minutes is not None
    return min(1.0, FOR_STEPS * 60 * config.minutes / (search + finals))


def shortened(config: StudyConfig, factor: float, lengths: Sequence[str] = (*OF_TRIALS, *OF_FINALS)) -> StudyConfig:
    """The settings with the lengths times the factor, in whole steps of at least 1 where there were any."""
    if factor == 1:
        return config
    sections: dict[str, Any] = {}
    for key in lengths:
        section, name = key.split(".")
        length = getattr(getattr(config, section), name)
        sections[key] = max(1, round(length * factor)) if length else length
    return with_values(config, sections)


def _side_by_side(work: Any, parts: Sequence[list[Any]], resources: Mapping[str, float]) -> list[Any]:
    """What tasks find that run at the same time as trials do, because those slow each other down."""
    asked = work.options(num_cpus=resources["cpu"], num_gpus=resources["gpu"])
    found: list[Any] = ray.get([asked.remote(part) for part in parts if part])
    return found


@ray.remote(max_retries=0)
def _time_configurations(drawn: Sequence[Drawn]) -> Steps:
    return time_configurations(drawn, prepare_device(drawn[0][0].cluster.cpus_per_trial))


@ray.remote(max_retries=0)
def _time_candidates(candidates: Sequence[tuple[Candidate, StudyConfig]]) -> float:
    device = prepare_device(candidates[0][1].cluster.cpus_per_trial)
    seconds = TIMED_SECONDS / len(candidates)
    return max(time_training(candidate.make_network(own), own, device, seconds) for candidate, own in candidates)


def time_configurations(drawn: Sequence[Drawn], device: torch.device) -> Steps:
    """Seconds of a step of a search trial and of a final training, of as many configurations as time allows."""
    begun, final_steps, search_steps = time.perf_counter(), list[float](), list[float]()
    for settings, genes in drawn:
        encoding = make_encoding(settings)
        genotype = encoding.decode(genes) if genes else encoding.sample(Random(0))
        final_steps.append(time_training(make_network(genotype, settings), settings, device))
        if settings.search.supernet:
            search_steps.append(_time_search(settings, device))
        if time.perf_counter() - begun > DRAWN_SECONDS:
            break
    return search_steps or final_steps, final_steps


def first_configurations(config: StudyConfig) -> Iterator[Drawn]:
    """What a study proposes while it knows no scores: their steps take as long as those of its trials."""
    plan = StudyPlan.of(config, "pace", optuna.storages.InMemoryStorage(), limits_of(config))
    plan = replace(plan, replicates=1)
    claim_study(plan, Path(), config.search_space)
    ledger = Ledger(plan)
    while True:
        yield settings_of(config, ledger.suggest(uuid.uuid4().hex) or {})


def time_training(network: nn.Module, config: StudyConfig, device: torch.device, seconds: float = 0.0) -> float:
    """Seconds of a training step of a network under a study's recipe, timed for at least so long."""
    own = replace(config.final, steps=ENDLESS, minutes=None, validate_every=TIMED_STEPS, lr=HARMLESS)
    training = Training(network.to(device), _batches(config, own.batch, own.crop, device), _no_scores, own)
    training.run()
    return _timed(training.run, device, seconds)


def _time_search(config: StudyConfig, device: torch.device) -> float:
    own = replace(config.search, epochs=3, warmup_epochs=1, steps_per_epoch=TIMED_STEPS, validate_every=3)
    own = replace(own, weight_lr=HARMLESS, weight_lr_min=0, arch_lr=HARMLESS)
    train_w, train_a = (_batches(config, own.batch, own.crop, device) for _ in range(2))
    search = SEARCHES[own.method](make_supernet(config).to(device), train_w, train_a, _no_scores, own)
    search.run_epoch()
    return _timed(search.run_epoch, device)


def _batches(config: StudyConfig, batch: int, crop: int, device: torch.device) -> Any:
    image = torch.rand(batch, config.architecture.channels, crop, crop, device=device)
    return itertools.repeat((image, image))


def _no_scores(_: nn.Module) -> dict[str, float]:
    return {"psnr": 0.0, "ssim": 0.0}


def _timed(steps: Any, device: torch.device, seconds: float = 0.0) -> float:
    """Seconds of one of ``TIMED_STEPS`` steps, done again and again for at least so long; the last two thirds count."""
    taken, begun = list[float](), time.perf_counter()
    while not taken or time.perf_counter() - begun < seconds:
        last = time.perf_counter()
        steps()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - last)
    # at first those that are timed beside these may not be at work yet
    return fmean(taken[len(taken) // 3 :]) / TIMED_STEPS
