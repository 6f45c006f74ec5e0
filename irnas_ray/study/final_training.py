"""The training of one final network in its Ray worker, and the files with its scores that it leaves."""

import copy
import json
import math
import re
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from irnas_ray.datasets.batches import State
from irnas_ray.datasets.ray_data import PatchSet
from irnas_ray.datasets.whole_images import ImageRecord
from irnas_ray.degradations.factory import validation_degradations
from irnas_ray.evaluation.picture_sheet import SheetImages
from irnas_ray.evaluation.protocols import get_protocol
from irnas_ray.evaluation.scores import evaluate
from irnas_ray.networks.checkpoints import save_network
from irnas_ray.networks.derived import count_parameters
from irnas_ray.networks.inference import restorer
from irnas_ray.networks.registry import multiply_adds
from irnas_ray.results.layout import FinalLayout
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.study.candidates import Candidate
from irnas_ray.study.worker import (
    failure_reported,
    final_batches,
    prepare_device,
    scored_degradation,
)
from irnas_ray.system.files import write_json
from irnas_ray.system.names import fitting
from irnas_ray.system.random_streams import stream_seed
from irnas_ray.training.tensorboard import TrainingBoard
from irnas_ray.training.training import Training, TrainingReport, train
from irnas_ray.training.validation import validator
from irnas_ray.tune.heartbeat import pulse_of_trial
from irnas_ray.tune.reports import Left, Reports, folders_of
from irnas_ray.tune.run_storage import note_parameters

#: Images on the sheet of a final network.
SHOWN = 2


@dataclass(frozen=True)
class FinalData:
    """What all final trainings share: patches of Train W and A together, and the images of Train V and of the test."""

    train: PatchSet
    validation: list[ImageRecord]
    test: list[ImageRecord]


def run_final(
    config: dict[str, Any],
    study: StudyConfig,
    candidates: list[Candidate],
    data: FinalData,
    board: Path,
    left: Left = (),
) -> None:
    """Train the candidate of ``config["rank"]`` from scratch, score it, and report to Tune with all its files.

    Curves and sample images go to a folder of its own under ``board``. Where the loss diverged, or a single image does
    not fit into memory, the last report has NaN for the score and the reason as ``error``: started again from its last
    checkpoint the training would only come to the same end.
    """
    candidate = candidates[int(config["rank"]) - 1]
    device = prepare_device(study.cluster.cpus_per_trial)
    note_parameters(config)
    reports = Reports(
        patience=study.tune.storage_patience,
        pulse=pulse_of_trial(study.cluster.hang_minutes),
        left=folders_of(config, left),
    )
    with failure_reported(reports, lambda: {"psnr": math.nan}):
        train_final(candidate, study, data, reachable(board), device, reports.load(), reports)


def reachable(board: Path) -> Path | None:
    """The folder of a run's curves, or None on a node that does not see the study's folder; a new one is lost there."""
    return board if board.parent.parent.is_dir() else None


def train_final(
    candidate: Candidate,
    study: StudyConfig,
    data: FinalData,
    board: Path | None,
    device: torch.device,
    state: State | None,
    reports: Reports,
    kind: type[Training] = Training,
) -> None:
    """Train a candidate from scratch, or on from ``state``, under the study's settings; the last report has its files.

    Every validation is reported. Without ``board`` no curves are written.
    """
    study = with_values(study, candidate.settings)
    final = study.final
    seed = stream_seed(final.seed, "final")
    torch.manual_seed(stream_seed(seed, "weights"))
    network = candidate.make_network(study).to(device)
    reports.follow(network)
    batches = final_batches(data.train, study, seed, device)
    degradations = validation_degradations(scored_degradation(study))
    validate = validator(data.validation, degradations, study.search.tile, device)
    with ExitStack() as stack:
        curves: TrainingBoard | None = None
        if board is not None:
            own = board / fitting(re.sub(r"[^\w.=-]+", "_", f"{candidate.rank}-{candidate.name}"))
            begun = int(state["step"]) if state else 0
            curves = stack.enter_context(TrainingBoard(own, data.validation, degradations, device, begun))

        def on_report(now: TrainingReport, training: Training) -> None:
            if curves is not None:
                curves.write(now, training.validated)
            write = partial(write_final, training, study, data.test, candidate, now) if now.finished else None
            metrics = _metrics(now, training) | reports.divided(now.micro_batch, final.batch)
            reports.report(metrics, training.state_dict(), write)

        train(
            network,
            batches,
            validate,
            final,
            on_report=on_report,
            state=state,
            kind=kind,
        )


def _metrics(now: TrainingReport, training: Training) -> dict[str, Any]:
    return {
        "psnr": now.psnr,
        "ssim": now.ssim,
        "loss": now.loss,
        "seconds": now.seconds,
        "progress": training.budget.describe(now.step, now.seconds),
        "fraction": now.used,
        "finished": now.finished,
    }


def write_final(
    training: Training,
    study: StudyConfig,
    test: list[ImageRecord],
    candidate: Candidate,
    now: TrainingReport,
    folder: Path,
) -> None:
    """Write what a training came to into a folder, and score it on the test images.

    network.pt holds the weights of the best validation, which are scored; last.pt those of the end. genotype.json,
    metrics.json, scores.csv, images/ and sheet.png lie beside them.
    """
    assert study.final.protocol is not None
    protocol, sigma = get_protocol(study.final.protocol, study.degradation), study.final.sigma
    files, network = FinalLayout(folder), copy.deepcopy(training.validated)
    trained = {"protocol": protocol.id, "sigma": protocol.level(sigma), "degradation": asdict(study.degradation)}
    save_network(network, files.last, trained | {"step": now.step, "validation_psnr": now.psnr})
    network.load_state_dict(training.best["weights"] or network.state_dict())
    shown = SheetImages(test, SHOWN)
    keep = shown.keeper(candidate.name)
    result = evaluate(restorer(network), test, protocol, sigma, candidate.name, files.images, keep)
    shown.save(files.sheet, protocol, sigma, [result])
    scores = {"protocol": result.protocol, "sigma": result.sigma, "psnr": result.psnr, "ssim": result.ssim}
    if study.final.scored != "test":
        scores["scored"] = study.final.scored
    metrics = {
        "rank": candidate.rank,
        "name": candidate.name,
        "trial": candidate.trial,
        "kind": candidate.kind,
        "arguments": candidate.arguments,
        "genotype": json.loads(candidate.genotype.to_json()) if candidate.genotype else None,
        "settings": candidate.settings,
        "seed": study.final.seed,
        "workers": study.final.workers,
        **scores,
        "validation_psnr": now.best_psnr,
        "best_step": now.best_step,
        "steps": now.step,
        "parameters": count_parameters(network),
        "multiply_adds_per_pixel": multiply_adds(network),
        "seconds": now.seconds,
        "evaluation": result.to_dict(),
    }
    if now.micro_batch is not None:
        metrics["micro_batch"] = now.micro_batch
    save_network(network, files.network, trained | scores | {"step": now.best_step, "validation_psnr": now.best_psnr})
    if candidate.genotype is not None:
        candidate.genotype.save(files.genotype)
    result.write_csv(files.scores)
    write_json(files.metrics, metrics)
