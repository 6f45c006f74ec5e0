"""Notes and pictures of a study as optuna-dashboard itself reads them; written for 0.21."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna_dashboard._note import get_note_from_system_attrs
from optuna_dashboard.artifact._backend import list_trial_artifacts
from PIL import Image
from report_cases import DENOISING, SUMMARY, make_study

from irnas_ray.cli.command_line import compose_settings
from irnas_ray.hpo.storage import open_storage
from irnas_ray.results import dashboard
from irnas_ray.results.folder import StudyFolder
from irnas_ray.results.study_results import read_study
from irnas_ray.settings.study import StudyConfig
from irnas_ray.study.summary import _annotate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of three trials, the best of which has a final network that restored an image."""
    made = make_study(tmp_path / "small", count=3)
    content = json.loads((made / "summary.json").read_text())
    content["trials"] = [
        trial | {"configuration": number, "name": str(number)} for number, trial in enumerate(content["trials"])
    ]
    best = max((trial for trial in content["trials"] if trial["state"] == "COMPLETE"), key=lambda trial: trial["score"])
    content["finals"][0] |= {"trial": best["name"], "genotype": best["genotype"]}
    (made / "summary.json").write_text(json.dumps(content))
    (made / "finals/1/images/test").mkdir(parents=True)
    Image.new("L", (40, 30), 99).save(made / "finals/1/images/test/gravel.png")
    return made


def annotated(folder: Path) -> tuple[dict[str, Any], list[Any], Any]:
    """The study's system attributes, its trials and the storage after it was annotated."""
    storage = open_storage(None, folder)
    dashboard.annotate(read_study(folder), storage)
    study_id = storage.get_study_id_from_name("small")
    return storage.get_study_system_attrs(study_id), storage.get_all_trials(study_id), storage


def artifacts(folder: Path, attributes: dict[str, Any], trial: Any) -> dict[str, tuple[int, int]]:
    """Names and sizes of the pictures of a trial."""
    store, found = FileSystemArtifactStore(folder / "artifacts"), {}
    for described in list_trial_artifacts(attributes, trial.system_attrs, trial):
        assert described["mimetype"] == "image/png"
        with store.open_reader(described["artifact_id"]) as file:
            found[described["filename"]] = Image.open(io.BytesIO(file.read())).size
    return found


def test_the_dashboard_finds_notes_and_pictures(folder: Path) -> None:
    attributes, trials, _ = annotated(folder)
    said = get_note_from_system_attrs(attributes, None)["body"]
    assert "The best network is final 1 of trial" in said and "1.12 dB more than non-local means" in said
    notes = [get_note_from_system_attrs(attributes, trial._trial_id)["body"] for trial in trials]
    assert all(f"| {number} |" in note and "`trials/round-1*/t0" in note for number, note in enumerate(notes))
    assert str(DENOISING) in notes[0] and "genotypes/0.json" in notes[0] and "631,234" not in notes[0]
    assert "1 failed: ValueError: <b>lost</b> & found" in notes[1]
    best = int(json.loads((folder / "summary.json").read_text())["finals"][0]["trial"])
    assert "Final 1: 28.12 dB, `finals/1/network.pt`" in notes[best]
    assert artifacts(folder, attributes, trials[best])["final-1-gravel.png"] == (40, 30)
    drawn = [f"genotype-{n}.png" in artifacts(folder, attributes, trial) for n, trial in enumerate(trials)]
    assert drawn == [True, False, True]


def test_a_long_note_arrives_whole_and_a_shorter_one_replaces_it() -> None:
    body = "".join(str(place % 10) for place in range(2 * dashboard.PART + 7))
    attributes = dashboard._note("7:", body, {})
    assert get_note_from_system_attrs(attributes, 7)["body"] == body
    attributes |= dashboard._note("7:", "short", attributes)
    assert get_note_from_system_attrs(attributes, 7) == {"version": 1, "body": "short"}


def test_what_a_user_changed_or_removed_stays_so(folder: Path) -> None:
    attributes, trials, storage = annotated(folder)
    study_id, own = storage.get_study_id_from_name("small"), trials[0]._trial_id
    (picture,) = (
        key for key in attributes if key.startswith(f"dashboard:artifacts:{own}:") and "genotype" in attributes[key]
    )
    for key, value in {f"dashboard:{own}:note_ver": 2, f"dashboard:{own}:note_str:0": "mine", picture: "null"}.items():
        storage.set_study_system_attr(study_id, key, value)
    summary = json.loads((folder / "summary.json").read_text())
    for final in summary["finals"]:
        final["trial"] = "2"
    (folder / "summary.json").write_text(json.dumps(summary | {"baselines": SUMMARY["baselines"]}))
    attributes, trials, _ = annotated(folder)
    assert get_note_from_system_attrs(attributes, own)["body"] == "mine"
    assert "genotype-0.png" not in artifacts(folder, attributes, trials[0])
    # the final is another trial's now
    having = [n for n, trial in enumerate(trials) if "final-1-gravel.png" in artifacts(folder, attributes, trial)]
    assert having == [2]


def test_nothing_is_written_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, _, storage = annotated(folder)
    files = {path: path.stat().st_mtime_ns for path in (folder / "artifacts").iterdir()}
    monkeypatch.setattr(type(storage), "set_study_system_attr", None)
    dashboard.annotate(read_study(folder), storage)
    assert {path: path.stat().st_mtime_ns for path in (folder / "artifacts").iterdir()} == files


def test_no_note_makes_a_study_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The database may be gone by then, or be of another program."""
    config = compose_settings("search", StudyConfig, ["study=small", f"results={tmp_path}"])
    folder = StudyFolder(config)
    folder.create(config)
    _annotate(config, folder)
    assert capsys.readouterr().out.startswith("no notes for optuna-dashboard: ")
