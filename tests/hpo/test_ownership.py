"""Whose an Optuna study is where its folder was moved or copied: the database's place decides."""

import shutil
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from irnas_ray.hpo.objectives import objectives_of
from irnas_ray.hpo.plan import StudyPlan, claim_study
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.storage import lies_in, open_storage

SPACE = {"architecture.nodes": IntDistribution(2, 3)}
#: Where the study's folder stands for ``{}``.
INSIDE = [None, "sqlite:///{}/other.db", "journal:{}/below/study.log"]
OUTSIDE = ["sqlite:///{}/../shared.db", "journal:{}/../shared.log"]


def claim(url: str | None, folder: Path) -> optuna.Study:
    storage = open_storage(None if url is None else url.format(folder), folder)
    return claim_study(StudyPlan("s", storage, SearchSpace(SPACE)), folder, "toy")


def begin(url: str | None, folder: Path) -> None:
    (folder / "below").mkdir(parents=True)
    claim(url, folder).add_trial(optuna.trial.create_trial(value=1.0))


@pytest.mark.parametrize("url", INSIDE)
@pytest.mark.parametrize("take", [shutil.move, shutil.copytree])
def test_a_folder_with_its_database_may_be_moved_or_copied(tmp_path: Path, url: str | None, take) -> None:
    begin(url, tmp_path / "before")
    take(tmp_path / "before", tmp_path / "after")
    study = claim(url, tmp_path / "after")
    assert [trial.value for trial in study.trials] == [1.0]
    assert study.user_attrs["folder"] == str(tmp_path / "after")
    if take is shutil.copytree:
        assert claim(url, tmp_path / "before").user_attrs["folder"] == str(tmp_path / "before")


@pytest.mark.parametrize("url", OUTSIDE)
def test_a_database_that_others_may_share_belongs_to_one_folder(tmp_path: Path, url: str) -> None:
    begin(url, tmp_path / "before")
    shutil.move(tmp_path / "before", tmp_path / "after")
    with pytest.raises(ValueError, match=r"another folder \(.*before; now .*after\); choose another name"):
        claim(url, tmp_path / "after")


def test_a_folder_may_be_reached_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert lies_in(open_storage(None, tmp_path / "real"), tmp_path / "link")
    assert not lies_in(optuna.storages.InMemoryStorage(), tmp_path)


def test_a_study_belongs_to_one_folder_search_space_and_set_of_objectives(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path)
    space = SearchSpace({**SPACE, "search.ssim_weight": FloatDistribution(0.1, 1.0)})
    other = SearchSpace({**space.domains, "search.arch_lr": FloatDistribution(0, 1)})
    two = objectives_of(["score", "parameters"])
    plan = StudyPlan("a", storage, space)
    study = claim_study(plan, tmp_path, "toy")
    backwards = SearchSpace(dict(reversed(space.domains.items())))
    assert claim_study(replace(plan, space=backwards), tmp_path, "toy").study_name == "a"
    claim_study(replace(plan, name="b", objectives=two), tmp_path / "b", "toy")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    for message, arguments in {
        "another folder": (plan, tmp_path / "other", "toy"),
        "another search space": (plan, tmp_path, "paper"),
        "another domains": (replace(plan, space=other), tmp_path, "toy"),
        "another objectives": (replace(plan, objectives=two), tmp_path, "toy"),
    }.items():
        with pytest.raises(ValueError, match=f"{message}.*study=NAME"):
            claim_study(*arguments)
    assert optuna.load_study(study_name="a", storage=storage).user_attrs["search_space"] == "toy"


def test_the_study_of_another_program_is_left_alone(tmp_path: Path) -> None:
    foreign = optuna.create_study(storage=open_storage(None, tmp_path), study_name="s", direction="maximize")
    foreign.add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(ValueError, match="'s' exists in the storage and is of another program"):
        claim(None, tmp_path)
    assert foreign.user_attrs == {}
