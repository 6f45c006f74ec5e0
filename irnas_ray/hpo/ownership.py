"""Whose an Optuna study is: one results folder, one search space and one set of objectives."""

import warnings
from pathlib import Path

import optuna

from irnas_ray.hpo.plan import StudyPlan
from irnas_ray.hpo.storage import lies_in


def claim_study(plan: StudyPlan, folder: Path, search_space: str) -> optuna.Study:
    """The Optuna study of a plan, made if need be; ValueError if it belongs to another folder or search space.

    Studies that share a database under one name would be merged without a word. A database in the study's own folder
    is shared by no other, so that such a folder may have been moved or copied since.
    """
    ours = {
        "folder": str(folder),
        "search_space": search_space,
        "objectives": [f"{objective.direction} {objective.name}" for objective in plan.objectives],
        "domains": {key: str(domain) for key, domain in sorted(plan.space.domains.items())},
    }
    study = optuna.create_study(
        storage=plan.storage,
        study_name=plan.name,
        directions=[objective.direction for objective in plan.objectives],
        load_if_exists=True,
    )
    theirs = study.user_attrs
    if "folder" not in theirs and study.get_trials(deepcopy=False):
        raise ValueError(
            f"study {plan.name!r} exists in the storage and is of another program; choose another name, study=NAME"
        )
    for key in ("folder", "search_space", "objectives", "domains"):
        if key == "folder" and lies_in(plan.storage, folder):
            continue
        if (theirs.get(key), ours[key]) == ("quickstart", "irnas_small"):
            # what the first releases' quickstart searched is called so now
            continue
        # a study of an earlier release holds its folder only
        if key in theirs and theirs[key] != ours[key]:
            raise ValueError(
                f"study {plan.name!r} exists in the storage with another {key.replace('_', ' ')} "
                f"({theirs[key]}; now {ours[key]}); choose another name, study=NAME"
            )
    for key, value in ours.items():
        study.set_user_attr(key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([objective.label for objective in plan.objectives])
    return study
