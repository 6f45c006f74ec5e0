"""What a study's orchestration costs: wall time against the ideal, many trials, many at a time, and what it stores."""

import argparse
import logging
import math
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import ray
from measuring import arguments, report
from optuna.distributions import FloatDistribution, IntDistribution
from ray import tune
from ray.cluster_utils import Cluster as SimulatedCluster

from irnas_ray.cluster.connection import connect
from irnas_ray.hpo.ledger import Ledger
from irnas_ray.hpo.plan import StudyPlan, claim_study
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.storage import open_storage, opened_storage
from irnas_ray.progress.callback import StageProgress
from irnas_ray.settings.study import Cluster
from irnas_ray.tune.runner import find_run, fit
from irnas_ray.tune.schedulers import ConfigurationHalving
from irnas_ray.tune.searcher import StudySearch

DOMAINS = {
    "architecture.nodes": IntDistribution(2, 5),
    "search.ssim_weight": FloatDistribution(0.1, 1.0),
    "search.weight_lr": FloatDistribution(1e-3, 1e-1, log=True),
}
#: Nodes of the simulated cluster.
NODES = 4


def rest(config: dict[str, Any], seconds: float, reports: int, checkpoint_bytes: int) -> None:
    """A trial that computes nothing: it rests, and reports and saves as often and as much as it is told."""
    for epoch in range(1, reports + 1):
        time.sleep(seconds / reports)
        metrics = {
            "epoch": epoch,
            "progress": f"epoch {epoch}/{reports}",
            "fraction": epoch / reports,
            "finished": epoch == reports,
            "score": 20 + math.tanh(config["search.ssim_weight"]) + epoch / reports,
        }
        if checkpoint_bytes and epoch < reports:
            # only here: a process that loads torch is several times larger
            import torch

            from irnas_ray.tune.reports import Reports

            Reports().report(metrics, {"weights": torch.zeros(checkpoint_bytes, dtype=torch.uint8)})
        else:
            tune.report(metrics)


def run(
    folder: Path, trials: int, *, concurrent: int, seconds: float, reports: int, checkpoint_bytes: int
) -> dict[str, float]:
    """Run resting trials as a study does; seconds of wall time, and the bytes that are left."""
    folder.mkdir(parents=True)
    with opened_storage(None, folder, patience=10) as storage:
        plan = StudyPlan("benchmark", storage, SearchSpace(DOMAINS))
        study = claim_study(plan, folder, "benchmark")
        start = time.perf_counter()
        results = fit(
            tune.with_parameters(rest, seconds=seconds, reports=reports, checkpoint_bytes=checkpoint_bytes),
            find_run(str(folder / "trials")),
            {"cpu": 1.0, "gpu": 0.0},
            StageProgress("trials", trials, "score"),
            max_failures=0,
            search=StudySearch(Ledger(plan, trials)),
            scheduler=ConfigurationHalving(),
            concurrent=concurrent,
        )
        wall = time.perf_counter() - start
        states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
    if len(results) != trials or states != ["COMPLETE"] * trials:
        raise RuntimeError(f"{len(results)} results, states {sorted(set(states))}: the study lost trials")
    return {
        "seconds": wall,
        "peak": peak([result.metrics or {} for result in results]),
        "database_bytes": (folder / "study.db").stat().st_size,
        "bytes": size(folder),
    }


def peak(ends: list[dict[str, Any]]) -> int:
    """How many trials ran at the same time, from the last report of each: its moment, and the time since the start."""
    begun = [end["timestamp"] - end["time_total_s"] for end in ends]
    return max(
        sum(start <= moment <= end["timestamp"] for start, end in zip(begun, ends, strict=True)) for moment in begun
    )


def size(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def most_memory() -> float:
    """Megabytes that this process has held at its most, libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def overhead(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Wall time of several trials for each slot against the ideal, beyond what the first of them costs anyway."""
    about = {"concurrent": options.slots, "seconds": options.seconds, "reports": 6, "checkpoint_bytes": 2**20}
    first = run(folder / "first", options.slots, **about)["seconds"]
    wall = run(folder / "all", options.slots * options.waves, **about)["seconds"]
    ideal = (options.waves - 1) * options.seconds
    return {
        "trials": options.slots * options.waves,
        "slots": options.slots,
        "seconds a trial": options.seconds,
        "wall (s)": wall,
        "ideal (s)": options.waves * options.seconds,
        "fixed start (s)": first - options.seconds,
        "beyond it (% of the ideal)": 100 * (wall - first - ideal) / ideal,
    }


def many(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Trials that do nothing, one after another through the whole machinery, and what they leave."""
    done = run(folder, options.many, concurrent=options.slots, seconds=0, reports=1, checkpoint_bytes=0)
    return {
        "trials": options.many,
        "wall (s)": done["seconds"],
        "trials a second": options.many / done["seconds"],
        "database (bytes a trial)": done["database_bytes"] / options.many,
        "all files (bytes a trial)": done["bytes"] / options.many,
        "driver at its most (MB)": most_memory(),
    }


def together(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Trials that all run at the same time on a simulated cluster of four nodes."""
    count = options.together
    done = run(folder, count, concurrent=count, seconds=options.seconds, reports=6, checkpoint_bytes=0)
    return {
        "trials": count,
        "at the same time": done["peak"],
        "nodes": NODES,
        "seconds a trial": options.seconds,
        "wall (s)": done["seconds"],
    }


def suggestions(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """What a suggestion, a report and an end cost the driver, in an SQLite study that already holds many trials."""
    folder.mkdir()
    plan = StudyPlan("many", open_storage(None, folder), SearchSpace(DOMAINS))
    study = claim_study(plan, folder, "benchmark")
    generator = random.Random(0)
    for _ in range(options.many):
        params = {
            "architecture.nodes": generator.randint(2, 5),
            "search.ssim_weight": generator.uniform(0.1, 1.0),
            "search.weight_lr": 10 ** generator.uniform(-3, -1),
        }
        study.add_trial(optuna.create_trial(params=params, distributions=DOMAINS, value=generator.random()))
    search = StudySearch(Ledger(plan))
    seconds: dict[str, list[float]] = {"suggestion": [], "report": [], "end": []}
    for number in range(20):
        result = {"epoch": 1, "score": 20.0 + number, "finished": False, "genotype": "{}", "psnr": 20.0, "ssim": 0.5}
        steps = {
            "suggestion": lambda trial=f"t{number}": search.suggest(trial),
            "report": lambda trial=f"t{number}", result=result: search.on_trial_result(trial, result),
            "end": lambda trial=f"t{number}", result=result: search.on_trial_complete(
                trial, result | {"epoch": 2, "finished": True}
            ),
        }
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return {
        "trials in the study": options.many,
        **{f"{name} (ms)": 1000 * statistics.median(values) for name, values in seconds.items()},
        "driver at its most (MB)": most_memory(),
    }


PARTS = {"overhead": overhead, "many": many, "together": together, "suggestions": suggestions}


@contextmanager
def cluster(part: str, options: argparse.Namespace) -> Iterator[None]:
    """A Ray of as many CPUs as there are slots; trials that rest need fewer."""
    nodes = None
    if part == "suggestions":
        yield
        return
    if part == "together":
        nodes = SimulatedCluster(initialize_head=True, head_node_args={"num_cpus": 0})
        for _ in range(NODES):
            nodes.add_node(num_cpus=math.ceil(options.together / NODES))
        ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.ERROR)
    else:
        ray.init(num_cpus=options.slots, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        # the environment in which a study runs Tune
        connect(Cluster())
        yield
    finally:
        ray.shutdown()
        if nodes is not None:
            nodes.shutdown()


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is measured")
    parser.add_argument("--slots", type=int, default=4, help="trials at a time")
    parser.add_argument("--waves", type=int, default=4, help="trials for each slot, in overhead")
    parser.add_argument("--seconds", type=float, default=60, help="length of a trial, in overhead and together")
    parser.add_argument("--many", type=int, default=1000, help="trials that do nothing")
    parser.add_argument("--together", type=int, default=200, help="trials at the same time")
    options = parser.parse_args()
    rows = []
    for part in options.parts:
        with tempfile.TemporaryDirectory() as folder, cluster(part, options):
            measured = PARTS[part](Path(folder) / part, options)
        rows += [{"part": part, "measure": name, "value": value} for name, value in measured.items()]
    report("study", rows, options)


if __name__ == "__main__":
    main()
