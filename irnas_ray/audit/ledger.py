"""What every arm has cost, and whether those that are compared have cost the same."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from irnas_ray.results.table import Table, duration, number

#: By how much budgets that count as equal may differ; whole steps and batches do not divide evenly.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Cost:
    """What a run has cost until its network was chosen, and the trainings by which that network was then judged."""

    #: Trainings begun, their steps, and multiply-adds of all passes forward, in the search.
    trainings: int
    steps: int
    multiply_adds: float
    #: Process time of the search in seconds, and of the trainings that judge its network.
    seconds: float
    judging_seconds: float = 0.0


def check_equal_budgets(budgets: Mapping[str, Sequence[float]], unit: str, tolerance: float = TOLERANCE) -> None:
    """Raises ValueError naming the two runs that differ most, if budgets of runs differ by more than the tolerance.

    Args:
        budgets: Arm -> the budget of each of its runs, above 0.
        unit: What they are counted in.
        tolerance: The largest may be above the smallest by this share.

    Example:
        >>> import irnas_ray as ir
        >>> ir.audit.check_equal_budgets({"searched": [1e12, 1.01e12], "random": [1e12]}, "multiply-adds")
    """
    runs = [(float(budget), f"{arm}, run {run}") for arm, row in budgets.items() for run, budget in enumerate(row)]
    if not runs:
        return
    for budget, run in runs:
        if not 0 < budget < math.inf:
            raise ValueError(f"{run}: a budget of {budget:g} {unit}; it must be a number above 0")
    (least, cheap), (most, dear) = min(runs), max(runs)
    if most > least * (1 + tolerance):
        raise ValueError(
            f"budgets are unequal: {dear} has {most:.4g} {unit}, {cheap} {least:.4g}, and more than "
            f"{100 * tolerance:g} % between them says nothing about methods; give all runs the same budget"
        )


def ledger_table(costs: Mapping[str, Iterable[Cost]]) -> Table:
    """What each arm has cost, all its runs together, and the sum."""
    ledger = {arm: list(runs) for arm, runs in costs.items()}
    ledger["together"] = [cost for runs in ledger.values() for cost in runs]
    headers = ["arm", ">runs", ">trainings", ">steps", ">multiply-adds (10^12)", ">search time", ">time to judge it"]
    rows = []
    for arm, runs in ledger.items():
        whole = [number(sum(values)) for values in ([c.trainings for c in runs], [c.steps for c in runs])]
        times = [duration(float(sum(c.seconds for c in runs))), duration(float(sum(c.judging_seconds for c in runs)))]
        adds = number(sum(cost.multiply_adds for cost in runs) / 1e12, 3)
        rows.append([arm, number(len(runs)), *whole, adds, *times])
    return Table(headers, rows)
