"""Final trainings by several workers each: Ray Train's ``TorchTrainer`` inside a Tune trial, continued by its name."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray import tune
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.tune.integration.ray_train import TuneReportCallback

from irnas_ray.cluster.connection import quiet
from irnas_ray.cluster.placement import slots
from irnas_ray.datasets.batches import State
from irnas_ray.settings.study import StudyConfig
from irnas_ray.study.candidates import Candidate
from irnas_ray.study.final_training import FinalData, reachable, train_final
from irnas_ray.study.worker import failure_reported
from irnas_ray.training.distributed import DistributedTraining, check_same
from irnas_ray.tune.heartbeat import Pulse
from irnas_ray.tune.reports import Reports, Write

#: What the Tune trial itself takes, which only waits: a byte, because Tune wants something, and a share of a CPU would
#: keep the workers from a machine that they fill.
WAITING = {"cpu": 0.0, "gpu": 0.0, "memory": 1.0}
#: Its annotations are those of an earlier Ray Train.
RunConfig: Any = ray.train.RunConfig


def check_workers(study: StudyConfig, resources: dict[str, float]) -> None:
    """ValueError unless the cluster holds all workers of one final training at a time."""
    workers = study.final.workers
    if workers > 1 and (room := slots(worker_resources(resources), None)) < workers:
        raise ValueError(
            f"final.workers: {workers} workers do not fit, the cluster has room for {room} of "
            f"{resources['cpu']:g} CPUs{' and a GPU' if resources['gpu'] else ''}; lower it or cluster.cpus_per_trial"
        )


def worker_resources(resources: dict[str, float]) -> dict[str, float]:
    """What one of several workers takes: a trial's CPUs and a whole GPU, because processes cannot share one here."""
    return resources | {"gpu": float(math.ceil(min(resources["gpu"], 1)))}


def concurrent_finals(study: StudyConfig, resources: dict[str, float]) -> int:
    """How many final trainings fit the cluster at a time."""
    fit = max(1, slots(worker_resources(resources), None) // study.final.workers)
    return min(fit, study.cluster.max_concurrent or fit)


def run_name(study: StudyConfig, candidate: Candidate) -> str:
    """The name of the run of Ray Train: one for each training, whatever its rank and however many workers do it."""
    content = json.dumps([replace(study.final, workers=1).identity(), candidate.identity()], sort_keys=True)
    return f"final-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def run_distributed_final(
    config: dict[str, Any],
    study: StudyConfig,
    candidates: list[Candidate],
    data: FinalData,
    board: Path,
    storage: str,
    resources: dict[str, float],
) -> None:
    """As ``final_training.run_final``, by ``final.workers`` workers of ``resources`` each.

    Under ``storage`` it has a run of Ray Train, which every later start continues from its newest checkpoint, also with
    another number of workers.
    """
    quiet()
    candidate = candidates[int(config["rank"]) - 1]
    own = worker_resources(resources)
    context = tune.get_context()
    watched = partial(Pulse, context.get_experiment_name(), context.get_trial_id(), study.cluster.hang_minutes)
    trainer = TorchTrainer(
        partial(_train_in_worker, watched, candidate=candidate, study=study, data=data, board=board),
        scaling_config=ray.train.ScalingConfig(
            num_workers=study.final.workers,
            use_gpu=own["gpu"] > 0,
            resources_per_worker={"CPU": own["cpu"], "GPU": own["gpu"]},
        ),
        # small messages between the processes go from CPU to CPU, so that no GPU waits for them
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if own["gpu"] else "gloo"),
        run_config=RunConfig(
            name=run_name(study, candidate),
            storage_path=storage,
            # Tune starts again what failed here, and also where this trial's own process died; if both did, a training
            # that fails each time would be tried (1 + max_failures) squared times
            failure_config=ray.train.FailureConfig(max_failures=0),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            callbacks=[TuneReportCallback()],
            logging_config=ray.train.LoggingConfig(log_level="CRITICAL"),
        ),
    )
    trainer.fit()


def _train_in_worker(
    watched: Callable[[], Pulse], candidate: Candidate, study: StudyConfig, data: FinalData, board: Path
) -> None:
    quiet()
    torch.set_num_threads(max(1, study.cluster.cpus_per_trial))
    first = ray.train.get_context().get_world_rank() == 0
    reports = (Reports if first else _Silent)(ray.train.get_checkpoint, ray.train.report, alone=False, pulse=watched())
    state = reports.load()
    check_same("genotype", candidate.genotype.digest if candidate.genotype else candidate.kind)
    # workers on several machines may see different states of their storage
    check_same("step to go on from", str(state["step"] if state else 0))
    # the loss is the same in all of them, so that all report it; what does not fit into memory fails one alone
    with failure_reported(reports, lambda: {"psnr": math.nan}, (FloatingPointError,)):
        curves = reachable(board) if first else None
        train_final(candidate, study, data, curves, get_device(), state, reports, DistributedTraining)


class _Silent(Reports):
    """The reports of a worker that leaves saving to the first; a report counts when every worker has made it."""

    def report(self, metrics: dict[str, Any], state: State | None = None, write: Write | None = None) -> None:
        super().report(metrics)
