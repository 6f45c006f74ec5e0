"""The search trials of a study, in rounds: each is one run of Tune, finished as it was begun, and its records kept."""

import json
from collections.abc import Sequence
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import TrialScheduler

from irnas_ray.cluster.placement import slots
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.objectives import SCORE, objectives_of
from irnas_ray.hpo.ownership import claim_study
from irnas_ray.hpo.records import ended_since
from irnas_ray.hpo.rungs import milestones
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.starting_points import enqueue
from irnas_ray.progress.callback import StageProgress
from irnas_ray.results.aggregates import by_configuration, missing_of, state_of
from irnas_ray.results.folder import StudyFolder
from irnas_ray.settings.study import StudyConfig
from irnas_ray.study.trial import TrialData, run_trial
from irnas_ray.system.files import write_json
from irnas_ray.tune.loggers import make_loggers
from irnas_ray.tune.perturbation import kept_checkpoints
from irnas_ray.tune.population import RatePopulation
from irnas_ray.tune.runner import Run, find_run, fit, id_of
from irnas_ray.tune.schedulers import ConfigurationHalving
from irnas_ray.tune.searcher import StudySearch


def run_search(
    config: StudyConfig,
    folder: StudyFolder,
    data: TrialData,
    resources: dict[str, float],
    storage: optuna.storages.BaseStorage,
) -> list[dict[str, Any]]:
    """Run the search trials that the study still lacks, in rounds, and return the records of all.

    A round that was interrupted is finished as it was begun; then a further one makes up for configurations that were
    asked for since, or that failed under all seeds in an earlier run.
    """
    records = folder.read_records()
    objectives = objectives_of(config.tune.objectives)
    study = claim_study(folder.name, storage, folder.path, config.search_space, config.domains, objectives)
    space = SearchSpace.of(config)
    enqueue(study, config.tune, space)
    while True:
        size, begun = folder.open_round(), folder.read_rounds()
        if size is None:
            missing = missing_of(records, config.tune.trials)
            if not missing:
                return records
            size = missing * config.tune.replicates
            begun.append([size, len(records)])
            write_json(folder.rounds, begun)
        new = _run_round(config, folder, data, resources, storage, space, len(begun), size, records)
        records += new
        write_json(folder.records, records)
        if any(state_of(group) == "FAIL" for group in by_configuration(new).values()):
            # what failed just now would most likely fail again; a later resume tries anew
            return records


def _run_round(
    config: StudyConfig,
    folder: StudyFolder,
    data: TrialData,
    resources: dict[str, float],
    storage: optuna.storages.BaseStorage,
    space: SearchSpace,
    number: int,
    size: int,
    earlier: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    study = optuna.load_study(study_name=folder.name, storage=storage)
    ended = {record["id"] for record in ended_since(study, earlier)}
    run = find_run(folder.run(f"round-{number}"), ended)
    search = make_search(config, folder.name, storage, space, len(earlier) + size, run)
    places = slots(resources, config.cluster.max_concurrent)
    # what a member of a population saved was trained with rates that it may not have had before
    left = run.left if config.tune.perturb_every is None else ()
    results = run.ended
    if search.missing() > 0:
        results = run.ended + fit(
            tune.with_parameters(run_trial, study=config, data=data, left=left),
            run,
            resources,
            StageProgress("search", size - len(run.kept), SCORE, rungs=rungs_of(config)),
            max_failures=config.tune.max_failures,
            search=search,
            scheduler=make_scheduler(config, places),
            # the trials of a population take turns, so that all of them exist at a time
            concurrent=places if config.tune.perturb_every is None else size,
            loggers=make_loggers(config.tune.loggers, folder.name, folder.path),
            hang_minutes=config.cluster.hang_minutes,
            checkpoints=kept_checkpoints(config),
        )
    records = ended_since(study, earlier)
    # a population changes rates on the way
    last = {id_of(result): result.config for result in results if result.config}
    for record in records:
        record["round"] = number
        record["config"] = last.get(record["id"], record["config"])
        if record["genotype"] is not None:
            Genotype.from_json(json.dumps(record["genotype"])).save(folder.genotype(record["id"]))
    return records


def make_search(
    config: StudyConfig, name: str, storage: optuna.storages.BaseStorage, space: SearchSpace, total: int, run: Run
) -> StudySearch:
    """The search algorithm of a study that exists in the storage, with ``total`` seeds when this run has ended."""
    tuned = config.tune
    search = StudySearch(
        space,
        name,
        storage,
        tuned.sampler,
        tuned.seed,
        tuned.replicates,
        objectives_of(tuned.objectives),
        rungs_of(config),
        tuned.reduction_factor,
        run.kept,
        total,
    )
    for result in run.ended:
        # the driver may have died just before it told the study
        search.on_trial_complete(id_of(result), result.metrics)
    return search


def rungs_of(config: StudyConfig) -> list[int]:
    """The epochs at which configurations are compared and stopped; none where they are not."""
    tuned, end = config.tune, config.search.epochs + bool(config.search.proxy_steps)
    # at the last epoch a trial can only be spared its proxy
    stopping = tuned.early_stopping and tuned.perturb_every is None
    return milestones(tuned.grace_epochs, tuned.reduction_factor, end) if stopping else []


def make_scheduler(config: StudyConfig, places: int) -> TrialScheduler:
    """What decides which trials run; where they are not stopped early, the search has no rungs."""
    return ConfigurationHalving() if config.tune.perturb_every is None else RatePopulation(config, SCORE, places)
