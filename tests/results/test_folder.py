"""A study's folder: nothing is overwritten, and only fitting settings continue a study."""

import itertools
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from irnas_ray.hpo.domains import Conditional
from irnas_ray.results.folder import StudyFolder, as_plain
from irnas_ray.settings.study import RetrainConfig, StudyConfig, with_values


def make_config(tmp_path: Path, **values: Any) -> StudyConfig:
    """Settings of a study named `mine`; keywords have `__` for the dots of keys."""
    config = StudyConfig(study="mine", results=str(tmp_path / "results"))
    config.domains = {"architecture.nodes": optuna.distributions.IntDistribution(2, 3)}
    return with_values(config, {key.replace("__", "."): value for key, value in values.items()})


@pytest.fixture
def begun(tmp_path: Path) -> StudyFolder:
    """The folder of a study that was begun."""
    config = make_config(tmp_path)
    study = StudyFolder(config)
    study.check(config)
    study.create(config)
    return study


def test_a_new_study_gets_its_folder_and_its_settings(tmp_path, begun):
    assert begun.path == tmp_path / "results" / "mine"
    assert begun.trials.is_dir() and begun.genotypes.is_dir()
    assert begun.final(2) == begun.path / "finals" / "2" and begun.summary == begun.path / "summary.json"
    assert yaml.safe_load(begun.config.read_text()) == as_plain(make_config(tmp_path)) | {"fingerprint": ""}
    assert sorted(path.name for path in begun.path.iterdir()) == ["config.yaml", "genotypes", "trials"]


def test_a_study_without_a_name_is_named_after_its_search_space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert StudyFolder(StudyConfig(search_space="mine")).path == tmp_path / "results" / "mine"


@pytest.mark.parametrize("name", [".", "..", "a/b", "/tmp/a", "prepared"])
def test_names_that_name_no_folder_of_a_study_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"study: '.*' cannot name a folder"):
        StudyFolder(make_config(tmp_path, study=name))


def test_a_study_is_never_overwritten(tmp_path, begun):
    before = begun.config.read_bytes()
    with pytest.raises(ValueError, match="study 'mine' exists in .*resume=true.*study=NAME"):
        begun.check(make_config(tmp_path))
    assert begun.config.read_bytes() == before


def test_a_folder_with_other_files_is_not_taken(tmp_path):
    config = make_config(tmp_path)
    study = StudyFolder(config)
    study.path.mkdir(parents=True)
    study.check(config)
    (study.path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="mine holds other files.*study=NAME"):
        study.check(config)


def test_only_what_was_begun_is_resumed(tmp_path):
    config = make_config(tmp_path, resume=True)
    with pytest.raises(ValueError, match="nothing to resume in .*leave out resume=true"):
        StudyFolder(config).check(config)


FREE = {
    "tune__trials": 99,
    "tune__max_failures": 0,
    "cluster__cpus_per_trial": 3,
    "cluster__address": "auto",
    "final__steps": 7,
    "final__protocol": "images-gray",
    "data__output": "elsewhere",
}


def test_a_study_is_resumed_with_equal_settings_and_with_free_ones(tmp_path, begun):
    begun.check(make_config(tmp_path, resume=True))
    begun.check(make_config(tmp_path, resume=True, **FREE))


FIXED = [
    ("architecture__nodes", 4, "architecture.nodes (5 -> 4)"),
    ("search__epochs", 7, "search.epochs (100 -> 7)"),
    ("search__gradient_clip", 1.0, "search.gradient_clip (5.0 -> 1.0)"),
    ("degradation__sigmas", [25], "degradation.sigmas ([30, 50, 70] -> [25])"),
    ("tune__seed", 1, "tune.seed (0 -> 1)"),
    ("data__source", "other", "data.source (None -> 'other')"),
    ("search_space", "hinas", "search_space ('quickstart' -> 'hinas')"),
    ("domains", {}, "domains"),
]


@pytest.mark.parametrize(("key", "value", "message"), FIXED)
def test_a_setting_that_decides_what_trials_mean_is_listed(tmp_path, begun, key, value, message):
    with pytest.raises(ValueError, match="begun with other settings") as caught:
        begun.check(make_config(tmp_path, resume=True, **{key: value}))
    assert message in str(caught.value) and str(caught.value).count("->") == 1


def test_a_setting_newer_than_the_study_is_taken_as_its_default(tmp_path, begun):
    saved = yaml.safe_load(begun.config.read_text())
    del saved["search"]["gradient_clip"], saved["degradation"]["rain"]
    begun.config.write_text(yaml.safe_dump(saved))
    begun.check(make_config(tmp_path, resume=True))
    for key, message in (("search__gradient_clip", r"\(5\.0 -> 1\)"), ("degradation__rain__layers", "-> 1")):
        with pytest.raises(ValueError, match=f"begun with other settings.*{message}"):
            begun.check(make_config(tmp_path, resume=True, **{key: 1}))


def test_conditions_are_written_and_compared(tmp_path, begun):
    nodes = optuna.distributions.IntDistribution(2, 3)
    config = make_config(tmp_path, study="other")
    config.domains = {"architecture.nodes": Conditional(nodes, {"search.crop": (64, 32)})}
    study = StudyFolder(config)
    study.create(config)
    text = f"{nodes} when search.crop in [64, 32]"
    assert yaml.safe_load(study.config.read_text())["domains"] == {"architecture.nodes": text}
    study.check(with_values(config, {"resume": True}))
    config.domains = {"architecture.nodes": Conditional(nodes, {"search.crop": (64,)})}
    with pytest.raises(ValueError, match=r"begun with other settings.*domains"):
        study.check(with_values(config, {"resume": True}))


def test_several_changed_settings_are_listed_together(tmp_path, begun):
    with pytest.raises(ValueError, match=r"architecture\.width .*search\.batch"):
        begun.check(make_config(tmp_path, resume=True, architecture__width=4, search__batch=3))


@pytest.mark.parametrize("text", ["", "- a\n- list\n", "study: [unclosed", "just words"])
def test_damaged_settings_of_a_study_are_named(tmp_path, begun, text):
    begun.config.write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        begun.check(make_config(tmp_path, resume=True))


def test_settings_that_name_code_are_refused(tmp_path, begun):
    ran = tmp_path / "ran"
    begun.config.write_text(f"study: mine\nsearch: [!!python/object/apply:os.mkdir ['{ran}']]\n")
    with pytest.raises(ValueError, match=r"config\.yaml cannot be read"):
        begun.check(make_config(tmp_path, resume=True))
    assert not ran.exists()
    # what is refused is no empty threat
    yaml.unsafe_load(begun.config.read_text())
    assert ran.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "results").write_text("a file")
    config = make_config(tmp_path)
    study = StudyFolder(config)
    study.check(config)
    with pytest.raises(OSError, match=f"cannot write the study's folder {study.path}.*results=DIR"):
        study.create(config)


def test_only_one_process_works_on_a_study(tmp_path, begun):
    other = StudyFolder(make_config(tmp_path))
    with begun.lock():
        with pytest.raises(ValueError, match="another process is working on study 'mine'"), other.lock():
            pass
    with other.lock():
        pass


def test_who_works_on_a_study_is_told_before_how_to_continue_it(tmp_path, begun):
    other = StudyFolder(make_config(tmp_path))
    with begun.lock():
        with pytest.raises(ValueError, match="another process is working on study 'mine'"):
            other.check(make_config(tmp_path))
        with pytest.raises(ValueError, match="continue it with resume=true"):
            begun.check(make_config(tmp_path))
    with pytest.raises(ValueError, match="continue it with resume=true"):
        other.check(make_config(tmp_path))


def test_nothing_is_left_of_a_study_that_was_not_begun(tmp_path):
    config = make_config(tmp_path)
    for begins in (False, True):
        study = StudyFolder(config)
        with study.lock():
            study.check(config)
            if begins:
                study.create(config)
        assert list(tmp_path.iterdir()) == ([tmp_path / "results"] if begins else [])


def test_a_study_is_not_continued_with_other_images(tmp_path, begun):
    config = make_config(tmp_path, resume=True)
    begun.check(config, "")
    with pytest.raises(ValueError, match="begun with other images"):
        begun.check(config, "0123456789ab")


FOLLOWED: list[tuple[dict[str, Any], dict[str, Any], str | None]] = [
    ({}, {"final.lr": 0.5, "final.width": 7}, None),
    ({"search.method": "random"}, {"final.lr": 0.5}, r"final.lr \(0.001 -> 0.5\)"),
    ({"search.proxy_steps": 4}, {"final.lr": 0.5}, r"final.lr \(0.001 -> 0.5\)"),
    ({"search.proxy_steps": 4, "search.method": "single_path"}, {"final.width": 7}, r"final.width \(20 -> 7\)"),
    ({"tune.objectives": ["score", "parameters"]}, {"final.width": 7}, r"final.width \(20 -> 7\)"),
    ({"tune.objectives": ["score", "parameters"]}, {"final.lr": 0.5}, None),
]


@pytest.mark.parametrize(("values", "other", "message"), FOLLOWED)
def test_the_recipe_may_change_only_where_search_trials_do_not_follow_it(tmp_path, values, other, message):
    config = with_values(make_config(tmp_path), values)
    StudyFolder(config).create(config)
    longer = with_values(config, {"resume": True, "final.steps": 7, "final.seed": 3, "final.count": 1})
    StudyFolder(longer).check(longer)
    changed = with_values(longer, other)
    if message is None:
        StudyFolder(changed).check(changed)
        return
    with pytest.raises(ValueError, match=f"begun with other settings: {message}"):
        StudyFolder(changed).check(changed)


@pytest.mark.parametrize("key", ["tune.max_parameters", "tune.max_multiply_adds"])
def test_limits_may_change_but_with_gp_not_come_or_go(tmp_path: Path, key: str) -> None:
    for number, (sampler, before, now) in enumerate(itertools.product(("gp", "tpe"), (None, 50), (None, 60))):
        config = with_values(make_config(tmp_path), {"study": str(number), "tune.sampler": sampler, key: before})
        StudyFolder(config).create(config)
        changed = with_values(config, {"resume": True, key: now})
        if sampler == "gp" and (before is None) != (now is None):
            with pytest.raises(ValueError, match=rf"begun with other settings: {key} \({before} -> {now}\)"):
                StudyFolder(changed).check(changed)
        else:
            StudyFolder(changed).check(changed)


def test_the_recipe_may_not_change_where_some_trials_follow_it(tmp_path):
    config = make_config(tmp_path)
    config.domains = {"search.proxy_steps": optuna.distributions.CategoricalDistribution((0, 4))}
    StudyFolder(config).create(config)
    with pytest.raises(ValueError, match=r"final.lr \(0.001 -> 0.5\)"):
        StudyFolder(config).check(with_values(config, {"resume": True, "final.lr": 0.5}))


def test_the_recipe_may_change_where_there_are_no_trials(tmp_path):
    config = RetrainConfig(study="mine", results=str(tmp_path), genotype="irnas_denoise")
    config = with_values(config, {"search.proxy_steps": 4})
    StudyFolder(config).create(config)
    StudyFolder(config).check(with_values(config, {"resume": True, "final.lr": 0.5}))
