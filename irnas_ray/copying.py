"""The scheduler of population-based training: which trials copy which, on top of Ray's own."""

import random
from functools import partial
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler

from irnas_ray.halving import search_of, take_up
from irnas_ray.population import RATES, explored, rate_of
from irnas_ray.progress import last_line
from irnas_ray.rungs import Verdict
from irnas_ray.settings import StudyConfig


class RatePopulation(PopulationBasedTraining):
    """Every ``tune.perturb_every`` epochs a trial of the worst quarter goes on from a copy of one of the best.

    It takes over weights, alpha, beta and optimizers, and trains on with the other's rates changed a little; its seed,
    and with it the order of its images, and its other settings stay its own. Where there are more trials than
    ``places`` they take turns.
    """

    def __init__(self, config: StudyConfig, metric: str, places: int) -> None:
        assert config.tune.perturb_every is not None
        self._places = places
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
        """Take a trial into the population, though a searcher proposed it.

        Ray refuses searchers, because they would be told scores that are not those of what they proposed; the study
        says with each trial what rates it had when.
        """
        without_search: Any = SimpleNamespace(search_alg=None)
        super().on_trial_add(without_search, trial)
        take_up(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Copy, pause or go on; stop where the score is not finite. At its end a trial is left alone."""
        search = search_of(tune_controller)
        search.note(trial.trial_id, folder=trial.path)
        if search.judge(trial.trial_id, result) == Verdict.STOP:
            return TrialScheduler.STOP
        if result.get("error") or result["epoch"] >= self._epochs:
            return TrialScheduler.CONTINUE
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.PAUSE and len(tune_controller.get_live_trials()) <= self._places:
            # Ray makes room for any trial that waits, also for a copy that is only being started
            return TrialScheduler.CONTINUE
        return decision

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Keep the error for the study; it is told if the trial is not tried again."""
        search_of(tune_controller).note(trial.trial_id, folder=trial.path, error=last_line(trial))

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The trial that is furthest behind; after a restart the search first takes up those that Tune still has."""
        search_of(tune_controller).adopt()
        return super().choose_trial_to_run(tune_controller)

    def _get_new_config(self, trial: Trial, trial_to_clone: Trial) -> tuple[dict[str, Any], dict[str, str]]:
        # where Ray's own PB2 puts its way to explore, too; a custom_explore_fn is not told which trial copies
        epoch = self._trial_state[trial_to_clone].last_train_time
        generator = random.Random(f"{self._seed} {trial.config['seed']} {epoch}")
        return {**trial.config, **explored(trial_to_clone.config, self._rates, generator)}, {}
