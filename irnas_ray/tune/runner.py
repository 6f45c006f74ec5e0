"""Running trials with Ray Tune so that an interrupted run is noticed, and continued where it stopped."""

import contextlib
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.schedulers import TrialScheduler

from irnas_ray.progress.callback import StageProgress
from irnas_ray.progress.stage_state import Names
from irnas_ray.system.urls import join, split
from irnas_ray.tune.authorship import Authorship
from irnas_ray.tune.heartbeat import HangWatch
from irnas_ray.tune.internals import allow_failures, in_started_workers, let_outlive_checkpoints
from irnas_ray.tune.moved_modules import moved_modules_found
from irnas_ray.tune.run_storage import ended_trials, has_ended, is_trained, parameters, trial_folders, why_over
from irnas_ray.tune.schedulers import InPlaceScheduler
from irnas_ray.tune.searcher import StudySearch
from irnas_ray.tune.unsaved_state import unsaved_state_told


class Interrupted(KeyboardInterrupt):
    """Tune was told to stop before all trials had ended; its state is saved and can be continued."""


@dataclass(frozen=True)
class Run:
    """Where trials are run or continued, and what an earlier run left that can no longer be continued."""

    #: Folder or URL; its name is the run's.
    place: str
    #: Whether Tune can continue what lies there.
    begun: bool
    #: Trials of earlier runs whose folders say that they ended, which are not run again.
    ended: list[tune.Result] = field(default_factory=list)
    #: Ids of all trials of earlier runs that ended.
    kept: frozenset[str] = frozenset()
    #: What the others were begun with, and their folders: where they are run again they go on from there.
    left: tuple[tuple[dict[str, Any], str], ...] = ()


def find_run(place: str, known: Collection[str] = (), trusted: bool = True) -> Run:
    """The run that goes on from what lies in a folder or URL.

    A run that Tune cannot continue, perhaps because its driver was killed while writing, is left as it is: a new
    one beside it runs what had not ended there. ``known`` are trials that are known to have ended, whatever their
    folders say. So is a run whose record another user wrote, unless it is ``trusted``.
    """
    ended: list[tune.Result] = []
    kept: set[str] = set()
    left: list[tuple[dict[str, Any], str]] = []
    above, name = split(place)
    for number in range(1, 1000):
        current = place if number == 1 else join(above, f"{name}-again-{number}")
        folders = trial_folders(current)
        reason = why_over(current, trusted) if folders else None
        if reason is None:
            return Run(current, bool(folders), ended, frozenset(kept), tuple(left))
        found = ended_trials(current)
        ids = {id_of(result) for result in found} | {split(folder)[1] for folder in folders} & set(known)
        others = [folder for folder in folders if split(folder)[1] not in ids]
        trained = sum(map(is_trained, others))
        print(
            f"{current}: {reason}; "
            f"{len(ids)} of {len(folders)} trials had ended and are kept, the others go on from what they had saved"
            + (f", {trained} of them after their last step" if trained else ""),
            flush=True,
        )
        ended, kept = ended + found, kept | ids
        left += [(parameters(folder), folder) for folder in others]
    raise ValueError(f"{place}: a thousand damaged runs lie here; use a new study")


def id_of(result: tune.Result) -> str:
    """The id of a trial, which is the name of its folder."""
    return split(str(result.path))[1]


def fit(
    trainable: Callable[..., None],
    run: Run,
    resources: dict[str, float],
    progress: StageProgress,
    *,
    max_failures: int,
    param_space: dict[str, Any] | None = None,
    search: StudySearch | None = None,
    scheduler: TrialScheduler | None = None,
    concurrent: int | None = None,
    loggers: Sequence[Callback] = (),
    checkpoints: int = 2,
    hang_minutes: float | None = None,
) -> list[tune.Result]:
    """Run the trials that ``progress`` counts, or continue those that an earlier driver left there; all results.

    ``checkpoints`` is how many of each trial are kept. Trials whose workers give no sign of life for ``hang_minutes``
    are started again, see ``heartbeat``.

    Raises Interrupted if Tune stopped early, OSError if a full disk keeps Tune from working; a trial's own failure is
    part of its result.
    """
    if not progress.trials:
        return []
    runner = tune.with_resources(trainable, resources)
    let_outlive_checkpoints(runner)
    above, name = split(run.place)
    authorship = Authorship(run.place)
    watches = [] if hang_minutes is None else [HangWatch(name, hang_minutes, progress)]
    tuner = tune.Tuner(
        runner,
        param_space=param_space or {},
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=scheduler or InPlaceScheduler(),
            # how many there are is the search's to say
            num_samples=1 if search is None else -1,
            max_concurrent_trials=concurrent,
            trial_name_creator=None if progress.state.names is None else partial(_name, progress.state.names),
            trial_dirname_creator=_folder_name,
            # a search's trials are short, and wait at rungs: starting a process for each would cost seconds
            reuse_actors=search is not None,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=above,
            failure_config=tune.FailureConfig(max_failures=max_failures),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=checkpoints),
            callbacks=[progress, _Failures(max_failures), authorship, *watches, *loggers],
            verbose=0,
        ),
    )
    with _own_interrupts(), unsaved_state_told(progress.notice), moved_modules_found(), in_started_workers():
        if run.begun:
            # the tuner above has written its file anew, so that it does not matter what a killed driver made of the old
            # one; what the study was told has failed stays so: a later round makes up for it
            tuner = tune.Tuner.restore(run.place, runner, resume_errored=search is None, param_space=param_space)
        try:
            grid = tuner.fit()
        finally:
            authorship.mark()
    results = [grid[index] for index in range(len(grid))]
    # an interrupted fit returns as if nothing had happened
    ended = [result for result in results if result.error is not None or has_ended(result.metrics or {})]
    missing = progress.trials - len(ended) if search is None else search.ledger.missing()
    if missing > 0:
        raise Interrupted(f"stopped after {progress.trials - missing} of {progress.trials} trials")
    return results


class _Failures(Callback):
    """How often a trial is started again is for this run to say, also for trials that an earlier one began."""

    def __init__(self, most: int) -> None:
        self._most = most

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for trial in trials:
            allow_failures(trial, self._most)


@contextlib.contextmanager
def _own_interrupts() -> Iterator[None]:
    """Ctrl-C means afterwards what it meant before: Tune leaves a handler behind, which would swallow one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _name(names: Names, trial: Any) -> str:
    return names(trial.config)


def _folder_name(trial: Any) -> str:
    return str(trial.trial_id)
