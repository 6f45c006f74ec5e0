"""The best genotypes retrained side by side across the cluster, each scored under the study's protocol."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import ray
from ray import tune
from torch import nn

from irnas_ray.datasets.whole_images import ImageRecord
from irnas_ray.evaluation.protocols import get_protocol
from irnas_ray.evaluation.scores import Evaluation, evaluate
from irnas_ray.networks.inference import restorer
from irnas_ray.progress.callback import StageProgress
from irnas_ray.results.folder import StudyFolder
from irnas_ray.results.layout import FinalLayout
from irnas_ray.settings.study import StudyConfig
from irnas_ray.study.candidates import Candidate
from irnas_ray.study.distributed_finals import WAITING, concurrent_finals, run_distributed_final
from irnas_ray.study.final_training import FinalData, run_final
from irnas_ray.study.worker import prepare_device
from irnas_ray.system.files import read_json
from irnas_ray.tune.internals import TRAIN_CHECKPOINT
from irnas_ray.tune.loggers import NoCurves, make_loggers
from irnas_ray.tune.runner import find_run, fit
from irnas_ray.tune.storage import open_storage


def run_finals(
    study: StudyConfig, folder: StudyFolder, candidates: list[Candidate], data: FinalData, resources: dict[str, float]
) -> list[dict[str, Any]]:
    """Retrain the candidates side by side and collect each one's files under ``finals/<rank>``; their metrics."""
    # other candidates or settings are another run: Tune would continue the old ones and ignore the new
    content = json.dumps([study.final.identity(), [candidate.identity() for candidate in candidates]], sort_keys=True)
    run = f"finals-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    found = find_run(folder.run(run), trusted=study.trust)
    ranks = {candidate.rank for candidate in candidates} - {int((ended.config or {})["rank"]) for ended in found.ended}
    shared: dict[str, Any] = {"study": study, "candidates": candidates, "data": data, "board": folder.tensorboard / run}
    trainable: Callable[..., None] = run_final
    wanted, concurrent = resources, study.cluster.max_concurrent
    if study.final.workers > 1:
        trainable = run_distributed_final
        shared |= {"storage": folder.storage, "resources": resources}
        wanted, concurrent = WAITING, concurrent_finals(study, resources)
    else:
        shared["left"] = found.left
    results = found.ended + fit(
        tune.with_parameters(trainable, **shared),
        found,
        wanted,
        StageProgress("finals", len(ranks), "psnr", names=_rank),
        max_failures=study.tune.max_failures,
        concurrent=concurrent,
        hang_minutes=study.cluster.hang_minutes,
        loggers=[NoCurves(), *make_loggers(study.tune.loggers, folder.name, folder.path)],
        param_space={"rank": tune.grid_search(sorted(ranks))},
    )
    finals = _collect(results, folder)
    if not finals:
        reasons = {metrics["error"] for result in results if "error" in (metrics := result.metrics or {})}
        raise ValueError("; ".join(["no final training finished", *sorted(reasons), f"see {folder.run(run)}"]))
    return sorted(finals, key=lambda final: final["rank"])


def _rank(config: Mapping[str, Any]) -> str:
    return str(config["rank"])


def _collect(results: list[tune.Result], folder: StudyFolder) -> list[dict[str, Any]]:
    """Copy the files of the finals that finished into the study's folder; their metrics."""
    finals = []
    for result in results:
        checkpoint = _checkpoint(result, folder)
        if checkpoint is None or not (result.metrics or {}).get("finished"):
            continue
        target = folder.final(int((result.config or {})["rank"]))
        with checkpoint.as_directory() as source:
            if target.exists() and not _same(Path(source), target):
                # an earlier run of the study trained something else here
                shutil.move(target, _unused(target.with_name(f"earlier-{target.name}")))
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("state.pt", ".*"))
        finals.append(read_json(FinalLayout(target).metrics))
    return finals


def _same(source: Path, target: Path) -> bool:
    """Whether a study that is continued has copied these files before."""
    before, now = FinalLayout(target).metrics, FinalLayout(source).metrics
    return before.exists() and before.read_bytes() == now.read_bytes()


def _checkpoint(result: tune.Result, folder: StudyFolder) -> tune.Checkpoint | None:
    reported = (result.metrics or {}).get(TRAIN_CHECKPOINT)
    if reported is None:
        return result.checkpoint
    # the study may have been moved since that was reported; the run of Ray Train and its checkpoint keep their names
    filesystem, storage = open_storage(folder.storage)
    return tune.Checkpoint("/".join([storage, *PurePosixPath(reported).parts[-2:]]), filesystem)


def _unused(path: Path) -> Path:
    return next(
        path.with_name(f"{path.name}-{i}") for i in range(1, 10_000) if not path.with_name(f"{path.name}-{i}").exists()
    )


def evaluation_of(final: dict[str, Any]) -> Evaluation:
    """The per-image scores in a final's metrics."""
    return Evaluation.from_dict(final["evaluation"])


def scores_of(
    networks: Mapping[Path, nn.Module], images: list[ImageRecord], config: StudyConfig, resources: dict[str, float]
) -> Iterator[tuple[Path, Evaluation]]:
    """The scores of trained networks under a study's protocol, side by side across the cluster, as they come."""
    shared, work = ray.put(images), _scored.options(num_cpus=resources["cpu"], num_gpus=resources["gpu"])
    running = {work.remote(network, shared, config): name for name, network in networks.items()}
    while running:
        (done,), _ = ray.wait(list(running))
        yield running.pop(done), ray.get(done)


@ray.remote
def _scored(network: nn.Module, images: list[ImageRecord], config: StudyConfig) -> Evaluation:
    device = prepare_device(config.cluster.cpus_per_trial)
    assert config.final.protocol is not None
    protocol = get_protocol(config.final.protocol, config.degradation)
    return evaluate(restorer(network.to(device)), images, protocol, config.final.sigma)
