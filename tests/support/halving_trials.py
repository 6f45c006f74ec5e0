"""A driver that runs scripted trials, for the tests of the scheduler."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import scripted_trial
from optuna.distributions import IntDistribution
from ray import cloudpickle, tune

from irnas_ray.hpo.ledger import Ledger
from irnas_ray.hpo.objectives import OBJECTIVES
from irnas_ray.hpo.plan import StudyPlan, claim_study
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.storage import open_storage
from irnas_ray.progress.callback import StageProgress
from irnas_ray.tune.runner import find_run, fit
from irnas_ray.tune.schedulers import ConfigurationHalving
from irnas_ray.tune.searcher import StudySearch

SPACE = {"x": IntDistribution(0, 9)}
RESOURCES = {"cpu": 1.0}
# workers do not know this folder
cloudpickle.register_pickle_by_value(scripted_trial)


class StopAfterOne(tune.Callback):
    """What Ctrl-C does when the first trial has ended."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def run_script(
    folder: Path,
    script: dict[int, Any],
    epochs: int,
    replicates: int,
    milestones: list[int],
    objectives: tuple[str, ...] = ("score",),
    concurrent: int = 2,
    max_failures: int = 0,
    loggers: Sequence[tune.Callback] = (),
) -> tuple[list[tune.Result], optuna.Study]:
    """Run or continue trials that follow a script, in ``folder``; their results and the study."""
    chosen = [OBJECTIVES[name] for name in objectives]
    storage = open_storage(None, folder)
    plan = StudyPlan(
        "scripted", storage, SearchSpace(SPACE), "random", 0, replicates, chosen, milestones=milestones, factor=2
    )
    study = claim_study(plan, folder, "scripted")
    results = fit(
        tune.with_parameters(scripted_trial.run_scripted, script=script, epochs=epochs, log=str(folder)),
        find_run(str(folder / "round-1")),
        RESOURCES,
        StageProgress("search", len(script), "score"),
        max_failures=max_failures,
        search=StudySearch(Ledger(plan, len(script))),
        scheduler=ConfigurationHalving(),
        concurrent=concurrent,
        loggers=loggers,
    )
    return results, study


def epochs_of(folder: Path, seed: int) -> list[int]:
    """The epochs that a seed's trial ran, in order, with those that it ran again."""
    return [int(line) for line in (folder / f"{seed}.log").read_text().split()]


if __name__ == "__main__":
    # a driver of its own, to be killed
    import ray

    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    arguments = json.loads(sys.argv[1])
    arguments["script"] = {int(seed): entries for seed, entries in arguments["script"].items()}
    run_script(Path(arguments.pop("folder")), **arguments)
