"""A study's ledger and reports of its trials, as Tune hands them on."""

import sys
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from irnas_ray.hpo.ledger import Ledger
from irnas_ray.hpo.objectives import OBJECTIVES
from irnas_ray.hpo.plan import StudyPlan, claim_study
from irnas_ray.hpo.rungs import Verdict
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.storage import open_storage

SPACE = {
    "architecture.nodes": IntDistribution(2, 5),
    "search.ssim_weight": FloatDistribution(0.1, 1.0),
}
SCORE = [OBJECTIVES["score"]]
TWO = [OBJECTIVES["score"], OBJECTIVES["parameters"]]
COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING


def make_ledger(
    folder: Path | None,
    sampler: str = "random",
    replicates: int = 1,
    objectives: Any = SCORE,
    space: SearchSpace | None = None,
    total: int = sys.maxsize,
    url: str | None = None,
    **keywords: Any,
) -> Ledger:
    """A ledger in the database of a folder, which can be opened again, or in memory."""
    storage = optuna.storages.InMemoryStorage() if folder is None else open_storage(url, folder)
    plan = StudyPlan("test", storage, space or SearchSpace(SPACE), sampler, 3, replicates, objectives, **keywords)
    claim_study(plan, folder or Path("/folder"), "toy")
    return Ledger(plan, total)


def report(ledger: Ledger, trial: str, *scores: float, finished: bool = True, **found: Any) -> dict:
    """Reports of one trial, as Tune hands them on; the last one."""
    result: dict = {}
    for epoch, score in enumerate(scores, start=1):
        last = finished and epoch == len(scores)
        result = {"score": score, "epoch": epoch, "finished": last, "digest": "abc", **found}
        if ledger.report(trial, result) != Verdict.STOP:
            ledger.record(trial, result)
    return result


def states(ledger: Ledger) -> list[TrialState]:
    return [trial.state for trial in ledger.study.trials]
