"""A study's search and reports of its trials, as Tune hands them on."""

from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from irnas_ray.hpo.objectives import OBJECTIVES
from irnas_ray.hpo.ownership import claim_study
from irnas_ray.hpo.rungs import Verdict
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.storage import open_storage
from irnas_ray.tune.searcher import StudySearch

SPACE = {
    "architecture.nodes": IntDistribution(2, 5),
    "search.ssim_weight": FloatDistribution(0.1, 1.0),
}
SCORE = [OBJECTIVES["score"]]
TWO = [OBJECTIVES["score"], OBJECTIVES["parameters"]]
COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING


def make_search(
    folder: Path | None, sampler: str = "random", replicates: int = 1, objectives: Any = SCORE, **keywords: Any
) -> StudySearch:
    """A search in the database of a folder, which can be opened again, or in memory."""
    storage = optuna.storages.InMemoryStorage() if folder is None else open_storage(None, folder)
    claim_study("test", storage, folder or Path("/folder"), "toy", SPACE, objectives)
    return StudySearch(SearchSpace(SPACE), "test", storage, sampler, 3, replicates, objectives, **keywords)


def report(search: StudySearch, trial: str, *scores: float, finished: bool = True, **found: Any) -> dict:
    """Reports of one trial, as Tune hands them on; the last one."""
    result: dict = {}
    for epoch, score in enumerate(scores, start=1):
        last = finished and epoch == len(scores)
        result = {"score": score, "epoch": epoch, "finished": last, "digest": "abc", **found}
        if search.judge(trial, result) != Verdict.STOP:
            search.on_trial_result(trial, result)
    return result


def states(search: StudySearch) -> list[TrialState]:
    return [trial.state for trial in search.study.trials]
