"""Running trials with Ray Tune so that an interrupted run is noticed, and continued where it stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler

from irnas_ray.progress import ProgressLines
from irnas_ray.sampling import StudySearch


class Interrupted(KeyboardInterrupt):
    """Tune was told to stop before all trials had ended; its state is saved and can be continued."""


def fit(
    trainable: Callable[..., None],
    folder: Path,
    resources: dict[str, float],
    progress: ProgressLines,
    *,
    max_failures: int,
    param_space: dict[str, Any] | None = None,
    search: StudySearch | None = None,
    scheduler: TrialScheduler | None = None,
    concurrent: int | None = None,
    checkpoints: int = 2,
) -> list[tune.Result]:
    """Run trials with everything under ``folder``, or continue those that an earlier run left there.

    ``checkpoints`` is how many of each trial are kept.

    Raises Interrupted if Tune stopped early; a trial's own failure is part of its result.
    """
    runner = tune.with_resources(trainable, resources)
    if tune.Tuner.can_restore(str(folder)):
        tuner = tune.Tuner.restore(str(folder), runner, resume_errored=True, param_space=param_space)
    else:
        tuner = tune.Tuner(
            runner,
            param_space=param_space or {},
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=scheduler,
                num_samples=progress.trials if search is not None else 1,
                max_concurrent_trials=concurrent,
                trial_dirname_creator=_folder_name,
            ),
            run_config=tune.RunConfig(
                name=folder.name,
                storage_path=str(folder.parent),
                failure_config=tune.FailureConfig(max_failures=max_failures),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=checkpoints),
                callbacks=[progress],
                verbose=0,
            ),
        )
    grid = tuner.fit()
    results = [grid[index] for index in range(len(grid))]
    # an interrupted fit returns as if nothing had happened; `done` is set only where a trial ended or was stopped
    ended = [result for result in results if result.error is not None or (result.metrics or {}).get("done")]
    if len(ended) < progress.trials:
        raise Interrupted(f"stopped after {len(ended)} of {progress.trials} trials")
    return results


def _folder_name(trial: Any) -> str:
    return str(trial.trial_id)
