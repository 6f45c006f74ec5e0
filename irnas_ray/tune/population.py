"""The scheduler of population-based training: which trials copy which, on top of Ray's own."""

import contextlib
import random
from functools import partial
from typing import Any

import pyarrow
from pyarrow.fs import FileSelector, copy_files
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from irnas_ray.hpo.rungs import Verdict
from irnas_ray.settings.study import StudyConfig
from irnas_ray.tune.internals import SearchedPopulation, last_saved_report, live_trials
from irnas_ray.tune.perturbation import RATES, explored, rate_of
from irnas_ray.tune.schedulers import ledger_of, note_error, take_up

#: What copies of others' checkpoints are called in a trial's folder, with a number behind.
COPY = "copied_"


class RatePopulation(SearchedPopulation):
    """Every ``tune.perturb_every`` epochs a trial of the worst quarter goes on from a copy of one of the best.

    It takes over weights, alpha, beta and optimizers, and trains on with the other's rates changed a little; its seed,
    and with it the order of its images, and its other settings stay its own. Where there are more trials than
    ``places`` they take turns.
    """

    #: The trial that was chosen last.
    _chosen: str | None = None

    def __init__(self, config: StudyConfig, metric: str, places: int) -> None:
        assert config.tune.perturb_every is not None
        self._places, self._every = places, config.tune.perturb_every
        self._epochs, self._seed = config.search.epochs, config.tune.seed
        self._rates: dict[str, Any] = {key: config.domains.get(key) for key in RATES}
        super().__init__(
            time_attr="epoch",
            metric=metric,
            mode="max",
            perturbation_interval=config.tune.perturb_every,
            # only what a trial begins with where a rate is not tuned; how rates change is `explored`
            hyperparam_mutations={key: partial(float, rate_of(config, key)) for key in RATES},
            # trials record themselves what became of them
            log_config=False,
        )

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take a trial into the population, though a searcher proposed it; again where it is started again.

        The study says with each trial what rates it had when, so that scores are those of what was proposed.
        """
        epoch = int(last_saved_report(trial).get("epoch", 0))
        self.take_in(trial, epoch, epoch - epoch % self._every)
        take_up(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Copy, pause or go on; stop where the score is not finite. At its end a trial is left alone."""
        ledger = ledger_of(tune_controller)
        ledger.note(trial.trial_id, folder=trial.path)
        if ledger.report(trial.trial_id, result) == Verdict.STOP:
            return TrialScheduler.STOP
        if result.get("error") or result["epoch"] >= self._epochs:
            return TrialScheduler.CONTINUE
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.PAUSE and len(live_trials(tune_controller)) <= self._places:
            # Ray makes room for any trial that waits, also for a copy that is only being started
            return TrialScheduler.CONTINUE
        return decision

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Keep the error for the study; it is told if the trial is not tried again."""
        note_error(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The trial that is furthest behind; after a restart the search first takes up those that Tune still has."""
        ledger_of(tune_controller).adopt()
        chosen = super().choose_trial_to_run(tune_controller)
        if chosen is not None and chosen.trial_id == self._chosen:
            # who goes on from a copy is only as far as the other; taken again each time it would copy for ever
            times = {trial: self._trial_state[trial].last_train_time for trial in tune_controller.get_trials()}
            waiting = [
                trial for trial in times if trial.status in (Trial.PENDING, Trial.PAUSED) and trial is not chosen
            ]
            chosen = next((trial for trial in waiting if times[trial] <= times[chosen]), chosen)
        self._chosen = None if chosen is None else chosen.trial_id
        return chosen

    def copied(self, checkpoint: tune.Checkpoint, folder: str) -> tune.Checkpoint | None:
        """A copy in the trial's own folder, which stays when the other trial's checkpoint goes."""
        return own_copy(checkpoint, folder)

    def new_values(self, trial: Trial, other: Trial, epoch: int) -> dict[str, Any]:
        """The trial's own values with the other's rates, changed a little."""
        generator = random.Random(f"{self._seed} {trial.config['seed']} {epoch}")
        return {**trial.config, **explored(other.config, self._rates, generator)}


def own_copy(checkpoint: tune.Checkpoint, folder: str) -> tune.Checkpoint | None:
    """A copy of a checkpoint in another trial's folder of the same storage; None if it is gone or there is no space.

    Of earlier copies in that folder the last is kept, which Tune's record of the trial may still name.
    """
    filesystem: Any = checkpoint.filesystem
    try:
        found = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        earlier = sorted(entry.base_name for entry in found if entry.base_name.startswith(COPY))
    except (OSError, pyarrow.ArrowException):
        return None
    number = int(earlier[-1].removeprefix(COPY)) + 1 if earlier else 0
    target = f"{folder}/{COPY}{number:06d}"
    copied = False
    with contextlib.suppress(OSError, pyarrow.ArrowException):
        filesystem.create_dir(target)
        copy_files(checkpoint.path, target, filesystem, filesystem)
        copied = True
    with contextlib.suppress(OSError, pyarrow.ArrowException):
        for name in earlier[:-1] if copied else [target.rpartition("/")[2]]:
            filesystem.delete_dir(f"{folder}/{name}")
    return tune.Checkpoint(target, filesystem) if copied else None
