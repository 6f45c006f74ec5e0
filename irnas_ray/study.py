"""A whole study: data, search trials, final trainings, scores; every stage's result is kept and continued from."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from irnas_ray.baselines import baselines
from irnas_ray.checking import check_data, check_search, check_settings
from irnas_ray.choosing import Candidate, choose
from irnas_ray.distributed_finals import check_workers
from irnas_ray.domains import fixed_values
from irnas_ray.evaluation import Evaluation, evaluate
from irnas_ray.final_training import FinalData
from irnas_ray.finals import run_finals
from irnas_ray.folder import StudyFolder, write_json
from irnas_ray.genotype import Genotype
from irnas_ray.jobs import check_places
from irnas_ray.patches import PatchSet, open_patches
from irnas_ray.preparing import (
    ImageRecord,
    Manifest,
    Split,
    fingerprint,
    is_prepared,
    load_images,
    prepare,
    split_training,
)
from irnas_ray.progress import ProgressLines
from irnas_ray.progress_bar import progress_bar
from irnas_ray.protocols import get_protocol
from irnas_ray.runtime import connect, slots, trial_resources
from irnas_ray.sampling import StudySearch, claim_study, fail_running
from irnas_ray.settings import StudyConfig, with_values
from irnas_ray.storage import StorageLost, opened_storage
from irnas_ray.summary import summarise
from irnas_ray.trial import SCORE, TrialData, run_trial
from irnas_ray.trial_storage import claim_storage
from irnas_ray.tuning import Interrupted, find_run, fit
from irnas_ray.warm_start import enqueue

MIB = 2**20


def run_study(config: StudyConfig) -> Path:
    """Run or continue the study that the settings describe and return its ``summary.json``.

    Raises ValueError or OSError with a clear message, before any work where that is possible; KeyboardInterrupt if it
    was stopped, after saying how it is continued.
    """
    check_search(config)
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
    check_places(config)
    folder = StudyFolder(config)
    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        check_settings(config)
        folder.check(config)
        prepared = prepare_data(config)
        manifest = Manifest.load(prepared)
        check_data(config, manifest)
    with folder.lock():
        folder.check(config)
        folder.create(config, manifest.fingerprint)
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
                print(f"Ray dashboard: http://{dashboard}", flush=True)
            claim_storage(folder)
        split = split_training(manifest.ids("train"), config.data.validation_fraction, config.data.split_seed)
        validation = load_images(prepared, split.train_v)
        test = load_images(prepared, manifest.ids("test")[: config.final.images])
        stage = Stage(config, folder, prepared, split, validation, test, resources)
        with _timed(seconds, "search"):
            records, candidates = candidates_of(stage)
        levels = sorted({with_values(config, candidate.settings).final.sigma for candidate in candidates})
        variants = [with_values(config, {"final.sigma": sigma}) for sigma in levels]
        reference = [_evaluate_baseline.remote(name, test, v) for v in variants for name in _baseline_names(v)]
        with _timed(seconds, "finals"):
            train = stage.patches((*split.train_w, *split.train_a), 1)
            finals = run_finals(config, folder, candidates, FinalData(train, validation, test), resources)
        with _timed(seconds, "evaluation"):
            evaluations: list[Evaluation] = ray.get(reference)
    except Interrupted as stopped:
        print(f"{stopped}; continue with the same command and resume=true", flush=True)
        raise
    except StorageLost as lost:
        raise OSError(f"{lost}; the trials' checkpoints are kept, continue with resume=true") from None
    summarise(config, folder, seconds, records, finals, evaluations)
    if len(finals) < len(candidates):
        raise ValueError(
            f"{len(candidates) - len(finals)} final trainings failed; resume=true repeats those that did not diverge"
        )
    return folder.summary


def _search_candidates(stage: Stage) -> tuple[list[dict[str, Any]], list[Candidate]]:
    train_w, train_a = stage.patches(stage.split.train_w, 2), stage.patches(stage.split.train_a, 2)
    tuned, data = stage.config.tune, TrialData(train_w, train_a, stage.validation)
    with opened_storage(tuned.storage, stage.folder.path, tuned.storage_patience) as storage:
        records = run_search(stage.config, stage.folder, data, stage.resources, storage)
    return records, choose(records, stage.config.final.count)


def prepare_data(config: StudyConfig) -> Path:
    """The prepared Parquet folder of a study's data, made now unless it exists."""
    data = config.data
    if data.source is not None and is_prepared(data.source):
        return Path(data.source).absolute()
    name = f"{data.form}-{fingerprint(data)}"
    folder = Path(data.output) if data.output else Path(config.results).absolute() / "prepared" / name
    with progress_bar("prepare") as progress:
        return prepare(data, folder, progress, degradation=config.degradation)


def run_search(
    config: StudyConfig,
    folder: StudyFolder,
    data: TrialData,
    resources: dict[str, float],
    storage: optuna.storages.BaseStorage,
) -> list[dict[str, Any]]:
    """Run the search trials that the study still lacks, in rounds, and return the records of all.

    A round that was interrupted is finished as it was begun; then a further one makes up for trials that were asked
    for since, or that failed in an earlier run.
    """
    kept = folder.trials / "records.json"
    records: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else []
    claim_study(folder.name, storage, folder.path)
    enqueue(optuna.load_study(study_name=folder.name, storage=storage), config)
    begun = json.loads(folder.rounds.read_text()) if folder.rounds.exists() else []
    while True:
        if len(begun) > len({record["round"] for record in records}):
            size, started = begun[-1]
        else:
            succeeded = sum(record["state"] != "FAIL" for record in records)
            size = config.tune.trials * config.tune.replicates - succeeded
            # seeds count the suggestions, also those that a damaged run has lost
            started = max((record["config"]["seed"] + 1 for record in records), default=config.tune.seed)
            started -= config.tune.seed
            if size <= 0:
                return records
            begun.append([size, started])
            write_json(folder.rounds, begun)
        new = _run_round(config, folder, data, resources, storage, len(begun), size, started)
        records += new
        write_json(kept, records)
        if any(record["state"] == "FAIL" for record in new):
            # what failed just now would most likely fail again; a later resume tries anew
            return records


def _run_round(
    config: StudyConfig,
    folder: StudyFolder,
    data: TrialData,
    resources: dict[str, float],
    storage: optuna.storages.BaseStorage,
    number: int,
    size: int,
    started: int,
) -> list[dict[str, Any]]:
    run = find_run(folder.run(f"round-{number}"))
    tuned = config.tune
    # whole configurations: a replicate of its own would never be told to the study
    missing = math.ceil((size - len(run.ended)) / tuned.replicates) * tuned.replicates
    started += math.ceil(run.lost / tuned.replicates) * tuned.replicates
    search = StudySearch(
        config.domains,
        folder.name,
        storage,
        SCORE,
        tuned.sampler,
        tuned.seed,
        tuned.replicates,
        started,
        fixed_values(config),
    )
    if not run.begun:
        # a driver that was killed leaves its suggestions running; only those of a round that is restored live on
        fail_running(search.study, but=set())
    search.study.set_user_attr("search_space", config.search_space)
    results = run.ended + fit(
        tune.with_parameters(run_trial, study=config, data=data),
        run,
        resources,
        ProgressLines("search", missing, SCORE),
        max_failures=tuned.max_failures,
        search=search,
        scheduler=make_scheduler(config),
        concurrent=slots(resources, config.cluster.max_concurrent),
        hang_minutes=config.cluster.hang_minutes,
    )
    records = [_record(result, number) for result in results]
    for record in records:
        if record["genotype"] is not None:
            Genotype.from_json(json.dumps(record["genotype"])).save(folder.genotypes / f"{record['id']}.json")
    return records


def make_scheduler(config: StudyConfig) -> TrialScheduler | None:
    """ASHA on the validation PSNR, or None where trials are not stopped early."""
    if not config.tune.early_stopping:
        return None
    return ASHAScheduler(
        time_attr="epoch",
        metric=SCORE,
        mode="max",
        # one more than the epochs: the report after the last one carries the proxy's score and must not be cut off
        max_t=config.search.epochs + 2,
        grace_period=min(config.tune.grace_epochs, config.search.epochs),
        reduction_factor=config.tune.reduction_factor,
    )


def _record(result: tune.Result, round_number: int) -> dict[str, Any]:
    metrics = result.metrics or {}
    failed = result.error is not None or "error" in metrics
    state = "FAIL" if failed else "COMPLETE" if metrics.get("finished") else "PRUNED"
    genotype, margins = metrics.get("genotype"), metrics.get("margins")
    return {
        "id": Path(result.path).name,
        "state": state,
        "config": result.config,
        "psnr": metrics.get("psnr"),
        "ssim": metrics.get("ssim"),
        "score": metrics.get(SCORE),
        "genotype": None if genotype is None else json.loads(genotype),
        "digest": metrics.get("digest"),
        "margins": [] if margins is None else json.loads(margins),
        "seconds": metrics.get("seconds"),
        "error": metrics.get("error") if result.error is None else str(result.error).strip().splitlines()[-1],
        "round": round_number,
    } | {name: metrics[name] for name in ("micro_batch",) if name in metrics}


def _baseline_names(config: StudyConfig) -> list[str]:
    assert config.final.protocol is not None
    return list(baselines(get_protocol(config.final.protocol, config.degradation), config.final.sigma))


@ray.remote(num_cpus=1)
def _evaluate_baseline(name: str, test: list[ImageRecord], config: StudyConfig) -> Evaluation:
    assert config.final.protocol is not None
    torch.set_num_threads(1)
    protocol = get_protocol(config.final.protocol, config.degradation)
    method = baselines(protocol, config.final.sigma)[name]
    return evaluate(method, test, protocol, config.final.sigma, name=name)


class _timed:
    """Adds the time spent inside to a stage of ``seconds``."""

    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self.seconds, self.stage = seconds, stage

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        elapsed = time.perf_counter() - self.start
        self.seconds[self.stage] = round(self.seconds.get(self.stage, 0.0) + elapsed, 2)
