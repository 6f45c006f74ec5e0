"""What a search trial and a final training have in common inside their Ray worker: device, batches, settings."""

import contextlib
import ctypes
import dataclasses
import gc
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import ray
import torch

from irnas_ray.cluster.connection import quiet
from irnas_ray.datasets.batches import TrainingBatches
from irnas_ray.datasets.ray_data import PatchSet
from irnas_ray.degradations.factory import make_degradation
from irnas_ray.settings.degradations import Degradation
from irnas_ray.settings.study import StudyConfig
from irnas_ray.system.imports import collect_as_usual
from irnas_ray.training.accumulation import TooLarge
from irnas_ray.tune.reports import Reports

#: How long Tune waits until a stopped trial has left the process that another one is to use.
THREAD_SECONDS = 600
#: Counts the trials that ran in this process.
_trials = itertools.count()


def take_over_process() -> None:
    """Let a trial run where another one did: it finds that one's memory free, and is waited for in its turn."""
    # a thread that was stopped in a long step must not make Tune give up the next trial
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = str(THREAD_SECONDS)
    if next(_trials) == 0:
        return
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    # glibc keeps what each trial's thread has freed: 50 to 200 MB a trial in the same process
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def prepare_device(cpus: int) -> torch.device:
    """The device that Ray gave this worker, with the CPU threads it may use.

    The CUDA choices that make a run repeatable are left to PyTorch's defaults; on the CPU runs repeat bit for bit.
    """
    quiet()
    collect_as_usual()
    torch.set_num_threads(max(1, cpus))
    # a worker without a GPU of its own may still see those of others
    return torch.device("cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def failure_reported(
    reports: Reports,
    unknown: Callable[[], dict[str, Any]],
    given_up: tuple[type[Exception], ...] = (FloatingPointError, TooLarge),
) -> Iterator[None]:
    """Report that a training diverged, or that not even one image fits into memory, instead of raising.

    Started again from its last checkpoint it would only come to the same end. ``unknown`` gives the metrics that it
    leaves without a value.
    """
    try:
        yield
    except given_up as error:
        reports.fail(error, unknown() | {"progress": "the end"})


def make_batches(
    patches: PatchSet,
    degradation: Degradation,
    *,
    batch: int,
    crop: int,
    rotate: bool,
    seed: int,
    device: torch.device,
) -> TrainingBatches:
    """The training batches of some images on a device; they are degraded unless the patches are pairs."""
    source = patches.batches(batch, crop, seed, device)
    return TrainingBatches(source, crop, make_degradation(degradation), seed, device, rotate)


def final_batches(patches: PatchSet, study: StudyConfig, seed: int, device: torch.device) -> TrainingBatches:
    """The batches that a final network is trained on, and a proxy of it in a search trial."""
    final = study.final
    stream: dict[str, Any] = {"batch": final.batch, "crop": final.crop, "rotate": final.rotate}
    return make_batches(patches, final_degradation(study), seed=seed, device=device, **stream)


def final_degradation(study: StudyConfig) -> Degradation:
    """What final networks are trained on: white noise of the one level that is scored, unless they are to be blind."""
    if study.degradation.kind != "gaussian" or study.final.blind:
        return study.degradation
    return scored_degradation(study)


def scored_degradation(study: StudyConfig) -> Degradation:
    """What final networks are validated and scored under."""
    if study.degradation.kind != "gaussian":
        return study.degradation
    return dataclasses.replace(study.degradation, sigmas=[study.final.sigma], ranged=False)
