"""Whose an Optuna study is: one results folder, one search space and one set of objectives."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna

from irnas_ray.hpo.objectives import Objective
from irnas_ray.hpo.storage import lies_in


def claim_study(
    name: str,
    storage: optuna.storages.BaseStorage,
    folder: Path,
    search_space: str,
    domains: Mapping[str, object],
    objectives: Sequence[Objective],
) -> optuna.Study:
    """The storage's study of this name, made if need be; ValueError if it belongs to another folder or search space.

    Studies that share a database under one name would be merged without a word. A database in the study's own folder
    is shared by no other, so that such a folder may have been moved or copied since.
    """
    ours = {
        "folder": str(folder),
        "search_space": search_space,
        "objectives": [f"{objective.direction} {objective.name}" for objective in objectives],
        "domains": {key: str(domain) for key, domain in sorted(domains.items())},
    }
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[objective.direction for objective in objectives],
        load_if_exists=True,
    )
    theirs = study.user_attrs
    if "folder" not in theirs and study.get_trials(deepcopy=False):
        raise ValueError(
            f"study {name!r} exists in the storage and is of another program; choose another name, study=NAME"
        )
    for key in ("folder", "search_space", "objectives", "domains"):
        if key == "folder" and lies_in(storage, folder):
            continue
        # a study of an earlier release holds its folder only
        if key in theirs and theirs[key] != ours[key]:
            raise ValueError(
                f"study {name!r} exists in the storage with another {key.replace('_', ' ')} "
                f"({theirs[key]}; now {ours[key]}); choose another name, study=NAME"
            )
    for key, value in ours.items():
        study.set_user_attr(key, value)
    return study
