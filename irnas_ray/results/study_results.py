"""What a study's folder holds, finished or still running, read without touching it."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.objectives import SCORE, Objective, objectives_of
from irnas_ray.hpo.records import records_of
from irnas_ray.hpo.storage import StorageLost, open_storage, sqlite_file
from irnas_ray.results.layout import StudyLayout, check_study, studies_near

#: Fewest completed configurations of which parameter importances say more than chance.
FEWEST_FOR_IMPORTANCES = 8


@dataclass(frozen=True)
class StudyResults:
    """A study's settings, its trials in the order in which they were proposed, and its summary if it is finished."""

    folder: Path
    name: str
    search_space: str
    #: ``config.yaml`` as plain values.
    config: Mapping[str, Any]
    #: ``summary.json``; empty while the study is not finished.
    summary: Mapping[str, Any]
    #: One record for each trial, as in ``summary.json``.
    records: list[dict[str, Any]]
    #: The trials of the Optuna study, one for each configuration; empty where it could not be read.
    configurations: list[FrozenTrial]
    #: Why there are no configurations; None where they were read.
    problem: str | None

    @property
    def objectives(self) -> list[Objective]:
        """What the configurations are compared by."""
        return objectives_of((self.config.get("tune") or {}).get("objectives") or ["score"])

    def ranked(self) -> list[dict[str, Any]]:
        """The records, best first: completed trials by their score, then stopped and running ones, then failed ones."""
        return sorted(self.records, key=_merit)

    def best(self) -> dict[str, Any] | None:
        """The best record that has a genotype, or None."""
        return next((record for record in self.ranked() if record.get("genotype")), None)


def read_study(folder: str | Path) -> StudyResults:
    """Read a study's folder; ValueError names the folder, and the studies beside it, if it holds none.

    An Optuna study that cannot be read is no error: ``problem`` says what is wrong with it.

    >>> import irnas_ray as ir
    >>> settings = ir.compose("search", ["study=mine"])
    >>> folder = ir.results.StudyFolder(settings)
    >>> folder.create(settings)
    >>> study = ir.read_study("results/mine")
    >>> study.search_space, study.best()
    ('quickstart', None)
    """
    folder = Path(folder).absolute()
    layout = StudyLayout(folder)
    check_study(folder)
    config, summary = layout.read_settings(), layout.read_summary()
    if "audit" in config:
        raise ValueError(f"{folder} is an audit, whose page is audit.html; {studies_near(folder)}")
    # a study that was continued has newer records than its summary
    records: list[dict[str, Any]] = max(summary.get("trials") or [], layout.read_records(), key=len)
    name = str(config.get("study") or config.get("search_space") or folder.name)
    configurations, problem = [], None
    try:
        configurations = _read_configurations(name, (config.get("tune") or {}).get("storage"), folder)
    except ValueError as error:
        problem = str(error)
    known = {record["id"] for record in records}
    records = records + [r for trial in configurations for r in records_of(trial) if r["id"] not in known]
    records.sort(key=lambda record: record["config"].get("seed", 0))
    space = str(summary.get("search_space") or config.get("search_space") or "-")
    return StudyResults(folder, name, space, config, summary, records, configurations, problem)


def genotype_of(record: Mapping[str, Any]) -> Genotype | None:
    """The genotype in a record, or None where the trial reported none."""
    return Genotype.from_json(json.dumps(record["genotype"])) if record.get("genotype") else None


def importances(configurations: list[FrozenTrial], objectives: Sequence[Objective] = ()) -> dict[str, float]:
    """The share of each parameter in reaching good scores (PED-ANOVA), largest first; the shares add up to one.

    ``objectives`` are those of the study, if it has several; the score is what counts.

    Raises ValueError that says in words why there are none: too few completed trials, scores or parameters that do not
    vary.
    """
    study, evaluator = ranked_study(configurations, objectives)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_param_importances(study, evaluator=evaluator)


def ranked_study(
    configurations: list[FrozenTrial], objectives: Sequence[Objective] = ()
) -> tuple[optuna.Study, PedAnovaImportanceEvaluator]:
    """A study of the completed trials and their scores alone, and what tells importances of it; as ``importances``."""
    place = [objective.metric for objective in objectives].index(SCORE) if objectives else 0
    completed = [
        create_trial(value=trial.values[place], params=trial.params, distributions=trial.distributions)
        for trial in configurations
        if trial.state == TrialState.COMPLETE
    ]
    if len(completed) < FEWEST_FOR_IMPORTANCES:
        raise ValueError(
            f"parameter importances need at least {FEWEST_FOR_IMPORTANCES} completed configurations; "
            f"there {'is' if len(completed) == 1 else 'are'} {len(completed)}"
        )
    if len({trial.value for trial in completed}) == 1:
        raise ValueError("all completed configurations have the same score, so no parameter can be called important")
    names = set.intersection(*(set(trial.params) for trial in completed))
    if not any(len({str(trial.params[name]) for trial in completed}) > 1 for name in names):
        raise ValueError("no parameter varied between the completed configurations")
    # five good trials at least, as Optuna advises; a tenth of a small study would be one or two
    quantile = min(0.5, max(0.1, 5 / len(completed)))
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(direction="maximize")
            study.add_trials(completed)
            return study, PedAnovaImportanceEvaluator(target_quantile=quantile)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _merit(record: Mapping[str, Any]) -> tuple[int, float]:
    score = record.get("score")
    if score is None or score != score:
        return (3, 0.0)
    return ({"COMPLETE": 0, "FAIL": 2}.get(record["state"], 1), -score)


def _read_configurations(name: str, url: str | None, folder: Path) -> list[FrozenTrial]:
    """The trials of an Optuna study; ValueError if there is no such study, and then nothing is created."""
    file = _storage_file(url, folder)
    # opening a file that does not exist would make an empty one
    if file is not None and not file.is_file():
        raise ValueError(f"no Optuna study: {file} does not exist; no trial was begun, or tune.storage was moved")
    try:
        storage = open_storage(url, folder)
    except StorageLost as lost:
        raise ValueError(str(lost)) from None
    try:
        return storage.get_all_trials(storage.get_study_id_from_name(name))
    except StorageLost as lost:
        raise ValueError(str(lost)) from None
    except KeyError:
        raise ValueError(f"no Optuna study: {file or url} holds no study named {name!r}") from None
    finally:
        if isinstance(storage, optuna.storages.RDBStorage):
            # an open read transaction would make the running search wait
            storage.remove_session()
            storage.engine.dispose()


def _storage_file(url: str | None, folder: Path) -> Path | None:
    """The file behind a storage, or None where a server is."""
    if url is not None and url.startswith("journal:"):
        return Path(url.removeprefix("journal:")).absolute()
    return sqlite_file(url, folder)
