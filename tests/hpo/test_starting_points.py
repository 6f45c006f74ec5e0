"""Starting points: given, of an earlier study, of a genotype; checked by name, and put before all others once."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from irnas_ray.genotypes.published import load_genotype
from irnas_ray.hpo.domains import Conditional, Domains
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.starting_points import enqueue, starting_points
from irnas_ray.hpo.storage import open_storage
from irnas_ray.results.folder import StudyFolder
from irnas_ray.results.layout import settings_in
from irnas_ray.settings.study import StudyConfig, with_values

NODES, WIDTH, WEIGHT, CLIP = "architecture.nodes", "architecture.width", "search.ssim_weight", "search.gradient_clip"
SPACE: Domains = {
    NODES: IntDistribution(2, 6),
    WIDTH: CategoricalDistribution((8, 10)),
    WEIGHT: FloatDistribution(0.1, 0.9, step=0.2),
    CLIP: Conditional(FloatDistribution(1, 10), {NODES: (5, 6)}),
}


def make_config(points: list[dict[str, Any]] | None = None, **values: Any) -> StudyConfig:
    config = with_values(StudyConfig(domains=dict(SPACE)), {f"tune.{key}": value for key, value in values.items()})
    config.tune.points = points or []
    return config


def proposed(study: optuna.Study, config: StudyConfig, count: int) -> list[dict[str, Any]]:
    return [SearchSpace.of(config).propose(study.ask()) for _ in range(count)]


def put(study: optuna.Study, config: StudyConfig) -> None:
    enqueue(study, config.tune, SearchSpace.of(config), settings_in)


def points_of(config: StudyConfig) -> tuple[list[dict[str, Any]], list[str]]:
    return starting_points(config.tune, SearchSpace.of(config), settings_in)


def test_points_come_first_and_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole ones as the domains give them, partial ones filled in by the sampler; a resume adds none."""
    points = [{NODES: 6.0, WIDTH: 8, WEIGHT: 0.1 + 0.2, CLIP: 2}, {WIDTH: 10}, {WIDTH: 10}]
    config = make_config(points, trials=9)
    storage = open_storage(None, tmp_path)
    study = optuna.create_study(study_name="s", storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
    put(study, config)
    put(study, config)
    first, second = proposed(study, config, 2)
    assert first == {NODES: 6, WIDTH: 8, WEIGHT: 0.3, CLIP: 2.0}
    assert second[WIDTH] == 10 and {NODES, WEIGHT} < second.keys()
    again = optuna.load_study(study_name="s", storage=open_storage(None, tmp_path))
    put(again, with_values(config, {"resume": True}))
    assert [trial.state for trial in again.trials] == [TrialState.RUNNING] * 2
    assert not capsys.readouterr().out


def test_a_driver_that_died_while_it_put_points_puts_the_rest(tmp_path: Path) -> None:
    config = make_config([{NODES: 3}, {NODES: 4}])
    study = optuna.create_study()
    study.enqueue_trial({NODES: 3})
    put(study, config)
    assert [values[NODES] for values in proposed(study, config, 2)] == [3, 4]
    assert len(study.trials) == 2


def test_more_points_than_trials_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    put(optuna.create_study(), make_config([{NODES: 3}, {NODES: 4}], trials=1))
    assert capsys.readouterr().out == "tune.trials: 1 of the 2 starting points are tried\n"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "{} is not a point"),
    ({"search.batch": 4}, "search.batch is not tuned; domains: architecture.nodes"),
    ({NODES: 7}, "architecture.nodes=7 is not in IntDistribution"),
    ({NODES: "three"}, "architecture.nodes='three' is not in"),
    ({WIDTH: 9}, "architecture.width=9 is not in CategoricalDistribution"),
    ({WEIGHT: 0.2}, "search.ssim_weight=0.2 is not in"),
    ({NODES: 3, CLIP: 2.0}, "search.gradient_clip is not tuned there .*when architecture.nodes in"),
]


@pytest.mark.parametrize(("point", "message"), REFUSED)
def test_a_point_outside_the_domains_is_named(point: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"tune\.points\[1\]: {message}"):
        points_of(make_config([{NODES: 3}, point]))


def test_a_part_may_leave_open_whether_its_condition_holds() -> None:
    assert points_of(make_config([{CLIP: 2}]))[0] == [{CLIP: 2.0}]


def earlier(
    tmp_path: Path, domains: Domains, told: list[tuple[dict[str, Any], float | list[float] | None]], **values: Any
) -> StudyFolder:
    """The folder of a study that came to something; None for a trial that failed."""
    config = with_values(
        StudyConfig(study="before", results=str(tmp_path)), {key.replace("__", "."): v for key, v in values.items()}
    )
    config.domains = dict(domains)
    folder = StudyFolder(config)
    folder.create(config)
    objectives = max((len(value) for _, value in told if isinstance(value, list)), default=1)
    storage = open_storage(None, folder.path)
    study = optuna.create_study(study_name="before", storage=storage, directions=["maximize"] * objectives)
    for params, value in told:
        study.enqueue_trial(params)
        trial = study.ask()
        SearchSpace.of(config).propose(trial)
        study.tell(trial, value) if value is not None else study.tell(trial, state=TrialState.FAIL)
    return folder


def test_the_best_of_an_earlier_study_come_first(tmp_path: Path) -> None:
    """Best first, without what failed or lies outside; what was fixed there and is tuned here is taken over."""
    before: Domains = {NODES: IntDistribution(2, 9), WEIGHT: FloatDistribution(0.1, 0.9, step=0.2)}
    before = {**before, "search.batch": IntDistribution(1, 4)}
    told: list[Any] = [
        ({NODES: 3, WEIGHT: 0.1, "search.batch": 2}, 20.0),
        ({NODES: 9, WEIGHT: 0.1, "search.batch": 2}, 29.0),
        ({NODES: 5, WEIGHT: 0.9, "search.batch": 2}, 25.0),
        ({NODES: 4, WEIGHT: 0.5, "search.batch": 2}, None),
        ({NODES: 2, WEIGHT: 0.7, "search.batch": 2}, 10.0),
    ]
    folder = earlier(tmp_path, before, told, architecture__width=8, search__gradient_clip=3.0)
    best = {NODES: 5, WIDTH: 8, WEIGHT: 0.9, CLIP: 3.0}
    second, third = {NODES: 3, WIDTH: 8, WEIGHT: 0.1}, {NODES: 2, WIDTH: 8, WEIGHT: 0.7}
    points, notes = points_of(make_config([{NODES: 3}, second], warm_start=str(folder.path)))
    assert points == [{NODES: 3}, second, best, third]
    assert notes == [
        f"configuration 1 of {folder.path} is left out: architecture.nodes=9 outside the domains",
        f"search.batch of {folder.path} not taken over: not tuned here",
        f"begins with 3 configurations of {folder.path}",
    ]
    points, _ = points_of(make_config(warm_start=str(folder.path), warm_start_count=1))
    assert points == [best]


def test_an_earlier_study_of_several_objectives_gives_its_front(tmp_path: Path) -> None:
    domains: Domains = {NODES: IntDistribution(2, 6)}
    told: list[Any] = [({NODES: 2}, [1.0, 5.0]), ({NODES: 3}, [0.5, 4.0]), ({NODES: 4}, [3.0, 1.0])]
    folder = earlier(tmp_path, domains, told)
    points, _ = points_of(make_config(warm_start=str(folder.path)))
    assert sorted(point[NODES] for point in points) == [2, 4]


def test_a_genotype_fixes_what_it_says(tmp_path: Path) -> None:
    genotype = load_genotype("irnas_denoise")
    genotype.save(tmp_path / "found.json")
    config = make_config(warm_start=str(tmp_path / "found.json"))
    config.domains["architecture.layers"] = IntDistribution(1, 2)
    points, notes = points_of(config)
    assert points == [{NODES: genotype.nodes}]
    assert f"architecture.layers={genotype.layers} of {tmp_path / 'found.json'} is left out" in notes[0]
    assert notes[1] == f"begins with {NODES}={genotype.nodes} of {tmp_path / 'found.json'}"
    config = make_config(warm_start="irnas_denoise")
    config.domains = {WIDTH: SPACE[WIDTH]}
    assert points_of(config) == (
        [],
        [
            "nothing that irnas_denoise says (architecture.nodes, architecture.layers, architecture.multipliers, "
            "architecture.unshuffle, architecture.normalisation, architecture.aspp, architecture.low_level, "
            "architecture.head, architecture.lower_level, architecture.tie_cells) is tuned with its value"
        ],
    )


def test_what_is_no_study_and_no_genotype_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"tune.warm_start: {tmp_path} is not a study's folder"):
        points_of(make_config(warm_start=str(tmp_path)))
    with pytest.raises(ValueError, match="tune.warm_start: genotype 'nothing': no such file"):
        points_of(make_config(warm_start="nothing"))
    folder = earlier(tmp_path, {NODES: IntDistribution(2, 6)}, [])
    (folder.path / "study.db").unlink()
    with pytest.raises(ValueError, match=r"holds no study\.db"):
        points_of(make_config(warm_start=str(folder.path)))
    assert not (folder.path / "study.db").exists()
    (folder.path / "study.db").write_text("no database")
    with pytest.raises(ValueError, match=rf"tune.warm_start: the study of {folder.path} cannot be opened"):
        points_of(make_config(warm_start=str(folder.path)))
