"""Configurations that a study begins with: given ones, the best of an earlier study, or what a genotype says."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.genotypes.published import load_genotype
from irnas_ray.hpo.domains import as_given, contains
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.storage import StorageLost, open_storage, sqlite_file
from irnas_ray.settings.study import GENES, Tune

Point = dict[str, Any]
#: Gives the settings of the study in a folder as plain values, or ValueError.
ReadSettings = Callable[[Path], Mapping[str, Any]]
#: Name under which a study keeps the points that it was begun with.
KEPT = "starting points"


def starting_points(tuned: Tune, space: SearchSpace, read_settings: ReadSettings) -> tuple[list[Point], list[str]]:
    """The configurations, whole or in part, that a new study tries first, and what there is to say about them.

    First those of ``tune.points``, then those of ``tune.warm_start``. Raises ValueError naming the point and its key if
    it lies outside the domains, or the folder or file that cannot be read, be it because its study is locked.
    """
    points = [check_point(point, index, space) for index, point in enumerate(tuned.points)]
    notes: list[str] = []
    if tuned.warm_start is not None:
        source = Path(tuned.warm_start)
        if source.is_dir():
            try:
                found, notes = _of_study(source, space, tuned.warm_start_count, read_settings)
            except StorageLost as lost:
                reason = str(lost).removeprefix("tune.storage: ")
                raise ValueError(f"tune.warm_start: the study of {source} cannot be read ({reason})") from None
        else:
            found, notes = _of_genotype(tuned.warm_start, space)
        points += found
    return [point for index, point in enumerate(points) if point not in points[:index]], notes


def enqueue(study: optuna.Study, tuned: Tune, space: SearchSpace, read_settings: ReadSettings) -> None:
    """Put the starting points before everything that a new study's sampler proposes; one that has them is left alone.

    Prints what was taken, and what does not fit. Raises ValueError as ``starting_points``.
    """
    if KEPT in study.user_attrs or not (tuned.points or tuned.warm_start):
        return
    points, notes = starting_points(tuned, space, read_settings)
    for note in notes:
        print(f"tune.warm_start: {note}", flush=True)
    if len(points) > tuned.trials:
        print(f"tune.trials: {tuned.trials} of the {len(points)} starting points are tried", flush=True)
    for point in points:
        # a driver that was killed here may have put the first ones there already
        study.enqueue_trial(point, skip_if_exists=True)
    study.set_user_attr(KEPT, points)


def check_point(point: Mapping[str, Any], index: int, space: SearchSpace) -> Point:
    """A point with its values as the domains give them; ValueError naming the key that cannot have its value."""
    where = f"tune.points[{index}]"
    if not isinstance(point, Mapping) or not point:
        raise ValueError(f"{where}: {point!r} is not a point; give {{architecture.nodes: 3, ...}}")
    checked = {}
    for key, value in point.items():
        if key not in space.domains:
            raise ValueError(f"{where}: {key} is not tuned; domains: {', '.join(space.domains)}")
        distribution = space.distribution(key)
        if not contains(distribution, value):
            raise ValueError(f"{where}: {key}={value!r} is not in {distribution}")
        checked[key] = as_given(distribution, value)
    for key in checked:
        if not space.may_hold(key, checked):
            raise ValueError(f"{where}: {key} is not tuned there ({space.domains[key]})")
    return checked


def _of_study(
    folder: Path, space: SearchSpace, count: int, read_settings: ReadSettings
) -> tuple[list[Point], list[str]]:
    """The best configurations of a study that lie inside the domains, best first."""
    before, study = _open_study(folder, read_settings)
    points: list[Point] = []
    notes: list[str] = []
    ignored: set[str] = set()
    for trial in _best_first(study):
        whole = {key: trial.params.get(key, _value(before, key)) for key in space.domains}
        genes = {key for key in trial.params if key.startswith(GENES)} if space.architecture else set()
        ignored |= trial.params.keys() - space.domains.keys() - genes
        point = space.settle(whole)
        outside = [key for key, value in point.items() if not contains(space.distribution(key), value)]
        if outside:
            listed = ", ".join(f"{key}={point[key]!r}" for key in outside)
            notes.append(f"configuration {trial.number} of {folder} is left out: {listed} outside the domains")
            continue
        point = {key: as_given(space.distribution(key), value) for key, value in point.items()}
        try:
            points.append(point | _genes_of(trial.params, point, space))
        except ValueError as error:
            notes.append(f"the genotype of configuration {trial.number} of {folder} is left out: {error}")
            points.append(point)
        if len(points) == count:
            break
    if ignored:
        notes.append(f"{', '.join(sorted(ignored))} of {folder} not taken over: not tuned here")
    notes.append(f"begins with {len(points)} configurations of {folder}")
    return points, notes


def _genes_of(params: Mapping[str, Any], point: Point, space: SearchSpace) -> Point:
    """The genes of an earlier configuration, if the study has some; ValueError naming the one that is not possible."""
    genes = {key: value for key, value in params.items() if key.startswith(GENES)}
    if space.architecture is None or not genes:
        return {}
    encoding = space.encoding(point)
    return dict(encoding.encode(encoding.decode(genes)))


def _best_first(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The finished trials, best first; of a study with several objectives those that no other one is better than."""
    if len(study.directions) > 1:
        return study.best_trials
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(finished, key=lambda trial: sign * (trial.value or 0.0))


def _open_study(folder: Path, read_settings: ReadSettings) -> tuple[dict[str, Any], optuna.Study]:
    """The settings and the Optuna study of a study's folder; ValueError if there is none."""
    try:
        before = dict(read_settings(folder))
        name = before["study"] or before["search_space"]
        url = before["tune"]["storage"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"tune.warm_start: {folder} is not a study's folder; its settings cannot be read") from None
    file = sqlite_file(url, folder)
    if url is None and file is not None and not file.exists():
        raise ValueError(f"tune.warm_start: {folder} holds no {file.name}, so no trial was begun there")
    try:
        return before, optuna.load_study(study_name=name, storage=open_storage(url, folder))
    except (ValueError, KeyError) as error:
        raise ValueError(f"tune.warm_start: the study of {folder} cannot be opened ({error})") from None


def _value(settings: Mapping[str, Any], key: str) -> Any:
    """A setting of a ``config.yaml``; None where an earlier release did not have it."""
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _of_genotype(name: str, space: SearchSpace) -> tuple[list[Point], list[str]]:
    """The one point that a genotype fixes: what it says and is tuned."""
    try:
        said = described(load_genotype(name))
    except ValueError as error:
        raise ValueError(f"tune.warm_start: {error}") from None
    point, notes = {}, []
    for key, value in said.items():
        if key not in space.domains:
            continue
        if contains(space.distribution(key), value):
            point[key] = as_given(space.distribution(key), value)
        else:
            notes.append(f"{key}={value!r} of {name} is left out: outside {space.distribution(key)}")
    point = {key: value for key, value in point.items() if space.may_hold(key, point)}
    if space.architecture is not None:
        return _with_genes(point, load_genotype(name), name, space, notes)
    if not point:
        return [], [*notes, f"nothing that {name} says ({', '.join(said)}) is tuned with its value"]
    return [point], [*notes, f"begins with {', '.join(f'{key}={value!r}' for key, value in point.items())} of {name}"]


def _with_genes(
    point: Point, genotype: Genotype, name: str, space: SearchSpace, notes: list[str]
) -> tuple[list[Point], list[str]]:
    """The point with the genotype itself, where the values of its domains give a space that holds it."""
    try:
        genes = space.encoding(point).encode(genotype)
    except ValueError as error:
        return ([point] if point else []), [*notes, f"{name} itself is left out: {error}"]
    return [point | genes], [*notes, f"begins with {name} itself"]


def described(genotype: Genotype) -> Point:
    """What a genotype says of the space that holds it, by the keys of settings."""
    said: Point = {
        "architecture.nodes": genotype.nodes,
        "architecture.layers": genotype.layers,
        "architecture.multipliers": list(genotype.multipliers),
    }
    said |= {f"architecture.{name}": value for name, value in asdict(genotype.macro).items()}
    if genotype.layers > 1:
        said["architecture.tie_cells"] = len(genotype.cells) == 1
    return said
