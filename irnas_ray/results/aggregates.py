"""What the trials of a study say about its configurations: means over seeds, and which lie on the Pareto front."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from irnas_ray.hpo.objectives import SCORE, Objective, pareto_front
from irnas_ray.hpo.records import name_of

Record = Mapping[str, Any]


def by_configuration(records: Sequence[Record]) -> dict[Any, list[Record]]:
    """Records of trials under the number of their configuration; a record of an earlier release stands alone."""
    groups: dict[Any, list[Record]] = {}
    for record in records:
        groups.setdefault(record.get("configuration", record["id"]), []).append(record)
    return groups


def state_of(records: Sequence[Record]) -> str:
    """RUNNING while a seed runs; then COMPLETE if one finished, else PRUNED if one was stopped, else FAIL."""
    states = {record["state"] for record in records}
    return next((state for state in ("RUNNING", "COMPLETE", "PRUNED") if state in states), "FAIL")


def missing_of(records: Sequence[Record], asked: int) -> int:
    """How many configurations are asked for beyond those that did not fail under all seeds."""
    return max(0, asked - sum(state_of(group) != "FAIL" for group in by_configuration(records).values()))


def configurations_of(records: Sequence[Record], objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    """Each configuration's ``number, state, params, mean, standard_deviation, seeds, trials``, in their order.

    Mean and standard deviation (None for one seed) are those of the score, over the seeds that ended as the
    configuration did. With several objectives ``means`` holds all of them, and ``pareto`` says whether no other
    completed configuration dominates it.
    """
    found = []
    for number, group in by_configuration(records).items():
        counted = _counted(group)
        scores = [record[SCORE] for record in counted]
        found.append(
            {
                "number": number,
                "state": state_of(group),
                "params": {key: value for key, value in group[0]["config"].items() if key != "seed"},
                "mean": math.fsum(scores) / len(scores) if scores else None,
                "standard_deviation": statistics.stdev(scores) if len(scores) > 1 else None,
                "seeds": [record["config"].get("seed") for record in group],
                "trials": [name_of(record) for record in group],
            }
        )
    if len(objectives) > 1:
        _add_front(found, by_configuration(records), objectives)
    return found


def front_of(records: Sequence[Record], objectives: Sequence[Objective]) -> list[Record]:
    """The best seed of each configuration on the Pareto front, best score first."""
    groups = by_configuration(records)
    front = [entry["number"] for entry in configurations_of(records, objectives) if entry["pareto"]]
    best = [max(_counted(groups[number]), key=lambda record: record[SCORE]) for number in front]
    return sorted(best, key=lambda record: -record[SCORE])


def _add_front(found: list[dict[str, Any]], groups: dict[Any, list[Record]], objectives: Sequence[Objective]) -> None:
    metrics = [objective.metric for objective in objectives]
    for entry in found:
        counted = _counted(groups[entry["number"]])
        columns = {metric: [record[metric] for record in counted] for metric in metrics}
        entry["means"] = {metric: math.fsum(column) / len(column) for metric, column in columns.items() if column}
        entry["pareto"] = False
    completed = [entry for entry in found if entry["state"] == "COMPLETE" and entry["means"]]
    points = [tuple(entry["means"][metric] for metric in metrics) for entry in completed]
    for place in pareto_front(points, [objective.maximise for objective in objectives]):
        completed[place]["pareto"] = True


def _counted(group: Sequence[Record]) -> list[Record]:
    state = state_of(group)
    kept = [record for record in group if record["state"] == state != "FAIL" and record[SCORE] is not None]
    return [record for record in kept if math.isfinite(record[SCORE])]
