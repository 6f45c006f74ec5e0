"""The search trials of a study, in rounds: each is one run of Tune, finished as it was begun, and its records kept."""

import json
from collections.abc import Sequence
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import TrialScheduler

from irnas_ray.cluster.placement import slots
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.ledger import Ledger
from irnas_ray.hpo.objectives import SCORE
from irnas_ray.hpo.plan import StudyPlan, claim_study
from irnas_ray.hpo.records import ended_since, name_of
from irnas_ray.hpo.replicate import TrialNames
from irnas_ray.hpo.starting_points import enqueue
from irnas_ray.progress.callback import StageProgress
from irnas_ray.results.aggregates import by_configuration, missing_of, state_of
from irnas_ray.results.folder import StudyFolder
from irnas_ray.results.layout import settings_in
from irnas_ray.settings.study import StudyConfig
from irnas_ray.study.limits import limits_of
from irnas_ray.study.trial import TrialData, run_trial
from irnas_ray.system.files import write_json
from irnas_ray.tune.internals import TrialCurves
from irnas_ray.tune.loggers import make_loggers
from irnas_ray.tune.perturbation import kept_checkpoints
from irnas_ray.tune.population import RatePopulation
from irnas_ray.tune.runner import find_run, fit, id_of
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
    plan = StudyPlan.of(config, folder.name, storage, limits_of(config))
    study = claim_study(plan, folder.path, config.search_space)
    enqueue(study, config.tune, plan.space, settings_in)
    while True:
        size, begun = folder.open_round(), folder.read_rounds()
        if size is None:
            missing = missing_of(records, config.tune.trials)
            if not missing:
                return records
            size = missing * config.tune.replicates
            begun.append([size, len(records)])
            write_json(folder.rounds, begun)
        new = _run_round(config, folder, data, resources, plan, len(begun), size, records)
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
    plan: StudyPlan,
    number: int,
    size: int,
    earlier: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    study = optuna.load_study(study_name=plan.name, storage=plan.storage)
    ended = {record["id"] for record in ended_since(study, earlier)}
    run = find_run(folder.run(f"round-{number}"), ended, config.trust)
    ledger = Ledger(plan, len(earlier) + size, run.kept)
    for result in run.ended:
        # the driver may have died just before it told the study
        ledger.end(id_of(result), result.metrics)
    places = slots(resources, config.cluster.max_concurrent)
    # what a member of a population saved was trained with rates that it may not have had before
    left = run.left if config.tune.perturb_every is None else ()
    results, names = run.ended, TrialNames(plan.seed, plan.replicates)
    if ledger.missing() > 0:
        results = run.ended + fit(
            tune.with_parameters(run_trial, study=config, data=data, left=left),
            run,
            resources,
            StageProgress("search", size - len(run.kept), SCORE, rungs=plan.milestones, names=names),
            max_failures=config.tune.max_failures,
            search=StudySearch(ledger),
            scheduler=make_scheduler(config, places),
            # the trials of a population take turns, so that all of them exist at a time
            concurrent=places if config.tune.perturb_every is None else size,
            loggers=[TrialCurves(names), *make_loggers(config.tune.loggers, folder.name, folder.path)],
            hang_minutes=config.cluster.hang_minutes,
            checkpoints=kept_checkpoints(config),
        )
    records = ended_since(study, earlier)
    # a population changes rates on the way
    last = {id_of(result): result.config for result in results if result.config and config.search.supernet}
    for record in records:
        record["round"] = number
        record["config"] = last.get(record["id"], record["config"])
        if record["genotype"] is not None:
            Genotype.from_json(json.dumps(record["genotype"])).save(folder.genotype(name_of(record)))
    return records


def make_scheduler(config: StudyConfig, places: int) -> TrialScheduler:
    """What decides which trials run; where they are not stopped early, the search has no rungs."""
    return ConfigurationHalving() if config.tune.perturb_every is None else RatePopulation(config, SCORE, places)
