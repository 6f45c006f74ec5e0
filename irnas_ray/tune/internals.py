"""What is used of Ray beyond its documented interface, written for Ray 2.60.0; nowhere else in this room or above.

``tests/tune/test_internals.py`` has a test for each, so that another Ray fails there. What the rooms below need stands
in ``cluster.internals`` and ``progress.internals``.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, TypeVar

import pyarrow.fs
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY
from ray.tune.logger import TBXLoggerCallback
from ray.tune.schedulers import PopulationBasedTraining
from ray.tune.utils.serialization import _loads_with_cloudpickle
from tensorboardX.summary import hparams

Search = TypeVar("Search")

#: What Tune records of a run, one file for each driver that worked on it: its trials, then the searcher's side. Its
#: ``Tuner.can_restore`` only asks whether a run was ever begun.
RECORDS = ("experiment_state-*.json", "searcher-state-*.pkl", "search_gen_state-*", "basic-variant-state-*")
#: In the folder of a trial that failed: its exception as a pickle, which Tune reads when it lists results.
ERROR = "error.pkl"
#: What reports hold beside what is worth a curve: flags, shares, and Ray's clocks.
NO_CURVES = ("done", "finished", "fraction", "should_checkpoint", "iterations_since_restore", "time_since_restore")
#: How the names of a trial's checkpoints begin, which a number follows; Tune names only those that it still knows.
CHECKPOINT = "checkpoint_"
#: The metric in which Tune is told of a checkpoint of Ray Train; no page of Ray's names it.
TRAIN_CHECKPOINT = CHECKPOINT_PATH_KEY
#: Tune goes on when it cannot copy its record to the storage, and tells only these loggers, in texts that begin so.
RECORD_LOGGERS = ("ray.train._internal.syncer", "ray.tune.execution.experiment_state")
RECORD_LOST = ("Last sync command failed", "Saving experiment state")


def recorded_trials(record: bytes) -> list[dict[str, Any]]:
    """The trials in the first of a run's records; any exception where Tune could not continue them.

    Ray's public decoder refuses what is pickled in them.
    """
    return [_loads_with_cloudpickle(state) for state, _ in _loads_with_cloudpickle(record)["trial_data"]]


class OutlivesCheckpoint:
    """What Tune calls a trial's function through: it is called also where the checkpoint to go on from is gone.

    Tune would count that as a failure of the trial, each time until none is left; the function can look for another
    checkpoint (``Reports.load``), because ``tune.get_checkpoint`` names the one that was to be.
    """

    def restore(self, checkpoint_path: Any) -> None:
        """Go on from a result with a checkpoint, as Tune's ``Trainable``."""
        trainable: Any = super()
        try:
            trainable.restore(checkpoint_path)
        except ValueError:
            # raised for nothing else, after the counts of the result were taken over
            trainable.load_checkpoint(checkpoint_path)


def let_outlive_checkpoints(function: Any) -> None:
    """Let Tune call a function through ``OutlivesCheckpoint``; only class trainables have a documented ``restore``."""
    function.__mixins__ = (OutlivesCheckpoint,)


def own_folder() -> tuple[pyarrow.fs.FileSystem, str]:
    """Where the trial that runs here is stored; the context's own ``get_trial_dir`` is a folder of this machine."""
    storage = tune.get_context().get_storage()
    return storage.storage_filesystem, storage.trial_fs_path


def remove_unsent_checkpoint() -> None:
    """Remove what was copied of a checkpoint whose report failed, which Tune leaves behind; OSError if it cannot be."""
    storage = tune.get_context().get_storage()
    # until a checkpoint is sent, this is the last one's path
    storage.storage_filesystem.delete_dir(storage.checkpoint_fs_path)


def searcher_of(tune_controller: Any, kind: type[Search]) -> Search:
    """The searcher of this kind that Tune runs; schedulers are only given it wrapped in its generator and limiter."""
    search = tune_controller.search_alg
    while not isinstance(search, kind):
        search = search.searcher
    return search


def live_trials(tune_controller: Any) -> list[Trial]:
    """The trials that have not ended, which nothing documented gives to a scheduler."""
    return list(tune_controller.get_live_trials())


def leave_waiting(tune_controller: Any, trial: Trial) -> None:
    """Pause a trial that was not yet started; a scheduler may otherwise pause only one that reports."""
    tune_controller._set_trial_status(trial, Trial.PAUSED)


def stop_waiting(tune_controller: Any, trial: Trial, last: dict[str, Any]) -> None:
    """End a trial that waits with this as its last report; a scheduler may otherwise stop only one that reports."""
    # Tune marks only those as done that it stops while they run
    trial.update_last_result({**last, "done": True})
    tune_controller.stop_trial(trial)


def last_report(trial: Trial) -> dict[str, Any]:
    """What a trial reported last, empty before the first time; ``last_result`` alone is then not empty."""
    return trial.last_result if trial.has_reported_at_least_once else {}


def last_saved_report(trial: Trial) -> dict[str, Any]:
    """What a trial reported with its newest checkpoint, empty without one; ``checkpoint`` alone tells no metrics."""
    saved = trial.latest_checkpoint_result
    return saved.metrics if saved else {}


def allow_failures(trial: Trial, most: int) -> None:
    """Let a trial fail so often; a continued run keeps its trials' own numbers, whatever its settings say."""
    trial.max_failures = most


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


@contextlib.contextmanager
def in_started_workers() -> Iterator[None]:
    """Let trials begin in processes that Ray has started ahead, one or two seconds earlier.

    Those have no variables of their own, as Tune gives them to every trial for the sake of PyTorch Lightning. Where the
    driver has some that Tune passes on, such as ``AWS_ACCESS_KEY_ID``, trials get processes of their own as before.
    """
    own = dict(class_cache.DEFAULT_ENV_VARS)
    class_cache.DEFAULT_ENV_VARS.clear()
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS.update(own)


class TrialCurves(TBXLoggerCallback):
    """What TensorBoard shows of search trials: the numbers that they report, and their values under HPARAMS.

    Ray's own writes for each trial, too, what an experiment is, of which TensorBoard reads the first that it finds, and
    it takes flags for curves; nothing documented leaves either out, nor lets curves be called as ``names`` says.
    """

    def __init__(self, names: Callable[[Mapping[str, Any]], str]) -> None:
        super().__init__()
        self._names = names

    def log_trial_start(self, trial: Trial) -> None:
        """Open a file in a folder of the trial's that bears its name."""
        if trial in self._trial_writer:
            self._trial_writer[trial].close()
        trial.init_local_path()
        place = f"{trial.local_path}/trial-{self._names(trial.config)}"
        self._trial_writer[trial] = self._summary_writer_cls(place, flush_secs=1)
        self._trial_result[trial] = {}

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Write a report as points of curves."""
        super().log_trial_result(
            iteration, trial, {key: value for key, value in result.items() if key not in NO_CURVES}
        )

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Write what is still in the writers' queues, which their ``flush`` leaves there.

        Ray closes only the files of trials that have ended; a driver that was interrupted would take the rest along.
        """
        for writer in self._trial_writer.values():
            writer.close()
        self._trial_writer.clear()

    def _try_log_hparams(self, trial: Trial, result: dict[str, Any]) -> None:
        values = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in trial.evaluated_params.items()
        }
        _, start, end = hparams(values, result)
        for summary in (start, end):
            self._trial_writer[trial].file_writer.add_summary(summary)


class SearchedPopulation(PopulationBasedTraining):
    """Ray's population-based training where a searcher proposes the trials, and copies are one's own.

    Subclasses say what is copied and with what values a copy goes on; Ray lets them say only how values change.
    """

    def take_in(self, trial: Trial, epoch: int, last_turn: int) -> None:
        """Take a trial in that stands at an epoch and had its last turn at another.

        Ray refuses searchers, because they would be told scores that are not those of what they proposed; and it would
        let a trial copy, or be copied, at the first epoch after a restart.
        """
        without_search: Any = SimpleNamespace(search_alg=None)
        super().on_trial_add(without_search, trial)
        state = self._trial_state[trial]
        state.last_train_time, state.last_perturbation_time = epoch, last_turn

    def copied(self, checkpoint: tune.Checkpoint, folder: str) -> tune.Checkpoint | None:
        """What a trial with this folder goes on from instead of another's checkpoint; None: it copies nothing."""
        raise NotImplementedError

    def new_values(self, trial: Trial, other: Trial, epoch: int) -> dict[str, Any]:
        """The values with which a trial goes on that copies another, which stands at ``epoch``."""
        raise NotImplementedError

    def _exploit(self, tune_controller: Any, trial: Trial, trial_to_clone: Trial) -> None:
        # the copied trial goes on, for any number of epochs until the copy is started, and Tune removes its checkpoints
        other: Any = self._trial_state[trial_to_clone]
        theirs = other.last_checkpoint
        own = self.copied(theirs, str(trial.path))
        if own is None:
            return
        other.last_checkpoint = own
        super()._exploit(tune_controller, trial, trial_to_clone)
        other.last_checkpoint = theirs

    def _get_new_config(self, trial: Trial, trial_to_clone: Trial) -> tuple[dict[str, Any], dict[str, str]]:
        # where Ray's own PB2 puts its way to explore, too; a custom_explore_fn is not told which trial copies
        return self.new_values(trial, trial_to_clone, self._trial_state[trial_to_clone].last_train_time), {}
