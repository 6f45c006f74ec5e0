"""One Tune trial: a supernet or a network trained with one configuration and one seed, saved after each validation."""

import functools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from irnas_ray.datasets.batches import TrainingBatches
from irnas_ray.datasets.ray_data import PatchSet
from irnas_ray.datasets.whole_images import ImageRecord
from irnas_ray.degradations.factory import validation_degradations
from irnas_ray.genotypes.decoding import Margin
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.objectives import LATENCY, SCORE, objectives_of
from irnas_ray.networks.building import make_encoding, make_network, make_supernet
from irnas_ray.networks.costs import seconds_per_megapixel, size_of
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.search.bilevel import BilevelSearch, run_search
from irnas_ray.search.health import Health
from irnas_ray.search.report import SearchReport
from irnas_ray.search.short_training import ShortTraining
from irnas_ray.search.single_path import SEARCHES
from irnas_ray.search.successive_halving import CandidateTrainings, Trained, rank_correlation, total_steps
from irnas_ray.settings.study import Final, Search, StudyConfig, settings_of
from irnas_ray.study.limits import affordable
from irnas_ray.study.worker import (
    failure_reported,
    final_batches,
    make_batches,
    prepare_device,
    scored_degradation,
    take_over_process,
)
from irnas_ray.system.random_streams import stream_seed
from irnas_ray.training.validation import Validate, validation_pixels, validator
from irnas_ray.tune.heartbeat import pulse_of_trial
from irnas_ray.tune.perturbation import continued, lineage
from irnas_ray.tune.reports import Left, Reports, folders_of
from irnas_ray.tune.run_storage import note_parameters

#: Most validations whose alpha and beta every report tells again.
MOST_POINTS = 40


@dataclass(frozen=True)
class TrialData:
    """What all trials of a study share: patches of Train W and Train A, and the images of Train V.

    Without a supernet nothing is divided: both hold all patches.
    """

    train_w: PatchSet
    train_a: PatchSet
    validation: list[ImageRecord]


def run_trial(config: dict[str, Any], study: StudyConfig, data: TrialData, left: Left = ()) -> None:
    """Search with the values in ``config`` (dotted keys and ``seed``), reporting to Tune; continues a checkpoint.

    The last report has ``finished=True`` and the score that picks the finals; or, where the loss diverged or a single
    image does not fit into memory, NaN for the score and the reason as ``error``: started again from its last
    checkpoint the trial would only come to the same end.
    """
    note_parameters(config)
    reports = Reports(
        patience=study.tune.storage_patience,
        pulse=pulse_of_trial(study.cluster.hang_minutes),
        newer=study.tune.perturb_every is None,
        left=folders_of(config, left),
    )

    def unknown() -> dict[str, Any]:
        # Tune and Optuna want every objective in every report
        lacking = [objective.metric for objective in objectives_of(study.tune.objectives)]
        values = {name: math.nan for name in lacking if name == SCORE or name not in reports.last}
        return values | {"epoch": reports.last.get("epoch", 0) + 1}

    with failure_reported(reports, unknown):
        (_search if study.search.supernet else _train)(config, study, data, reports)


def _search(config: dict[str, Any], study: StudyConfig, data: TrialData, reports: Reports) -> None:
    """The trial of a method with a supernet, which finds a genotype."""
    seed = int(config["seed"])
    settings, _ = settings_of(study, config)
    take_over_process()
    device = prepare_device(study.cluster.cpus_per_trial)
    state = reports.load()
    net, train_w, train_a, validate = search_parts(settings, data, seed, device)
    reports.follow(net)
    own, epochs = settings.search, settings.search.epochs
    costs = functools.cache(functools.partial(network_costs, settings=settings, device=device))

    if state is not None:
        state = continued(state, seed, train_w, train_a)
    history = lineage(state, seed, own.weight_lr, own.arch_rate())
    kept = {"seed": seed, "lineage": json.dumps(history)}
    # only a population changes rates on the way
    grown = {"lineage": kept["lineage"]} if study.tune.perturb_every is not None else {}
    if state is not None:
        # what a failure before the first report is told with
        reports.last = {"epoch": int(state["epoch"])} | grown

    def on_report(now: SearchReport, search: BilevelSearch) -> None:
        metrics = {
            "epoch": now.epoch,
            "progress": f"epoch {now.epoch}/{epochs}",
            "fraction": now.epoch / (epochs + 1),
            "finished": False,
            SCORE: now.psnr,
            "loss": now.weight_loss,
            "arch_loss": now.arch_loss,
        }
        found = describe(now.genotype, now.margins, now.best_psnr, now.best_ssim, now.seconds)
        found |= costs(now.genotype) | reports.divided(now.micro_batch, own.batch)
        found |= health_metrics(now.health, search.history) | {"steps": supernet_steps(own, now.epoch)}
        if len(search.history) == 1 and now.health is not None and (hopeless := now.health.hopeless()) is not None:
            reports.notice(hopeless)
        reports.report(metrics | found | grown, search.state_dict() | kept)

    search = SEARCHES[own.method](net, train_w, train_a, validate, own)
    result = run_search(search, on_report, state)
    start = time.perf_counter()
    genotype, score, trained = result.genotype, result.psnr, list[Trained]()
    decodings = affordable(search.decodings(), settings)
    if own.proxy_steps:
        short = candidate_trainings(settings, data, device, seed, reports.follow)
        trained = short.run(decodings)
        reports.divided(short.micro_batch, settings.final.batch)
        genotype, score = trained[0].decoding.genotype, trained[0].score
    elif own.decoding == "masking":
        genotype = decodings[0].genotype
    seconds = result.seconds + time.perf_counter() - start
    metrics = {"epoch": epochs + 1, "progress": "end", "fraction": 1.0, "finished": True, SCORE: score}
    found = describe(genotype, result.margins, result.psnr, result.ssim, seconds)
    found |= costs(genotype) | reports.divided(result.micro_batch, own.batch)
    found |= health_metrics(result.health, search.history, trained) | {
        "steps": supernet_steps(own, epochs, len(decodings), settings.tune.reduction_factor)
    }
    if result.health is not None and (undecided := result.health.warning()) is not None:
        reports.notice(undecided)
    reports.report(metrics | found | grown)


def _train(config: dict[str, Any], study: StudyConfig, data: TrialData, reports: Reports) -> None:
    """The trial of a method without a supernet: its configuration says which genotype's network is trained."""
    seed, (settings, genes) = int(config["seed"]), settings_of(study, config)
    genotype = make_encoding(settings).decode(genes)
    take_over_process()
    device = prepare_device(study.cluster.cpus_per_trial)
    state, epochs = reports.load(), settings.search.epochs
    training = short_training(genotype, settings, data, seed, device)
    reports.follow(training.network)
    costs = network_costs(genotype, settings, device)
    if state is not None:
        training.load_state_dict(state)
        reports.last = {"epoch": training.epoch}

    def found() -> dict[str, Any]:
        spent = spent_on(training.step, int(costs["multiply_adds_per_pixel"]), settings.final)
        said = describe(genotype, [], training.scores["psnr"], training.scores["ssim"], training.seconds)
        return said | costs | spent | reports.divided(training.accumulation.micro_batch, settings.final.batch)

    while not training.finished:
        now = training.run()
        metrics = {
            "epoch": training.epoch,
            "progress": f"epoch {training.epoch}/{epochs}",
            "fraction": training.epoch / (epochs + 1),
            "finished": False,
            SCORE: now.psnr,
            "loss": now.loss,
        }
        reports.report(metrics | found(), training.state_dict())
    metrics = {
        "epoch": epochs + 1,
        "progress": "end",
        "fraction": 1.0,
        "finished": True,
        SCORE: training.scores["psnr"],
    }
    reports.report(metrics | found())


def short_training(
    genotype: Genotype, settings: StudyConfig, data: TrialData, seed: int, device: torch.device
) -> ShortTraining:
    """What a trial without a supernet works with: a new network, its batches of all training images, its validation."""
    own, final = settings.search, settings.final
    seed = stream_seed(seed, "short training")
    torch.manual_seed(stream_seed(seed, "weights"))
    network = make_network(genotype, settings).to(device)
    batches = final_batches(data.train_w, settings, seed, device)
    pixels = validation_pixels(own.validation_share, own.steps_per_epoch * own.validate_every, final.batch, final.crop)
    degradations = validation_degradations(scored_degradation(settings))
    validate = validator(data.validation, degradations, own.tile, device, pixels)
    return ShortTraining(network, batches, validate, final, own)


def supernet_steps(search: Search, epoch: int, decodings: int = 0, factor: int = 2) -> int:
    """Steps of the weights, of alpha and beta where they are trained, and of the short trainings of decodings."""
    architecture = max(0, epoch - search.warmup_epochs) if search.method == "darts" else 0
    return search.steps_per_epoch * (epoch + architecture) + total_steps(search.proxy_steps, decodings, factor)


def spent_on(steps: int, multiply_adds: int, final: Final) -> dict[str, int]:
    """What the training steps of a final network cost: their number, and their multiply-adds, forward and backward.

    The backward pass counts twice: for the gradient of its input and of its weights.
    """
    return {"steps": steps, "training_multiply_adds": 3 * steps * multiply_adds * final.batch * final.crop**2}


def search_parts(
    settings: StudyConfig, data: TrialData, seed: int, device: torch.device
) -> tuple[SuperNet, TrainingBatches, TrainingBatches, Validate]:
    """What a search works with: a new supernet, its batches of Train W and of Train A, and its validation."""
    own = settings.search
    torch.manual_seed(stream_seed(seed, "search", "weights"))
    net = make_supernet(settings).to(device)
    stream: dict[str, Any] = {"batch": own.batch, "crop": own.crop, "rotate": False, "device": device}
    train_w = make_batches(data.train_w, settings.degradation, seed=stream_seed(seed, "search", "train_w"), **stream)
    train_a = make_batches(data.train_a, settings.degradation, seed=stream_seed(seed, "search", "train_a"), **stream)
    pixels = validation_pixels(own.validation_share, own.steps_per_epoch * own.validate_every, own.batch, own.crop)
    degradations = validation_degradations(settings.degradation)
    return net, train_w, train_a, validator(data.validation, degradations, own.tile, device, pixels)


def candidate_trainings(
    settings: StudyConfig,
    data: TrialData,
    device: torch.device,
    seed: int,
    follow: Callable[[nn.Module], None] = lambda network: None,
) -> CandidateTrainings:
    """The short trainings that rank a trial; ``follow`` is called with every network before it is trained."""

    def make(genotype: Genotype) -> nn.Module:
        network = make_network(genotype, settings).to(device)
        follow(network)
        return network

    seed = stream_seed(seed, "short training")
    degradations = validation_degradations(scored_degradation(settings))
    return CandidateTrainings(
        make,
        lambda: final_batches(data.train_w, settings, seed, device),
        validator(data.validation, degradations, settings.search.tile, device),
        settings.final,
        settings.search.proxy_steps,
        settings.tune.reduction_factor,
        seed,
    )


def describe(
    genotype: Genotype, margins: list[Margin], psnr: float, ssim: float, seconds: float
) -> dict[str, str | float]:
    """What a trial has found, as plain metrics that Tune and Optuna can keep."""
    return {
        "psnr": psnr,
        "ssim": ssim,
        "genotype": genotype.to_json(indent=None),
        "digest": genotype.digest,
        "margins": json.dumps([asdict(margin) for margin in margins]),
        "seconds": seconds,
    }


def health_metrics(
    health: Health | None, history: list[dict[str, Any]], trained: Sequence[Trained] = ()
) -> dict[str, str | float]:
    """The health of a search as metrics: numbers for curves, and all of it as JSON, with its course and its decodings.

    Empty where an earlier release saw what was best.
    """
    if health is None:
        return {}
    # the last one always, and as many before it
    course = history[:: -max(1, -(-len(history) // MOST_POINTS))][::-1]
    all_of_it = health.to_plain() | {"warning": health.warning(), "history": course}
    if len(trained) > 1:
        all_of_it["decodings"] = [one.to_plain() for one in trained]
        all_of_it["correlation"] = rank_correlation(trained)
    return {**health.numbers(), "health": json.dumps(all_of_it)}


def network_costs(genotype: Genotype, settings: StudyConfig, device: torch.device) -> dict[str, str | float]:
    """What the final network of a genotype costs, and the device of the trial; its time only where it is asked for."""
    found: dict[str, str | float] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        **size_of(genotype, settings),
    }
    if "latency" in settings.tune.objectives:
        # the search's random numbers must not depend on what is measured
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            network = make_network(genotype, settings)
        found[LATENCY] = seconds_per_megapixel(network, settings.architecture.channels, device)
    return found
