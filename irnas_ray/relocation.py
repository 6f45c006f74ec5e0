"""Runs of Tune whose folder was moved or copied: all that is added to such a run lies where the run is now."""

import copy
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler


def keep_in_place(tune_controller: Any, trial: Trial) -> None:
    """Let a trial that is added to Tune's list lie in the folder of its run.

    What Tune saves of a run names the folder where that was begun. Continued, Tune corrects this for the trials that it
    had, but it makes those that are still to come with the old folder, and would write their checkpoints there.
    """
    run = tune_controller._storage
    storage: Any = copy.copy(trial.storage)
    storage.storage_filesystem, storage.storage_fs_path = run.storage_filesystem, run.storage_fs_path
    storage.experiment_dir_name = run.experiment_dir_name
    trial.set_storage(storage)


class InPlaceScheduler(FIFOScheduler):
    """Runs all trials to their end, in the order in which they were added."""

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Let it lie in the folder of its run."""
        keep_in_place(tune_controller, trial)
