"""A whole study: data, search trials, final trainings, scores; every stage's result is kept and continued from."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from irnas_ray.cluster.connection import asks_for_token, check_connection, connect
from irnas_ray.cluster.jobs import check_places
from irnas_ray.cluster.placement import slots, trial_resources
from irnas_ray.datasets.builder import fingerprint, prepare
from irnas_ray.datasets.manifest import Manifest, is_prepared
from irnas_ray.datasets.ray_data import PatchSet, open_patches
from irnas_ray.datasets.splits import Split, split_training
from irnas_ray.datasets.whole_images import ImageRecord, load_images
from irnas_ray.evaluation.baselines import baselines
from irnas_ray.evaluation.protocols import get_protocol
from irnas_ray.evaluation.scores import Evaluation, evaluate
from irnas_ray.hpo.ledger import LimitsUnmet
from irnas_ray.hpo.storage import StorageLost, load_databases, opened_storage
from irnas_ray.results.aggregates import missing_of
from irnas_ray.results.folder import StudyFolder
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.study.candidates import Candidate, choose
from irnas_ray.study.checks import check_data, check_search, check_settings
from irnas_ray.study.distributed_finals import check_workers
from irnas_ray.study.final_training import FinalData
from irnas_ray.study.finals import run_finals
from irnas_ray.study.gpu_memory import search_resources
from irnas_ray.study.pace import paced, paced_finals
from irnas_ray.study.rounds import run_search
from irnas_ray.study.summary import summarise
from irnas_ray.study.trial import TrialData
from irnas_ray.system.exit_status import Incomplete, checking_settings
from irnas_ray.system.progress_bar import progress_bar
from irnas_ray.tune.run_storage import claim_storage
from irnas_ray.tune.runner import Interrupted

MIB = 2**20


def run_study(config: StudyConfig) -> Path:
    """Run or continue the study that the settings describe and return its ``summary.json``.

    Raises ValueError or OSError with a clear message, before any work where that is possible; Incomplete at the end if
    trials or final trainings failed; KeyboardInterrupt if it was stopped.

    >>> import irnas_ray as ir
    >>> small = ["tune.trials=1", "search.steps_per_epoch=5", "final.count=1", "final.steps=20", "final.images=1"]
    >>> summary = ir.run_study(ir.compose("search", ["study=short", *small]))
    study 'short' in ...
    >>> ir.read_study(summary.parent).best()["state"]
    'COMPLETE'
    """
    with checking_settings():
        check_search(config)
    load_databases()
    return run(config, _search_candidates)


@dataclass
class Stage:
    """What the stages of a running study share."""

    config: StudyConfig
    folder: StudyFolder
    prepared: Path
    split: Split
    validation: list[ImageRecord]
    test: list[ImageRecord]
    resources: dict[str, float]

    def patches(self, ids: tuple[str, ...], shares: int) -> PatchSet:
        """Training patches of some images; ``shares`` says among how many sets the device's budget is divided."""
        return open_patches(self.prepared, ids, self.config.data.device_budget * MIB // shares)


#: Gives the records of a study's search trials and the networks that are trained from scratch.
CandidatesOf = Callable[[Stage], tuple[list[dict[str, Any]], list[Candidate]]]


def run(config: StudyConfig, candidates_of: CandidatesOf) -> Path:
    """Run or continue a study whose final networks ``candidates_of`` chooses; its ``summary.json``.

    Raises as ``run_study``.
    """
    with checking_settings():
        check_places(config)
        folder = StudyFolder(config)
    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        with checking_settings():
            check_settings(config)
        folder.check(config)
        check_connection(config.cluster)
        prepared = prepare_data(config)
        manifest = Manifest.load(prepared)
        check_data(config, manifest)
    with folder.lock():
        folder.check(config, manifest.fingerprint)
        return _run_stages(config, folder, prepared, manifest, seconds, candidates_of)


def _run_stages(
    config: StudyConfig,
    folder: StudyFolder,
    prepared: Path,
    manifest: Manifest,
    seconds: dict[str, float],
    candidates_of: CandidatesOf,
) -> Path:
    print(f"study {folder.name!r} in {folder.path}", flush=True)
    try:
        with _timed(seconds, "start"):
            dashboard = connect(config.cluster)
            resources = trial_resources(config.cluster)
            check_workers(config, resources)
            if dashboard:
                hint = " (it asks for a token, which `ray get-auth-token` tells)" if asks_for_token() else ""
                print(f"Ray dashboard: http://{dashboard}{hint}", flush=True)
            claim_storage(folder)
            folder.create(config, manifest.fingerprint)
        split = split_training(manifest.ids("train"), config.data.validation_fraction, config.data.split_seed)
        validation = load_images(prepared, split.train_v)
        test = validation
        if config.final.scored == "test":
            test = load_images(prepared, manifest.ids("test")[: config.final.images])
        stage = Stage(config, folder, prepared, split, validation, test, resources)
        with _timed(seconds, "search"):
            records, candidates = candidates_of(stage)
        places = slots(resources, config.cluster.max_concurrent)
        spent = max(seconds["search"], sum(record.get("seconds") or 0 for record in records) / places)
        config = paced_finals(config, folder, candidates, resources, places, spent)
        levels = sorted({with_values(config, candidate.settings).final.sigma for candidate in candidates})
        variants = [with_values(config, {"final.sigma": sigma}) for sigma in levels]
        reference = _evaluate_baselines.remote(test, variants)
        with _timed(seconds, "finals"):
            train = stage.patches((*split.train_w, *split.train_a), 1)
            finals = run_finals(config, folder, candidates, FinalData(train, validation, test), resources)
        with _timed(seconds, "evaluation"):
            evaluations: list[Evaluation] = ray.get(reference)
    except Interrupted as stopped:
        print(stopped, flush=True)
        raise
    except StorageLost as lost:
        raise OSError(f"{lost}; the trials' checkpoints are kept, continue with resume=true") from None
    except LimitsUnmet as unmet:
        raise ValueError(
            f"tune.max_parameters, tune.max_multiply_adds: {unmet}; raise them, and continue with resume=true"
        ) from None
    summarise(config, folder, seconds, records, finals, evaluations)
    _complain_of_failures(config, records, len(candidates) - len(finals))
    return folder.summary


def _complain_of_failures(config: StudyConfig, records: list[dict[str, Any]], finals: int) -> None:
    """Incomplete if final trainings failed, or configurations did under all seeds and were not made up for."""
    trials = missing_of(records, config.tune.trials) if records else 0
    failed = []
    if trials:
        failed.append(f"{trials} of {config.tune.trials} configurations failed; resume=true makes up for them")
    if finals:
        failed.append(
            f"{finals} final trainings failed; resume=true goes on with those whose workers died, the others told "
            "their reasons and need other settings under final"
        )
    if failed:
        raise Incomplete(f"the study is finished, but {', and '.join(failed)}")


def is_searched(config: StudyConfig, folder: StudyFolder) -> bool:
    """Whether an earlier run has ended all search trials that are asked for, so that none needs a place."""
    return folder.open_round() is None and not missing_of(folder.read_records(), config.tune.trials)


def _search_candidates(stage: Stage) -> tuple[list[dict[str, Any]], list[Candidate]]:
    config, folder, resources = stage.config, stage.folder, stage.resources
    config = paced(config, folder, resources, slots(resources, config.cluster.max_concurrent))
    tuned, data = config.tune, _trial_data(stage)
    if not is_searched(config, folder):
        resources = search_resources(config, data, resources)
    with opened_storage(tuned.storage, folder.path, tuned.storage_patience) as storage:
        records = run_search(config, folder, data, resources, storage)
    return records, choose(records, config)


def _trial_data(stage: Stage) -> TrialData:
    """What trials are trained and validated on; without a supernet all images but Train V train the weights."""
    split = stage.split
    if not stage.config.search.supernet:
        both = stage.patches((*split.train_w, *split.train_a), 1)
        return TrialData(both, both, stage.validation)
    return TrialData(stage.patches(split.train_w, 2), stage.patches(split.train_a, 2), stage.validation)


def prepare_data(config: StudyConfig) -> Path:
    """The prepared Parquet folder of a study's data, made now unless it exists."""
    data = config.data
    if data.source is not None and is_prepared(data.source):
        return Path(data.source).absolute()
    name = f"{data.form}-{fingerprint(data)}"
    folder = Path(data.output) if data.output else Path(config.results).absolute() / "prepared" / name
    with progress_bar("prepare") as progress:
        return prepare(data, folder, progress, degradation=config.degradation)


# it takes no place, for which final trainings would wait until its process is up
@ray.remote(num_cpus=0)
def _evaluate_baselines(test: list[ImageRecord], variants: list[StudyConfig]) -> list[Evaluation]:
    """The scores of the baselines at the noise level of each of the settings, on one thread."""
    torch.set_num_threads(1)
    found = []
    for config in variants:
        assert config.final.protocol is not None
        protocol = get_protocol(config.final.protocol, config.degradation)
        for name, method in baselines(protocol, config.final.sigma).items():
            found.append(evaluate(method, test, protocol, config.final.sigma, name=name))
    return found


class _timed:
    """Adds the time spent inside to a stage of ``seconds``."""

    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self.seconds, self.stage = seconds, stage

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        elapsed = time.perf_counter() - self.start
        self.seconds[self.stage] = round(self.seconds.get(self.stage, 0.0) + elapsed, 2)
