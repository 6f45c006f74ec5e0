"""Folders are called what users like: nothing that a URL means by a character changes where a study lies."""

import pickle
from pathlib import Path

import optuna
import pytest
from pyarrow.fs import FileType, LocalFileSystem

from irnas_ray.hpo.storage import PatientStorage, lies_in, open_storage, opened_storage, sqlite_file, sqlite_url
from irnas_ray.results.folder import StudyFolder
from irnas_ray.results.study_results import read_study
from irnas_ray.settings.study import StudyConfig
from irnas_ray.system.urls import join, split
from irnas_ray.tune import run_storage

NAMES = [
    *("a%20b", "%", "q?1", "?", "x#y", "s;t", "u&v=1", "two words", "Größe 日本", "[e]{SCHEMA_VERSION}", "it's"),
    *('say "x"', "a:b", "u:***@h", "$HOME", "~", "back\\slash", "pwd=secret&x", "+", "100 % #1; a&b?c=d ü", "*"),
]


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> StudyFolder:
    """A study of a name in a results folder of the same name, created, with a storage that holds a trial."""
    name = request.param
    config = StudyConfig(study=name, results=str(tmp_path / name))
    folder = StudyFolder(config)
    folder.create(config)
    with opened_storage(None, folder.path, 1) as storage:
        optuna.create_study(study_name=name, storage=storage).add_trial(optuna.trial.create_trial(value=1.0))
    return folder


@pytest.mark.parametrize("folder", NAMES, indirect=True)
def test_a_study_lies_where_its_name_says(tmp_path: Path, folder: StudyFolder) -> None:
    name = folder.name
    assert [path.name for path in tmp_path.iterdir()] == [name] and [
        path.name for path in (tmp_path / name).iterdir()
    ] == [name]
    assert (folder.path / "study.db").is_file()
    results = read_study(folder.path)
    assert (results.name, results.problem, len(results.configurations)) == (name, None, 1)
    storage = open_storage(None, folder.path)
    assert isinstance(storage, PatientStorage) and lies_in(storage, folder.path)
    again = pickle.loads(pickle.dumps(storage))
    assert again.file == storage.file == folder.path / "study.db"
    for opened in (storage, again):
        assert [study.study_name for study in opened.get_all_studies()] == [name]
        opened.remove_session()
        opened.engine.dispose()
    assert sqlite_file(sqlite_url(folder.path / "study.db"), Path()) == folder.path / "study.db"
    with pytest.raises(ValueError, match="exists in"):
        folder.check(StudyConfig(study=name, results=str(tmp_path / name)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_trials_lie_where_the_storage_and_the_name_say(tmp_path: Path, name: str, scheme: str) -> None:
    place = tmp_path if scheme else tmp_path / name
    config = StudyConfig(study=name, results=str(tmp_path / "results"))
    config.cluster.storage = f"{scheme}{place}"
    run = StudyFolder(config).run("search")
    filesystem, path = run_storage.open_storage(run)
    assert isinstance(filesystem, LocalFileSystem) and Path(path) == place / name / "search"
    run_storage._write(join(run, name, "file"), "text")
    assert (place / name / "search" / name / "file").read_text() == "text"
    (trial,) = run_storage.trial_folders(run)
    assert split(trial) == (run, name)
    assert run_storage.open_storage(trial)[0].get_file_info(f"{path}/{name}").type == FileType.Directory
