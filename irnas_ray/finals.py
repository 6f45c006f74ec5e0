"""The best genotypes retrained side by side across the cluster, each scored under the study's protocol."""

import hashlib
import json
import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune

from irnas_ray.checkpoints import save_network
from irnas_ray.degradation import validation_degradations
from irnas_ray.evaluation import Evaluation, evaluate
from irnas_ray.folder import StudyFolder, write_json
from irnas_ray.genotype import Genotype
from irnas_ray.inference import restorer
from irnas_ray.network import DerivedNetwork, count_parameters, multiply_adds_per_pixel
from irnas_ray.patches import PatchSet
from irnas_ray.preparing import ImageRecord
from irnas_ray.progress import ProgressLines
from irnas_ray.protocols import get_protocol
from irnas_ray.settings import StudyConfig, with_values
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
    """A genotype that is retrained, the trial that found it, and that trial's score."""

    rank: int
    trial: str
    genotype: Genotype
    score: float
    #: The architecture settings of that trial which the genotype does not hold, by dotted key.
    settings: dict[str, Any]


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
            chosen[identity] = Candidate(len(chosen) + 1, record["id"], genotype, record["score"], settings)
    return list(chosen.values())


def run_final(config: dict[str, Any], study: StudyConfig, candidates: list[Candidate], data: FinalData) -> None:
    """Train the candidate of ``config["rank"]`` from scratch, score it, and report with all its files."""
    candidate = candidates[int(config["rank"]) - 1]
    final = study.final
    device = prepare_device(study.cluster.cpus_per_trial)
    state = load_checkpoint()
    torch.manual_seed(final.seed)
    network = make_network(candidate.genotype, with_values(study, candidate.settings)).to(device)
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

    def on_report(now: TrainingReport, training: Training) -> None:
        metrics = {
            "psnr": now.psnr,
            "ssim": now.ssim,
            "seconds": now.seconds,
            "progress": f"step {now.step}/{final.steps}",
            "fraction": now.step / final.steps,
            "digest": candidate.genotype.digest,
        }
        if now.step < final.steps:
            report(metrics | {"finished": False}, training.state_dict())
            return

        def write(folder: Path) -> None:
            _score(network, study, data.test, candidate, now, folder)

        report(metrics | {"finished": True}, training.state_dict(), write)

    keywords = training_keywords(final)
    train(
        network,
        batches,
        validate,
        steps=final.steps,
        validate_every=final.validate_every,
        on_report=on_report,
        state=state,
        **keywords,
    )


def _score(
    network: DerivedNetwork,
    study: StudyConfig,
    test: list[ImageRecord],
    candidate: Candidate,
    now: TrainingReport,
    folder: Path,
) -> None:
    """Write network.pt, genotype.json, metrics.json, scores.csv and images/ of a trained network into a folder."""
    assert study.final.protocol is not None
    result = evaluate(
        restorer(network),
        test,
        get_protocol(study.final.protocol, study.degradation),
        study.final.sigma,
        name=f"final {candidate.rank}",
        pictures=folder / "images",
    )
    metrics = {
        "rank": candidate.rank,
        "trial": candidate.trial,
        "genotype": json.loads(candidate.genotype.to_json()),
        "seed": study.final.seed,
        "psnr": result.psnr,
        "ssim": result.ssim,
        "validation_psnr": now.psnr,
        "parameters": count_parameters(network),
        "multiply_adds_per_pixel": multiply_adds_per_pixel(network),
        "seconds": now.seconds,
        "protocol": result.protocol,
        "sigma": result.sigma,
        "evaluation": result.to_dict(),
    }
    notes = {
        "protocol": result.protocol,
        "sigma": result.sigma,
        "psnr": result.psnr,
        "ssim": result.ssim,
        "degradation": asdict(study.degradation),
    }
    save_network(network, folder / "network.pt", notes)
    candidate.genotype.save(folder / "genotype.json")
    result.write_csv(folder / "scores.csv")
    write_json(folder / "metrics.json", metrics)


def run_finals(
    study: StudyConfig, folder: StudyFolder, candidates: list[Candidate], data: FinalData, resources: dict[str, float]
) -> list[dict[str, Any]]:
    """Retrain the candidates side by side and collect each one's files under ``finals/<rank>``; their metrics."""
    progress = ProgressLines("finals", len(candidates), "psnr")
    # other candidates or settings are another run: Tune would continue the old ones and ignore the new
    content = json.dumps([asdict(study.final), [[c.genotype.digest, c.settings] for c in candidates]], sort_keys=True)
    run = f"finals-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    results = fit(
        tune.with_parameters(run_final, study=study, candidates=candidates, data=data),
        folder.trials / run,
        resources,
        progress,
        max_failures=study.tune.max_failures,
        concurrent=study.cluster.max_concurrent,
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
