"""What a worker reports: notices once, and checkpoints that are read from any storage, the one before if need be."""

import errno
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pyarrow.fs
import pytest
import torch
from ray import tune

from irnas_ray.networks.checkpoints import save_state
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.study import trial
from irnas_ray.tune import reports as reporting
from irnas_ray.tune.reports import STATE, Reports, folders_of

NO_DATA: Any = None


def local(folder: Path) -> tuple[pyarrow.fs.FileSystem, str]:
    return pyarrow.fs.LocalFileSystem(), str(folder)


def remote(folder: Path) -> tuple[pyarrow.fs.FileSystem, str]:
    """An object store without folders, as a bucket is."""
    memory = fsspec.filesystem("memory")
    for file in folder.rglob(STATE):
        memory.pipe(f"/bucket/{file.relative_to(folder)}", file.read_bytes())
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(memory)), "/bucket"


@pytest.fixture(params=[local, remote], ids=["local", "remote"])
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path):
    """Saves states of these steps, damages some, and gives the newest."""

    def make(*damaged: int) -> tune.Checkpoint:
        for step in range(4):
            folder = tmp_path / f"checkpoint_{step:06d}"
            save_state({"step": step, "weights": torch.rand(100)}, folder / STATE)
            if step in damaged:
                whole = (folder / STATE).read_bytes()
                (folder / STATE).write_bytes(whole[: len(whole) // 2])
        filesystem, place = request.param(tmp_path)
        # the last one was saved after the newest that was registered, and must not be taken for it
        return tune.Checkpoint(f"{place}/checkpoint_000002", filesystem)

    return make


class Sent(list):
    """Takes reports."""

    def __call__(self, metrics: dict[str, Any], checkpoint: tune.Checkpoint | None = None) -> None:
        self.append(metrics | {"saved": checkpoint is not None})


@pytest.mark.parametrize(
    ("damaged", "newer", "step", "notice"),
    [
        ((), True, 2, None),
        ((2,), True, 1, "checkpoint_000002 cannot be read ({}); goes on from checkpoint_000001 instead"),
        ((2, 1), True, 0, "checkpoint_000002 .*; checkpoint_000001 .*; goes on from checkpoint_000000 instead"),
        ((2, 1, 0), True, 3, "checkpoint_000002 .*; checkpoint_000000 .*; goes on from checkpoint_000003 instead"),
        ((2, 1, 0), False, None, "checkpoint_000002 .*checkpoint_000000 [^;]*; no other checkpoint .*, begins anew"),
        ((2, 1, 0, 3), True, None, "checkpoint_000002 .*checkpoint_000003 .*; no other checkpoint .*, begins anew"),
    ],
)
def test_the_newest_checkpoint_that_can_be_read_is_loaded(checkpoints, damaged, newer, step, notice) -> None:
    """Older ones before newer ones, which only a driver that was killed does not know of."""
    sent = Sent()
    named = checkpoints(*damaged)
    reports = Reports(lambda: named, sent, newer=newer)
    state = reports.load()
    assert (None if state is None else state["step"]) == step
    reports.report({"finished": False})
    reports.report({"finished": False})
    assert "notice" not in sent[1]
    if notice is None:
        assert "notice" not in sent[0]
    else:
        reason = "is truncated, damaged, or no file of irnas_ray"
        pattern = notice.replace("{}", reason).replace("(", r"\(").replace(")", r"\)")
        assert re.fullmatch(pattern, sent[0]["notice"]), sent[0]["notice"]


@pytest.mark.parametrize("perturb_every", [None, 5])
def test_only_the_trials_of_a_population_do_without_newer_checkpoints(
    monkeypatch: pytest.MonkeyPatch, perturb_every: int | None
) -> None:
    seen: list[Reports] = []
    monkeypatch.setattr(trial, "pulse_of_trial", lambda minutes: None)
    monkeypatch.setattr(trial, "note_parameters", lambda config: None)
    monkeypatch.setattr(trial, "_search", lambda config, study, data, reports: seen.append(reports))
    trial.run_trial({"seed": 0}, with_values(StudyConfig(), {"tune.perturb_every": perturb_every}), NO_DATA)
    assert seen[0].newer == (perturb_every is None)


def test_a_checkpoint_that_is_gone_is_like_a_damaged_one(tmp_path: Path) -> None:
    save_state({"step": 1}, tmp_path / "checkpoint_000001" / STATE)
    reports = Reports(lambda: tune.Checkpoint(str(tmp_path / "checkpoint_000002")))
    assert reports.load() == {"step": 1}
    assert Reports(lambda: None).load() is None


def test_without_a_checkpoint_of_its_own_a_run_goes_on_from_those_that_it_replaces(tmp_path: Path) -> None:
    for place, step in (("first", 1), ("first", 2), ("second", 3)):
        save_state({"step": step}, tmp_path / place / f"checkpoint_00000{step}" / STATE)
    left = [({"seed": 1}, str(tmp_path / "first")), ({"seed": 2}, "other"), ({"seed": 1}, str(tmp_path / "second"))]
    folders = folders_of({"seed": 1}, left)
    sent = Sent()
    reports = Reports(lambda: None, sent, left=folders)
    assert reports.load() == {"step": 3}
    reports.report({"epoch": 4})
    assert sent[-1]["notice"] == "goes on from checkpoint_000003 of the trial that it replaces"
    (tmp_path / "second" / "checkpoint_000003" / STATE).write_bytes(b"")
    assert Reports(lambda: None, left=folders).load() == {"step": 2}
    own = Reports(lambda: tune.Checkpoint(str(tmp_path / "first" / "checkpoint_000001")), left=folders)
    assert own.load() == {"step": 1}


class Full:
    """A storage whose disk is full for the next so many checkpoints."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, times: int) -> None:
        self.sent, self.times, self.files = Sent(), times, []  # type: ignore[var-annotated]
        self.folder = tmp_path / "checkpoint_000007"
        storage = SimpleNamespace(storage_filesystem=pyarrow.fs.LocalFileSystem(), checkpoint_fs_path=str(self.folder))
        monkeypatch.setattr(tune, "get_context", lambda: SimpleNamespace(get_storage=lambda: storage))
        monkeypatch.setattr(reporting, "AGAIN", 0.01)

    def __call__(self, metrics: dict[str, Any], checkpoint: tune.Checkpoint | None = None) -> None:
        if checkpoint is not None and self.times:
            self.times -= 1
            self.folder.mkdir()
            (self.folder / "half").touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        if checkpoint is not None:
            self.files.append(sorted(path.name for path in Path(checkpoint.path).iterdir()))
        self.sent(metrics, checkpoint)


def test_a_checkpoint_that_does_not_fit_costs_no_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full = Full(monkeypatch, tmp_path, times=1)
    reports = Reports(send=full)
    reports.notice("said before")
    for epoch in (1, 2):
        reports.report({"epoch": epoch, "finished": False}, {"step": epoch})
    assert [(report["epoch"], report["saved"]) for report in full.sent] == [(1, False), (2, True)]
    assert full.sent[0]["notice"].startswith("said before; its checkpoint cannot be saved (No space left on device);")
    assert "notice" not in full.sent[1] and not full.folder.exists()


def test_the_last_report_waits_for_space_and_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full, beats = Full(monkeypatch, tmp_path, times=3), []
    pulse: Any = lambda: beats.append(1)  # noqa: E731
    Reports(send=full, pulse=pulse).report({"finished": True}, {}, lambda folder: (folder / "network.pt").touch())
    assert [(report["finished"], report["saved"]) for report in full.sent] == [(False, False), (True, True)]
    assert "waits up to 10 minutes for space" in full.sent[0]["notice"] and "notice" not in full.sent[1]
    assert full.files == [["network.pt", STATE]] and len(beats) == 3


@pytest.mark.parametrize("finished", [False, True])
def test_a_worker_without_space_of_its_own_keeps_the_last_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finished: bool
) -> None:
    """Ray's path is that of the last checkpoint until a report with the next one is begun."""
    full, written = Full(monkeypatch, tmp_path, times=0), []
    full.folder.mkdir()
    temporary = reporting.tempfile.TemporaryDirectory
    attempts = iter([OSError(errno.ENOSPC, "No space left on device"), None])

    def make_folder(**keywords: Any) -> Any:
        if (error := next(attempts)) is not None:
            raise error
        return temporary(**keywords)

    def write(folder: Path) -> None:
        written.append(folder)
        if len(written) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reporting.tempfile, "TemporaryDirectory", make_folder)
    Reports(send=full).report({"finished": finished}, {}, write if finished else None)
    assert full.folder.exists() and "cannot be saved (No space left on device)" in full.sent[0]["notice"]
    assert [report["saved"] for report in full.sent] == ([False, True] if finished else [False])
    assert len(written) == (2 if finished else 0) and not any(folder.exists() for folder in written)


def test_what_is_written_is_not_written_again_for_each_attempt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full, written = Full(monkeypatch, tmp_path, times=3), []
    Reports(send=full).report({"finished": True}, {}, written.append)
    assert len(written) == 1 and full.sent[-1]["saved"] and not written[0].exists()


def test_patience_with_a_full_disk_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full = Full(monkeypatch, tmp_path, times=10**6)
    with pytest.raises(OSError, match="the results cannot be saved, for 0.002 minutes now: No space left on device"):
        Reports(send=full, patience=0.002).report({"finished": True}, {})


def test_one_of_several_workers_does_not_repeat_a_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full = Full(monkeypatch, tmp_path, times=1)
    with pytest.raises(OSError, match="No space left on device"):
        Reports(send=full, alone=False).report({"finished": False}, {})
    assert full.sent == []


def test_divided_batches_are_told_once() -> None:
    sent = Sent()
    reports = Reports(send=sent)
    assert reports.divided(None, 12) == reports.divided(12, 12) == {}
    for _ in range(2):
        reports.report({"epoch": 1, **reports.divided(6, 12)})
    assert [report.get("notice") for report in sent] == [
        "12 images do not fit into memory: each batch of them goes in parts of 6",
        None,
    ]
    assert [report["micro_batch"] for report in sent] == [6, 6]


def test_giving_up_repeats_what_was_reported_last() -> None:
    sent = Sent()
    reports = Reports(send=sent)
    reports.report({"epoch": 3, "psnr": 20.0, "finished": False}, None)
    reports.fail(FloatingPointError("the loss became nan"), {"epoch": 4})
    last = {"epoch": 4, "psnr": 20.0, "error": "the loss became nan", "finished": False, "saved": False}
    assert sent[-1] == last
