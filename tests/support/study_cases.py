"""Small studies for tests: run in this process on the session's Ray, or by a launcher in a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from command_line_cases import ROOT, compose

from irnas_ray.cli.command_line import compose_settings
from irnas_ray.settings.study import RetrainConfig
from irnas_ray.study.retraining import run_retraining
from irnas_ray.study.study import run_study

#: Sizes of networks and trainings that take seconds.
SMALL = (
    "search_spaces=irnas_small"
    " search.epochs=3 search.warmup_epochs=1 search.steps_per_epoch=2 search.batch=2 architecture.nodes=2"
    " architecture.width=2 final.width=2 final.batch=2 final.steps=4 final.validate_every=2 final.images=1"
    " tune.early_stopping=false search.proxy_steps=2 cluster.dashboard=false"
).split()
#: What a search is told beside them: only a loss weight is tuned.
TINY = [*SMALL, "domains.architecture.nodes=null", "domains.architecture.width=null"]


def search(folder: Path, *arguments: str) -> dict[str, Any]:
    """The summary of a search with its results in a folder."""
    return json.loads(run_study(compose(*TINY, f"results={folder}", *arguments)).read_text())


def retrain(folder: Path, *arguments: str) -> dict[str, Any]:
    """The summary of a retraining with its results in a folder."""
    config = compose_settings("retrain", RetrainConfig, [*SMALL, f"results={folder}", *arguments])
    return json.loads(run_retraining(config).read_text())


def command(launcher: str, *arguments: str) -> list[str]:
    """The command line of a launcher."""
    return [sys.executable, str(ROOT / "launchers" / f"{launcher}.py"), *arguments]


def environment() -> dict[str, str]:
    """The environment of a launcher that uses this checkout."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}


def launch(launcher: str, *arguments: str, cwd: Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """A launcher that has ended."""
    return subprocess.run(
        command(launcher, *arguments), capture_output=True, text=True, timeout=timeout, cwd=cwd, env=environment()
    )


def wait_for(
    condition: Callable[[], object], running: subprocess.Popen[Any] | None = None, seconds: float = 400
) -> None:
    """Return as soon as something is true; AssertionError if the process ends or the time is over before."""
    deadline = time.time() + seconds
    while not condition():
        assert running is None or running.poll() is None, "ended before it could be disturbed"
        assert time.time() < deadline, f"did not come true within {seconds} s"
        time.sleep(0.05)
