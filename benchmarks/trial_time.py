"""Where the time of one real search trial goes: data, steps, validation, checkpoints, and what Ray Tune adds.

Takes the arguments of launchers/search.py, and --json FILE:
python benchmarks/trial_time.py search_spaces=irnas_denoise data=images data.source=BSD500 study=time budget=trial
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from measuring import report

from irnas_ray.cli.command import run
from irnas_ray.search import bilevel
from irnas_ray.settings.study import StudyConfig
from irnas_ray.study import study, trial

ROOT = Path(__file__).resolve().parents[1]


def timed_trial(config: dict[str, Any], study: StudyConfig, data: Any) -> None:
    """``run_trial`` that adds up the seconds of its parts and writes them beside the study."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **keywords)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name] += time.perf_counter() - start
            return result

        return call

    class TimedBatches:
        def __init__(self, batches: Any) -> None:
            self.batches, self.draw = batches, timed("data", batches.__next__)
            self.state_dict, self.load_state_dict = batches.state_dict, batches.load_state_dict

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            return self.draw()

    make_batches, validator, step = trial.make_batches, trial.validator, bilevel.BilevelSearch._step
    trial.make_batches = lambda *a, **k: TimedBatches(timed("open data", make_batches)(*a, **k))  # type: ignore
    trial.validator = lambda *a, **k: timed("validation", timed("open data", validator)(*a, **k))  # type: ignore
    trial.report = timed("checkpoint and report", trial.report)  # type: ignore
    bilevel.BilevelSearch._step = timed("steps", step)  # type: ignore
    start = time.perf_counter()
    trial.run_trial(config, study, data)
    seconds["whole"] = time.perf_counter() - start
    Path(study.results, f"{study.study}.seconds.json").write_text(json.dumps(seconds))


def timed_study(config: StudyConfig) -> None:
    """Run a study of one trial and print the table."""
    config.tune.trials, config.final.count, config.final.steps, config.final.images = 1, 1, 1, 1
    config.results = str(Path(config.results).absolute())
    study.run_trial = timed_trial  # type: ignore[assignment]
    study.run_study(config)
    seconds = json.loads(Path(config.results, f"{config.study}.seconds.json").read_text())
    summary = json.loads(Path(config.results, str(config.study), "summary.json").read_text())
    whole = seconds.pop("whole")
    seconds["other, in the trial"] = whole - sum(seconds.values())
    rows = [{"part": name, "seconds": value, "% of the trial": 100 * value / whole} for name, value in seconds.items()]
    around = summary["seconds"]["search"] - whole
    rows.append({"part": "Ray Tune around the trial", "seconds": around, "% of the trial": 100 * around / whole})
    report("trial_time", rows, argparse.Namespace(device="cpu", json=OUTPUT, command=sys.argv[1:]))


OUTPUT: Path | None = None

if __name__ == "__main__":
    if "--json" in sys.argv:
        place = sys.argv.index("--json")
        OUTPUT = Path(sys.argv.pop(place + 1)).absolute()
        sys.argv.pop(place)
    run("search", StudyConfig, timed_study, __doc__ or "")
