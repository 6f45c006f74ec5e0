"""What a study came to: ``summary.json``, the report, and the table that ends a run."""

import json
from typing import Any

import torch

from irnas_ray.evaluation.comparison import comparison_table
from irnas_ray.evaluation.scores import Evaluation, file_name
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.configuration import REFUSED
from irnas_ray.hpo.objectives import objectives_of
from irnas_ray.hpo.storage import StorageLost, opened_storage
from irnas_ray.results.aggregates import by_configuration, configurations_of
from irnas_ray.results.folder import StudyFolder
from irnas_ray.results.layout import FinalLayout
from irnas_ray.results.study_results import read_study
from irnas_ray.results.tables import front_table
from irnas_ray.settings.study import StudyConfig
from irnas_ray.study.finals import evaluation_of
from irnas_ray.system.environment import PYTHON, hardware, versions
from irnas_ray.system.files import write_json


def summarise(
    config: StudyConfig,
    folder: StudyFolder,
    seconds: dict[str, float],
    records: list[dict[str, Any]],
    finals: list[dict[str, Any]],
    reference: list[Evaluation],
) -> None:
    """Write ``summary.json``, the baselines' scores of each image and the report; print finals against baselines.

    ``seconds`` are those of this run's stages; where the study had come to an end before, they are added to its own.

    Raises ValueError, and writes nothing, if they were scored under different protocols or on different images.
    """
    evaluations = [*(evaluation_of(final) for final in finals), *reference]
    # numbers of two noise levels never share a table
    levels = sorted({evaluation.sigma for evaluation in evaluations}, key=lambda sigma: sigma or 0)
    tables = [comparison_table([e for e in evaluations if e.sigma == sigma]) for sigma in levels]
    objectives, machine = objectives_of(config.tune.objectives), hardware()
    configurations = configurations_of(records, objectives)
    summary = {
        "study": folder.name,
        "search_space": config.search_space,
        "protocol": config.final.protocol,
        "sigma": levels[0] if len(levels) == 1 else None,
        # torch names itself with the CUDA that it was built for, its distribution without
        "versions": versions(PYTHON, "torch", "ray", "optuna")
        | {"torch": torch.__version__, "device": machine["gpu"] or machine["processor"]},
        "seconds": _in_all(folder, seconds),
        "trials": records,
        "configurations": configurations,
        "finals": [
            {key: value for key, value in final.items() if key != "evaluation"}
            | {"network": str(FinalLayout(folder.final(final["rank"])).network.relative_to(folder.path))}
            for final in finals
        ],
        "baselines": {_baseline(e, levels): {"psnr": e.psnr, "ssim": e.ssim, "sigma": e.sigma} for e in reference},
    }
    if refused := sum(group[0].get(REFUSED, 0) for group in by_configuration(records).values()):
        summary["refused"] = refused
    if len(objectives) > 1:
        summary["pareto"] = [entry["number"] for entry in configurations if entry["pareto"]]
    for evaluation in reference:
        evaluation.write_csv(folder.baselines / f"{file_name(_baseline(evaluation, levels))}.csv")
    write_json(folder.summary, summary)
    _draw(config, folder, records)
    if len(objectives) > 1:
        print(f"Pareto front\n\n{front_table(records, objectives).markdown()}")
    for table in tables:
        print(table)
    for final in finals:
        print(f"{final['name']}: {_what(final)}")
    print(f"networks, genotypes, trials and report: {folder.path}", flush=True)


def _in_all(folder: StudyFolder, seconds: dict[str, float]) -> dict[str, float]:
    """Seconds of each stage of this run and of the earlier ones that came to their end."""
    earlier = folder.read_summary().get("seconds", {})
    return {stage: round(spent + earlier.get(stage, 0.0), 2) for stage, spent in seconds.items()}


def _draw(config: StudyConfig, folder: StudyFolder, records: list[dict[str, Any]]) -> None:
    """Write the report, and notes and pictures for optuna-dashboard."""
    # a study has no use for Matplotlib and templates before its end
    from irnas_ray.results.report import write_report

    write_report(folder.path)
    if records:
        _annotate(config, folder)


def _annotate(config: StudyConfig, folder: StudyFolder) -> None:
    """Give optuna-dashboard notes and pictures; all that counts is written by now, and nothing here may undo it."""
    from irnas_ray.results.dashboard import annotate

    try:
        with opened_storage(config.tune.storage, folder.path, patience=0.2) as storage:
            annotate(read_study(folder.path), storage)
    except (Exception, StorageLost) as error:
        print(f"no notes for optuna-dashboard: {str(error).partition(chr(10))[0]}", flush=True)


def _baseline(evaluation: Evaluation, levels: list[float | None]) -> str:
    return evaluation.method if len(levels) == 1 else f"{evaluation.method}, sigma {evaluation.sigma:g}"


def _what(final: dict[str, Any]) -> str:
    """A final's size and origin in words."""
    described = f"{final['parameters'] / 1e6:.3f} M parameters, {final['steps']} steps"
    if final["genotype"] is None:
        return described
    return f"{described}, trial {final['trial']}, {Genotype.from_json(json.dumps(final['genotype']))}"
