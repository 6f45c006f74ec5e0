"""Weights & Biases and MLflow beside TensorBoard, through Ray's own callbacks."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.logger import TBXLoggerCallback

from irnas_ray.hpo.storage import sqlite_url

#: What ``tune.loggers`` may name: packages with a callback of Ray's.
LOGGERS = ("wandb", "mlflow")


def check_loggers(names: Sequence[str]) -> None:
    """ValueError naming the setting if a logger is unknown, not installed, or has no account to log to."""
    for name in names:
        if name not in LOGGERS:
            raise ValueError(f"tune.loggers: unknown {name!r}; possible: {', '.join(LOGGERS)}")
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"tune.loggers: {name} is not installed here; pip install {name}")
    if "wandb" in names and not _wandb_is_ready():
        raise ValueError(
            "tune.loggers: wandb knows no account; run `wandb login`, set WANDB_API_KEY, or WANDB_MODE=offline"
        )


def make_loggers(names: Sequence[str], study: str, folder: Path) -> list[Callback]:
    """Ray's callbacks of these names, which log the trials of a study under its name.

    Accounts, keys and servers are those of the environment and of each tool's own files, and are not written anywhere.
    MLflow writes to ``mlflow.db`` in ``folder`` unless MLFLOW_TRACKING_URI names another place.
    """
    made: list[Callback] = []
    if "wandb" in names:
        from ray.air.integrations.wandb import WandbLoggerCallback

        # a trial that is continued goes on in its run
        made.append(WandbLoggerCallback(project=study, resume="allow", dir=str(folder)))
    if "mlflow" in names:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        # where the environment names a server, MLflow reads it there: it may hold a password
        place = None if os.environ.get("MLFLOW_TRACKING_URI") else sqlite_url(folder / "mlflow.db")
        made.append(MLflowLoggerCallback(tracking_uri=place, experiment_name=study))
    return made


class NoCurves(TBXLoggerCallback):
    """Keeps Tune from writing for TensorBoard what a trial writes itself, as a final training does."""

    def log_trial_start(self, trial: Any) -> None:
        """Write nothing."""

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Write nothing."""


def _wandb_is_ready() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return True
    import wandb

    return bool(wandb.api.api_key)
