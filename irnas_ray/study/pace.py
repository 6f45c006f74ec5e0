"""How long a study takes on this machine: a step is timed first, and trainings are shortened where it is too slow."""

import itertools
import math
import time
from dataclasses import replace
from random import Random
from typing import Any

import ray
import torch

from irnas_ray.networks.building import make_encoding, make_network, make_supernet
from irnas_ray.results.folder import StudyFolder
from irnas_ray.search.single_path import SEARCHES
from irnas_ray.search.successive_halving import total_steps
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.study.worker import prepare_device
from irnas_ray.system.files import read_json, write_json
from irnas_ray.training.training import Training

#: Share of the time that steps may take; validations, scores, and starts of processes take the rest.
FOR_STEPS = 0.8
#: What all trainings of a study are shortened by alike.
LENGTHS = ("search.steps_per_epoch", "search.proxy_steps", "final.steps", "final.validate_every")
#: Steps that are timed, after as many that are not.
TIMED_STEPS = 4


def paced(config: StudyConfig, folder: StudyFolder, resources: dict[str, float], places: int) -> StudyConfig:
    """The settings with trainings short enough that the study keeps to ``config.minutes`` on this cluster.

    Nothing is lengthened. What was measured is kept in the study's folder and holds for every run of the study.
    ``places`` is how many trials run at a time.
    """
    if config.minutes is None:
        return config
    if folder.pace.exists():
        measured = read_json(folder.pace)
    else:
        step = _time_steps.options(num_cpus=resources["cpu"], num_gpus=resources["gpu"])
        measured = ray.get(step.remote(config))
        measured["factor"] = shortening(config, measured["search_step"], measured["final_step"], places)
        write_json(folder.pace, measured)
    if measured["factor"] < 1:
        print(
            f"a training step takes {1000 * measured['final_step']:.0f} ms here: to end within {config.minutes:g} "
            f"minutes every training gets {measured['factor']:.0%} of its steps (minutes=null: all of them)",
            flush=True,
        )
    return shortened(config, measured["factor"])


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


def shortened(config: StudyConfig, factor: float) -> StudyConfig:
    """The settings with all lengths times the factor, in whole steps of at least 1 where there were any."""
    if factor == 1:
        return config
    sections: dict[str, Any] = {}
    for key in LENGTHS:
        section, name = key.split(".")
        length = getattr(getattr(config, section), name)
        sections[key] = max(1, round(length * factor)) if length else length
    return with_values(config, sections)


@ray.remote(max_retries=0)
def _time_steps(config: StudyConfig) -> dict[str, float]:
    return time_steps(config, prepare_device(config.cluster.cpus_per_trial))


def time_steps(config: StudyConfig, device: torch.device) -> dict[str, float]:
    """Seconds of a step of a search trial and of a final training, under the study's own settings."""
    torch.manual_seed(0)
    network = make_network(make_encoding(config).sample(Random(0)), config).to(device)
    final = replace(config.final, steps=2 * TIMED_STEPS, minutes=None, validate_every=TIMED_STEPS)
    training = Training(network, _batches(config, final.batch, final.crop, device), _no_scores, final)
    training.run()
    own = replace(config.search, epochs=3, warmup_epochs=1, steps_per_epoch=TIMED_STEPS, validate_every=3)
    train_w, train_a = (_batches(config, own.batch, own.crop, device) for _ in range(2))
    found = {"final_step": _timed(training.run, device)}
    if not config.search.supernet:
        return found | {"search_step": found["final_step"]}
    search = SEARCHES[own.method](make_supernet(config).to(device), train_w, train_a, _no_scores, own)
    search.run_epoch()
    return found | {"search_step": _timed(search.run_epoch, device)}


def _batches(config: StudyConfig, batch: int, crop: int, device: torch.device) -> Any:
    image = torch.rand(batch, config.architecture.channels, crop, crop, device=device)
    return itertools.repeat((image, image))


def _no_scores(_: torch.nn.Module) -> dict[str, float]:
    return {"psnr": 0.0, "ssim": 0.0}


def _timed(steps: Any, device: torch.device) -> float:
    begun = time.perf_counter()
    steps()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begun) / TIMED_STEPS
