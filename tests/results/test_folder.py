"""A study's folder: nothing is overwritten, only fitting settings continue a study, and files are whole or absent."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from irnas_ray.hpo.domains import Conditional
from irnas_ray.results import folder
from irnas_ray.results.folder import StudyFolder, as_plain
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.system.files import write_json, write_text


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


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "results").write_text("a file")
    config = make_config(tmp_path)
    study = StudyFolder(config)
    study.check(config)
    with pytest.raises(OSError, match=f"cannot write the study's folder {study.path}.*results=DIR"):
        study.create(config)


def test_json_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "summary.json"
    for value in ({"a": [1, None, "ü"]}, {"b": 2.5}):
        write_json(path, value)
        assert json.loads(path.read_text(encoding="utf-8")) == value
    assert [found.name for found in path.parent.iterdir()] == ["summary.json"]


def test_a_reader_never_sees_a_part_of_a_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_text(path, "old")
    seen = []

    def replace(source: Path, target: Path) -> None:
        seen.append((target.read_text(), source.read_text(), source.parent))
        os.rename(source, target)

    monkeypatch.setattr(folder.os, "replace", replace)
    write_text(path, "new")
    assert seen == [("old", "new", tmp_path)] and path.read_text() == "new"


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_else(tmp_path, monkeypatch, function):
    path = tmp_path / "a.json"
    write_json(path, 1)

    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder.os, function, fail)
    with pytest.raises(OSError, match=r"cannot write .*a.json \(No space left on device\); the old file is kept"):
        write_json(path, 2)
    assert path.read_text() == "1\n" and [found.name for found in tmp_path.iterdir()] == ["a.json"]


def test_a_value_that_json_cannot_hold_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == "1\n" and [found.name for found in tmp_path.iterdir()] == ["a.json"]


def test_a_file_in_a_folders_place_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=f"cannot write {tmp_path / 'file' / 'a.json'}"):
        write_json(tmp_path / "file" / "a.json", 1)


def test_only_one_process_works_on_a_study(tmp_path, begun):
    other = StudyFolder(make_config(tmp_path))
    with begun.lock():
        with pytest.raises(ValueError, match="another process is working on study 'mine'"), other.lock():
            pass
    with other.lock():
        pass


def test_a_study_is_not_continued_with_other_images(tmp_path, begun):
    other = StudyFolder(make_config(tmp_path))
    other.create(make_config(tmp_path), "")
    with pytest.raises(ValueError, match="begun with other images"):
        other.create(make_config(tmp_path), "0123456789ab")
