"""The best genotypes retrained side by side across the cluster, each scored under the study's protocol."""

import copy
import hashlib
import json
import math
import re
import shutil
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ray import tune
from torch import nn

from irnas_ray.checkpoints import save_network
from irnas_ray.degradation import validation_degradations
from irnas_ray.evaluation import Evaluation, evaluate
from irnas_ray.folder import StudyFolder, write_json
from irnas_ray.genotype import Genotype
from irnas_ray.inference import restorer
from irnas_ray.loggers import make_loggers
from irnas_ray.network import count_parameters
from irnas_ray.networks import GENOTYPE, make_peer, multiply_adds
from irnas_ray.patches import PatchSet
from irnas_ray.preparing import ImageRecord
from irnas_ray.progress import StageProgress
from irnas_ray.protocols import get_protocol
from irnas_ray.settings import StudyConfig, with_values
from irnas_ray.tensorboard import TrainingBoard
from irnas_ray.training import Training, TrainingReport, train
from irnas_ray.trial import make_network
from irnas_ray.tuning import fit
from irnas_ray.validation import validator
from irnas_ray.worker import (
    final_degradation,
    load_checkpoint,
    make_batches,
    prepare_device,
    report,
    scored_degradation,
    training_keywords,
)

#: Settings that shape a final network beside its genotype; where they are tuned, the trial's own value is used.
BUILT_IN = ("architecture.residual", "architecture.activation", "architecture.sep_repeats")


@dataclass(frozen=True)
class FinalData:
    """What all final trainings share: patches of Train W and A together, and the images of Train V and of the test."""

    train: PatchSet
    validation: list[ImageRecord]
    test: list[ImageRecord]


@dataclass(frozen=True)
class Candidate:
    """A network that is trained from scratch: that of a genotype, or one without (``networks.make_peer``)."""

    rank: int
    #: What the network is called in tables.
    name: str
    #: The trial that found the genotype, or where else it is from.
    trial: str
    genotype: Genotype | None
    #: The score of that trial.
    score: float = 0.0
    #: Settings by dotted key that differ from those of the study: the trial's own, or those that are compared.
    settings: dict[str, Any] = field(default_factory=dict)
    #: ``genotype``, or the name of a network without one and its arguments.
    kind: str = GENOTYPE
    arguments: dict[str, Any] = field(default_factory=dict)

    def make_network(self, settings: StudyConfig) -> nn.Module:
        """The network with new weights under these settings; ValueError naming the setting that is impossible."""
        if self.genotype is None:
            return make_peer(self.kind, settings.architecture.channels, self.arguments)
        return make_network(self.genotype, settings)

    def identity(self) -> list[Any]:
        """Plain values that are equal exactly for candidates of the same training under the same settings."""
        return [self.kind, self.arguments, self.genotype.digest if self.genotype else None, self.settings]


def choose(records: list[dict[str, Any]], count: int) -> list[Candidate]:
    """The best distinct genotypes of the finished trials, best first; ValueError if no trial finished."""
    finished = [record for record in records if record["state"] == "COMPLETE" and math.isfinite(record["score"])]
    if not finished:
        states = ", ".join(f"{record['id']} {record['state']}" for record in records) or "none was run"
        raise ValueError(
            f"no trial finished, so there is nothing to retrain (trials: {states}); see the trials' errors"
        )
    chosen: dict[str, Candidate] = {}
    for record in sorted(finished, key=lambda record: -record["score"]):
        genotype = Genotype.from_json(json.dumps(record["genotype"]))
        settings = {key: value for key, value in record["config"].items() if key in BUILT_IN}
        identity = f"{genotype.digest} {sorted(settings.items())}"
        if identity not in chosen and len(chosen) < count:
            rank = len(chosen) + 1
            chosen[identity] = Candidate(rank, f"final {rank}", record["id"], genotype, record["score"], settings)
    return list(chosen.values())


def run_final(
    config: dict[str, Any], study: StudyConfig, candidates: list[Candidate], data: FinalData, board: Path
) -> None:
    """Train the candidate of ``config["rank"]`` from scratch, score it, and report with all its files.

    Curves and sample images go to a folder of its own under ``board``.
    """
    candidate = candidates[int(config["rank"]) - 1]
    study = with_values(study, candidate.settings)
    final = study.final
    device = prepare_device(study.cluster.cpus_per_trial)
    state = load_checkpoint()
    torch.manual_seed(final.seed)
    network = candidate.make_network(study).to(device)
    batches = make_batches(
        data.train,
        final_degradation(study),
        batch=final.batch,
        crop=final.crop,
        rotate=final.rotate,
        seed=final.seed,
        device=device,
    )
    degradations = validation_degradations(scored_degradation(study))
    validate = validator(data.validation, degradations, study.search.tile, device)
    own = board / re.sub(r"[^\w.=-]+", "_", f"{candidate.rank}-{candidate.name}")
    with TrainingBoard(own, data.validation, degradations, device, int(state["step"]) if state else 0) as curves:

        def on_report(now: TrainingReport, training: Training) -> None:
            curves.write(now, training.validated)
            write = partial(write_final, training, study, data.test, candidate, now) if now.finished else None
            report(_metrics(now, training), training.state_dict(), write)

        train(
            network,
            batches,
            validate,
            steps=None if final.minutes else final.steps,
            minutes=final.minutes,
            ema_decay=final.ema_decay,
            validate_every=final.validate_every,
            on_report=on_report,
            state=state,
            **training_keywords(final),
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
    metrics.json, scores.csv and images/ lie beside them.
    """
    assert study.final.protocol is not None
    protocol, sigma = get_protocol(study.final.protocol, study.degradation), study.final.sigma
    network = copy.deepcopy(training.validated)
    trained = {"protocol": protocol.id, "sigma": protocol.level(sigma), "degradation": asdict(study.degradation)}
    save_network(network, folder / "last.pt", trained | {"step": now.step, "validation_psnr": now.psnr})
    network.load_state_dict(training.best["weights"] or network.state_dict())
    result = evaluate(restorer(network), test, protocol, sigma, name=candidate.name, pictures=folder / "images")
    scores = {"protocol": result.protocol, "sigma": result.sigma, "psnr": result.psnr, "ssim": result.ssim}
    metrics = {
        "rank": candidate.rank,
        "name": candidate.name,
        "trial": candidate.trial,
        "kind": candidate.kind,
        "arguments": candidate.arguments,
        "genotype": json.loads(candidate.genotype.to_json()) if candidate.genotype else None,
        "settings": candidate.settings,
        "seed": study.final.seed,
        **scores,
        "validation_psnr": now.best_psnr,
        "best_step": now.best_step,
        "steps": now.step,
        "parameters": count_parameters(network),
        "multiply_adds_per_pixel": multiply_adds(network),
        "seconds": now.seconds,
        "evaluation": result.to_dict(),
    }
    save_network(
        network, folder / "network.pt", trained | scores | {"step": now.best_step, "validation_psnr": now.best_psnr}
    )
    if candidate.genotype is not None:
        candidate.genotype.save(folder / "genotype.json")
    result.write_csv(folder / "scores.csv")
    write_json(folder / "metrics.json", metrics)


def run_finals(
    study: StudyConfig, folder: StudyFolder, candidates: list[Candidate], data: FinalData, resources: dict[str, float]
) -> list[dict[str, Any]]:
    """Retrain the candidates side by side and collect each one's files under ``finals/<rank>``; their metrics."""
    progress = StageProgress("finals", len(candidates), "psnr")
    # other candidates or settings are another run: Tune would continue the old ones and ignore the new
    content = json.dumps([asdict(study.final), [candidate.identity() for candidate in candidates]], sort_keys=True)
    run = f"finals-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    results = fit(
        tune.with_parameters(run_final, study=study, candidates=candidates, data=data, board=folder.tensorboard / run),
        folder.trials / run,
        resources,
        progress,
        max_failures=study.tune.max_failures,
        concurrent=study.cluster.max_concurrent,
        loggers=make_loggers(study.tune.loggers, folder.name, folder.path),
        param_space={"rank": tune.grid_search([candidate.rank for candidate in candidates])},
    )
    finals = []
    for result in results:
        if result.checkpoint is None or not (result.metrics or {}).get("finished"):
            continue
        target = folder.final(int((result.config or {})["rank"]))
        if target.exists():
            # an earlier run of the study trained something else here
            shutil.move(target, _unused(folder.path / "finals" / f"earlier-{target.name}"))
        with result.checkpoint.as_directory() as source:
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("state.pt", ".*"))
        finals.append(json.loads((target / "metrics.json").read_text()))
    if not finals:
        raise ValueError(f"no final training finished; see the errors under {folder.trials / run}")
    return sorted(finals, key=lambda final: final["rank"])


def _unused(path: Path) -> Path:
    return next(
        path.with_name(f"{path.name}-{i}") for i in range(1, 10_000) if not path.with_name(f"{path.name}-{i}").exists()
    )


def evaluation_of(final: dict[str, Any]) -> Evaluation:
    """The per-image scores in a final's metrics."""
    return Evaluation.from_dict(final["evaluation"])
