"""Runs of Tune that were cut off: what a killed driver leaves behind is continued, or run again without what ended."""

import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle, tune
from study_cases import wait_for

from irnas_ray.progress.callback import StageProgress
from irnas_ray.system.urls import absolute, join, split
from irnas_ray.tune.authorship import read_marks
from irnas_ray.tune.run_storage import ended_trials, trial_folders, why_over
from irnas_ray.tune.runner import Run, find_run, fit

STEPS = 3
# workers cannot import this file
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def count(config: dict[str, Any]) -> None:
    """Count to STEPS with a checkpoint at each; trials over 1 die at their second step until the gate is open."""
    checkpoint = tune.get_checkpoint()
    start = 0
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            start = int((Path(folder) / "step").read_text())
    for step in range(start + 1, STEPS + 1):
        if step == 2 and config["value"] > 1 and not Path(config["gate"]).exists():
            raise RuntimeError("died")
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "step").write_text(str(step))
            metrics = {"step": step, "started": start, "progress": f"{step}", "finished": step == STEPS}
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def run_all(
    run: Run, values: list[int], gate: Path, max_failures: int = 0, then: Sequence[tune.Callback] = ()
) -> dict[int, dict[str, Any]]:
    """The last report of each trial; one after the other where ``then`` says what follows."""
    space = {"value": tune.grid_search(values), "gate": str(gate)}
    progress = StageProgress("count", len(values), "step")
    results = fit(
        count,
        run,
        {"cpu": 0.5, "gpu": 0.0},
        progress,
        max_failures=max_failures,
        param_space=space,
        concurrent=1 if then else None,
        loggers=then,
    )
    return {result.config["value"]: result.metrics | {"failed": result.error is not None} for result in results}


@pytest.fixture(scope="module")
def died(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which trial 1 finished and trials 2 and 3 died after their first step."""
    place = tmp_path_factory.mktemp("died") / "run"
    found = run_all(find_run(str(place)), [1, 2, 3], place.parent / "gate")
    assert {value: (last["step"], last["failed"]) for value, last in found.items()} == {
        1: (3, False),
        2: (1, True),
        3: (1, True),
    }
    return place


@pytest.fixture
def place(died: Path, tmp_path: Path) -> Path:
    """A copy of that run, and an open gate: what is tried again succeeds."""
    (died.parent / "gate").touch()
    return Path(shutil.copytree(died, tmp_path / "run"))


def read_back(folder: str) -> tune.Result:
    return tune.Result.from_path(folder)


def newest(place: Path, pattern: str) -> Path:
    return max(place.glob(pattern))


@pytest.mark.whole
def test_an_empty_tuner_file_does_not_matter(died: Path, place: Path) -> None:
    (place / "tuner.pkl").write_bytes(b"")
    run = find_run(str(place))
    assert run == Run(str(place), begun=True)
    found = run_all(run, [1, 2, 3], died.parent / "gate")
    assert {value: (last["started"], last["step"]) for value, last in found.items()} == {
        1: (0, 3),
        2: (1, 3),
        3: (1, 3),
    }


@pytest.mark.whole
def test_a_continued_run_has_its_own_patience_and_what_recovered_has_ended(place: Path, died: Path) -> None:
    """A file of the error stays beside the reports of a trial that recovered from it."""
    gate = place.parent / "later"

    def open_gate() -> None:
        wait_for(lambda: any(error.read_text().count("died") > 1 for error in place.glob("*/error.txt")))
        gate.touch()

    opener = threading.Thread(target=open_gate)
    opener.start()
    found = run_all(find_run(str(place)), [1, 2, 3], gate, max_failures=50)
    opener.join()
    assert {value: (last["step"], last["failed"]) for value, last in found.items()} == dict.fromkeys(
        (1, 2, 3), (3, False)
    )
    assert list(place.glob("*/error.pkl")) and len(ended_trials(str(place))) == 3


def test_trials_are_kept_that_are_known_to_have_ended(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest(place, "experiment_state-*.json").write_bytes(b"")
    known = {result.config["value"]: Path(result.path).name for result in map(read_back, trial_folders(str(place)))}
    run = find_run(str(place), {known[2], "of another run"})
    assert "2 of 3 trials had ended and are kept" in capsys.readouterr().out
    assert run.kept == {known[1], known[2]} and [result.config["value"] for result in run.ended] == [1]


@pytest.mark.whole
@pytest.mark.parametrize("pattern", ["experiment_state-*.json", "basic-variant-state-*.json"])
@pytest.mark.parametrize("keep", [0, 0.5])
def test_where_tune_cannot_continue_only_what_had_not_ended_is_begun_anew(
    place: Path, pattern: str, keep: float, capsys: pytest.CaptureFixture[str]
) -> None:
    record = newest(place, pattern)
    content = record.read_bytes()
    record.write_bytes(content[: int(len(content) * keep)])
    before = sorted(path.name for path in place.iterdir())
    run = find_run(str(place))
    said = capsys.readouterr().out
    assert (
        "1 of 3 trials had ended and are kept, the others go on from what they had saved" in said and str(place) in said
    )
    assert (run.place, run.begun) == (f"{place}-again-2", False)
    assert [result.config["value"] for result in run.ended] == [1]
    assert run.ended[0].metrics["step"] == STEPS and run.ended[0].checkpoint is not None
    if keep:
        return
    found = run_all(run, [2, 3], place.parent / "gate")
    assert {value: last["started"] for value, last in found.items()} == {2: 0, 3: 0}
    assert sorted(path.name for path in place.iterdir()) == before
    # a later driver finds both, and has nothing left to do
    again = find_run(str(place))
    assert again.begun and again.place == run.place and len(again.ended) == 1


def test_of_a_full_disk_is_said_what_it_may_have_done(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trials whose last step is saved, but not the report of it, are not called lost."""
    newest(place, "experiment_state-*.json").write_bytes(b"")
    for result in map(read_back, trial_folders(str(place))):
        reports = Path(result.path) / "result.json"
        reports.write_text("".join(reports.read_text().splitlines(keepends=True)[:1]))
        if result.config["value"] == 1:
            (max(Path(result.path).glob("checkpoint_*")) / "last.pt").touch()
    find_run(str(place), trusted=False)
    said = capsys.readouterr().out
    assert "is damaged, because its driver was killed while it wrote, or its disk was full; " in said
    assert "0 of 3 trials had ended and are kept, the others go on from what they had saved, 1 of them after" in said


class Code:
    """What runs when it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.ran,)


def test_a_copy_of_ones_own_run_is_continued(place: Path) -> None:
    assert len(read_marks(str(place))) == 4  # a state of the experiment and of its variants, two errors
    assert find_run(str(place), trusted=False) == Run(str(place), begun=True)


@pytest.mark.parametrize(
    "pattern", ["experiment_state-*.json", "basic-variant-state-*.json", "*/error.pkl", "marks.json"]
)
def test_what_others_wrote_is_not_unpickled(place: Path, pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All that had ended is kept, and the rest goes on from its checkpoints, without the record."""
    file, ran = newest(place, pattern), place.parent / "ran"
    if pattern == "marks.json":
        file.unlink()
    else:
        code = cloudpickle.dumps(Code(ran))
        stored = json.dumps({"_type": "CLOUDPICKLE_FALLBACK", "value": code.hex()})
        file.write_bytes(stored.encode() if pattern.startswith("experiment") else code)
    run = find_run(str(place), trusted=False)
    said = capsys.readouterr().out
    assert "can run code, and it was not written by you" in said and "trust=true reads it" in said
    assert "1 of 3 trials had ended and are kept, the others go on from what they had saved" in said
    assert (run.place, run.begun, len(run.left)) == (f"{place}-again-2", False, 2) and not ran.exists()
    if pattern.startswith("experiment"):
        # what is refused is no empty threat
        find_run(str(place), trusted=True)
        assert ran.exists()


def test_a_key_of_another_user_is_another(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert not find_run(str(place), trusted=False).begun
    key = tmp_path / "other" / "irnas_ray" / "key"
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_text()) == 64
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/dev/null")
    assert not find_run(str(place), trusted=False).begun


def test_a_run_that_never_began_is_begun_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tuner.pkl").touch()
    for place in (tmp_path / "run", tmp_path / "other"):
        assert find_run(str(place)) == Run(str(place), begun=False)


def test_a_report_that_was_cut_off_is_no_end(place: Path) -> None:
    assert why_over(str(place)) is None and len(trial_folders(str(place))) == 3
    (finished,) = ended_trials(str(place))
    reports = Path(finished.path) / "result.json"
    lines = reports.read_text().splitlines()
    assert json.loads(lines[-1])["finished"]
    for left in (lines[-1][:50], "\n".join([*lines[:-1], lines[-1][:50]]), ""):
        reports.write_text(left)
        assert list(Path(finished.path).glob("checkpoint_*")) and ended_trials(str(place)) == []


@pytest.mark.whole
def test_a_run_can_lie_behind_a_url(ray_local: None, tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    url = join(f"file://{tmp_path}", "study", "run")
    assert run_all(find_run(url), [1], tmp_path / "gate")[1]["step"] == STEPS
    assert (tmp_path / "study" / "run" / "tuner.pkl").exists()
    assert find_run(url) == Run(url, begun=True) and len(ended_trials(url)) == 1


def test_paths_and_urls() -> None:
    assert join("s3://bucket/a?endpoint_override=x:1", "b", "c") == "s3://bucket/a/b/c?endpoint_override=x:1"
    assert join("s3://bucket", "b") == "s3://bucket/b"
    assert split("s3://bucket/a/b?region=x") == ("s3://bucket/a?region=x", "b")
    # what a URL was before names were escaped in it stays the same
    assert join("s3://bucket", "a=1,b (2)+c@d~'e!*;$f&g:h", "i").replace("%20", " ") == (
        "s3://bucket/a=1,b (2)+c@d~'e!*;$f&g:h/i"
    )
    assert join("s3://bucket", "a%20b?c#d") == "s3://bucket/a%2520b%3Fc%23d"
    assert split("s3://bucket/x/a%2520b%3Fc%23d") == ("s3://bucket/x", "a%20b?c#d")
    assert join("/disk/a://b", "c?d") == "/disk/a:/b/c?d" and split("/disk/a:b/c?d") == ("/disk/a:b", "c?d")
    assert join("/disk/a", "b") == "/disk/a/b" and split("/disk/a/b") == ("/disk/a", "b")
    assert absolute("s3://bucket/a") == "s3://bucket/a" and absolute("a") == str(Path.cwd() / "a")


def lose(config: dict[str, Any]) -> None:
    """Lose the newest checkpoint and die at the second step, and go on from the first."""
    named = tune.get_checkpoint()
    lost = named is not None and not Path(named.path).exists()
    for step in range(2 if lost else 1, STEPS + 1):
        if step == STEPS and not lost:
            assert named is not None
            shutil.rmtree(named.path)
            raise RuntimeError("died")
        with tempfile.TemporaryDirectory() as folder:
            metrics = {"step": step, "lost": lost, "progress": f"{step}", "finished": step == STEPS}
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))
        named = tune.get_checkpoint()


@pytest.mark.whole
def test_a_trial_is_started_again_though_its_checkpoint_is_gone(ray_local: None, tmp_path: Path) -> None:
    """Its function is told which one it was, and looks for another."""
    progress = StageProgress("lose", 1, "step")
    (result,) = fit(lose, find_run(str(tmp_path / "run")), {"cpu": 0.5}, progress, max_failures=1, param_space={})
    assert result.error is None
    assert (result.metrics["step"], result.metrics["lost"]) == (STEPS, True)
