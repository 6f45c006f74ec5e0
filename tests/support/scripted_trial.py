"""A function trial without a network; in a file of its own, because a worker imports what stands beside it."""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from ray import tune

from irnas_ray.study.worker import take_over_process


def run_scripted(config: dict[str, Any], script: dict[int, Any], epochs: int, log: str) -> None:
    """A trial that reports ``script[seed][epoch - 1]`` after each epoch, and says in ``log`` which epochs it ran.

    An entry is a score, (score, parameters), "raise", or "hang", which waits until a file of this name appears. With
    "lingers" in the script the thread of a stopped trial takes its time.
    """
    take_over_process()
    (Path(log) / f"{config['seed']}.process").write_text(str(os.getpid()))
    try:
        _run(config["seed"], script, epochs, log)
    except SystemExit:
        if "lingers" in script[config["seed"]]:
            time.sleep(3)
        raise


def _run(seed: int, script: dict[int, Any], epochs: int, log: str) -> None:
    first = 1
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            first = json.loads((Path(folder) / "epoch.json").read_text()) + 1
    for epoch in range(first, epochs + 2):
        entry = script[seed][min(epoch, len(script[seed])) - 1]
        with open(Path(log) / f"{seed}.log", "a") as file:
            file.write(f"{epoch}\n")
        while entry == "hang" and not (Path(log) / "hang").exists():
            time.sleep(0.05)
        if entry == "raise":
            raise RuntimeError(f"seed {seed} has no luck")
        score, parameters = entry if isinstance(entry, tuple) else (0.0 if entry == "hang" else entry, 1)
        metrics = {"epoch": epoch, "score": score, "parameters": parameters, "genotype": f"of {seed}"}
        metrics |= {"progress": str(epoch), "fraction": epoch / (epochs + 1), "finished": epoch == epochs + 1}
        if epoch == epochs + 1:
            tune.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "epoch.json").write_text(json.dumps(epoch))
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))
