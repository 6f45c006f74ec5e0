"""The records of a study's trials, as they stand in ``summary.json``, read from the Optuna study."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from irnas_ray.genotypes.encoding import PREFIX
from irnas_ray.hpo.configuration import BEYOND, REFUSED
from irnas_ray.hpo.objectives import SCORE
from irnas_ray.hpo.replicate import ENDED, LONG, NOT_ALWAYS, SHORT, TrialNames


def name_of(record: Mapping[str, Any]) -> str:
    """What the trial of a record is called; those of earlier releases had Tune's ids for names."""
    return str(record.get("name", record["id"]))


def records_of(trial: FrozenTrial) -> list[dict[str, Any]]:
    """What the Optuna study knows of the seeds of a configuration, each as it stands in ``summary.json``."""
    if trial.state == TrialState.WAITING:
        # a starting point that was not yet proposed
        return []
    attributes = trial.user_attrs
    if BEYOND in attributes:
        # refused: it was no trial
        return []
    # one that this package did not run, or that is being proposed, stands for itself
    alone = {"seed": trial.number, "trial": f"trial {trial.number}", "state": trial.state.name, "error": None}
    replicates = attributes.get("replicates", [alone | {SCORE: trial.values[0] if trial.values else None}])
    last = trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else None
    names = TrialNames(0, len(replicates))
    records = []
    for place, replicate in enumerate(replicates):
        if replicate["trial"] is None:
            continue
        key = "" if len(replicates) == 1 else f"/seed {replicate['seed']}"
        genotype, margins, lineage, health = (attributes.get(f"{name}{key}") for name in LONG)
        records.append(
            {
                "id": replicate["trial"],
                "name": names.name(trial.number, place),
                "configuration": trial.number,
                "state": replicate["state"],
                "config": _without_genes(trial.params) | {"seed": replicate["seed"]},
                # what a seed that runs has reached is known as the mean over the seeds
                SCORE: last if replicate["state"] == "RUNNING" else replicate[SCORE],
                **{name: replicate.get(name) for name in SHORT if name not in NOT_ALWAYS or name in replicate},
                "genotype": json.loads(genotype) if genotype else None,
                "margins": json.loads(margins) if margins else [],
                "lineage": json.loads(lineage) if lineage else [],
                "health": json.loads(health) if health else None,
                "error": replicate["error"],
                **({REFUSED: attributes[REFUSED]} if REFUSED in attributes else {}),
            }
        )
    return records


def _without_genes(params: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the domains: the genes that are proposed beside them stand in the record as a genotype."""
    return {key: value for key, value in params.items() if not key.startswith(PREFIX)}


def ended_since(study: optuna.Study, earlier: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of the trials that have ended, of configurations of which there are no records yet, in their order.

    The study is told of a trial before anything else is; Tune's files hear of it seconds later, or never.
    """
    known = {record["configuration"] for record in earlier}
    # what others have put into the study is not this program's to report
    own = [trial for trial in study.get_trials(deepcopy=False) if "replicates" in trial.user_attrs]
    new = [trial for trial in own if trial.number not in known]
    states = {state.name for state in ENDED}
    return [record for trial in new for record in records_of(trial) if record["state"] in states]
