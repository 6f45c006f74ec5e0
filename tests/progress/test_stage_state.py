"""What a user sees of running trials: one state, shown as lines in a log and as a table in a terminal."""

import io
import pickle
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from irnas_ray.hpo.replicate import TrialNames
from irnas_ray.progress.callback import PlainLines, StageProgress
from irnas_ray.progress.live_table import LiveTable, table
from irnas_ray.progress.stage_state import StageState, time_left


def trial(name: str, status: str = "RUNNING", **last: Any) -> Any:
    """As much of a Tune trial as is read."""
    return SimpleNamespace(
        trial_id=name, status=status, last_result=last, config={"architecture.nodes": 3, "seed": 1}, error_file=None
    )


def trials() -> list[Any]:
    return [
        trial("a", "TERMINATED", finished=True, score=24.0, epoch=10, progress="end", fraction=1.0),
        trial("b", "TERMINATED", score=20.0, epoch=3, progress="epoch 3/9", fraction=0.3),
        trial("c", "RUNNING", score=25.5, epoch=4, progress="epoch 4/9", fraction=0.4),
        trial("d", "ERROR", score=19.0, epoch=1, progress="epoch 1/9", fraction=0.1),
        trial("e", "PENDING"),
    ]


@pytest.fixture
def state() -> StageState:
    found = StageState("search", 8, "score", rungs=[3, 9])
    found.read(trials())
    return found


def test_states_rungs_and_the_best(state: StageState) -> None:
    assert [state.view(one).state for one in trials()] == ["finished", "stopped early", "running", "failed", "waiting"]
    assert [state.view(one).rung for one in trials()] == [2, 1, 1, 0, 0]
    # the third has 25.5 dB, but as a supernet; only the first has a score that it ended with
    assert (state.best, state.best_name) == (24.0, "0")
    first, second = state.rung_views(trials())
    assert (first.epoch, first.reached, first.stopped) == (3, 3, 1)
    assert (second.epoch, second.reached, second.stopped) == (9, 1, 0)


def test_before_one_has_finished_the_best_is_the_best_on_the_way() -> None:
    state = StageState("search", 2, "score")
    one, two = trial("a", score=20.0), trial("b", score=25.0)
    state.read([one, two])
    two.last_result = {"score": 22.0}
    state.read([one, two])
    assert (state.best, state.best_name) == (25.0, "1")
    # its proxy's score is no point of the supernet's curve
    one.status, one.last_result = "TERMINATED", {"score": 18.0, "finished": True}
    state.read([one, two])
    assert (state.best, state.best_name) == (18.0, "0")


def test_what_is_interrupted_has_not_ended(capsys: pytest.CaptureFixture[str]) -> None:
    """Tune terminates what a Ctrl-C stops, as it does what the rungs stop; only the latter is over."""
    state = StageState("search", 3, "score", rungs=[3])
    three = [trial("a", "TERMINATED", epoch=3), trial("b", score=20.0, epoch=4), trial("c", "PENDING")]
    state.read(three)
    state.interrupt(three)
    three[1].status = "TERMINATED"
    assert [state.view(one).state for one in three] == ["stopped early", "interrupted", "waiting"]
    assert state.rung_views(three)[0].stopped == 1


def test_values_of_one_last_name_keep_their_whole_keys(state: StageState) -> None:
    one = trial("a")
    one.config = {"search.batch": 4, "final.batch": 8, "search.arch_lr": 0.012345678}
    assert state.view(one).configuration == "search.batch=4, final.batch=8, arch_lr=0.01235"


def test_the_time_left_is_that_of_this_run() -> None:
    """What an earlier run has done says nothing about this one's pace; trials that are over count whole."""
    state = StageState("search", 4, "score")
    restored = [trial("a", "TERMINATED", finished=True, fraction=1.0), trial("b", fraction=0.5)]
    state.begin()
    state.read(restored)
    assert state.remaining(restored) is None
    state._start = time.time() - 10
    restored[1].last_result["fraction"] = 0.75
    assert state.remaining(restored) == pytest.approx(10 / 0.25 * 2.25, rel=0.01)
    assert time_left(10 / 0.25 * 2.25) == "about 90 s left" and time_left(3 * 3600) == "about 3.0 h left"


def drawn(width: int, height: int, state: StageState, all_trials: list[Any]) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None, force_terminal=False)
    console.print(table(state, all_trials, height))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_table_shows_every_trial(state: StageState) -> None:
    lines = drawn(100, 30, state, trials())
    assert "3 of 8 ended  best 24.00 dB (trial 0)" in lines[0]
    assert lines[1].split()[:3] == ["trial", "state", "at"]
    assert lines[4].split() == ["2", "running", "epoch", "4/9", "25.50", "1/2", "nodes=3,", "seed=1"]
    assert lines[-1] == "rungs  epoch 3: 3 came, 1 stopped | epoch 9: 1 came, 0 stopped"


def test_a_table_never_outgrows_its_terminal() -> None:
    """Two hundred trials on 24 lines: those that run are shown, the best of the others too, and how many are not."""
    many = [trial(str(i), "TERMINATED", finished=True, score=float(i), progress="end") for i in range(200)]
    many += [trial("runs", "RUNNING", score=0.5, progress="epoch 1/9")]
    state = StageState("search", 400, "score")
    state.read(many)
    lines = drawn(60, 24, state, many)
    assert len(lines) < 24 and max(map(len, lines)) <= 60
    assert any(line.startswith("200 ") and "running" in line for line in lines)
    assert any("199.00" in line for line in lines) and not any(" 3.00" in line for line in lines)
    assert lines[-1] == "... and 186 more"


def test_messages_stay_above_the_live_table(state: StageState) -> None:
    console = Console(file=io.StringIO(), width=80, height=24, color_system=None, force_terminal=True)
    live = LiveTable(state, console)
    live.refresh(trials())
    live.event("a line that the table replaces")
    live.message("[search 00:01] trial 3: failed: [1;2] is no list")
    live.refresh(trials(), now=True)
    live.close()
    live.close()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "replaces" not in text and text.count("[search 00:01] trial 3: failed: [1;2] is no list") == 1
    assert text.count("3 of 8 ended") >= 2 and text.rfind("3 of 8 ended") > text.find("failed: [1;2]")
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def follow(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_lines_tell_each_thing_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Where standard output is no terminal: starts, reports, notices, early stops and failures, a line each."""
    progress = StageProgress("search", 2, "score", names=TrialNames(3, 2))
    one, two = trial("a"), trial("b")
    one.config["seed"], two.config["seed"] = 11, 12
    both = [one, two]
    progress.setup()
    progress.on_trial_start(0, both, one)
    progress.on_trial_start(0, both, one)
    report = {"score": 21.0, "epoch": 1, "progress": "epoch 1/9", "fraction": 0.1, "notice": "a smaller batch"}
    progress.on_trial_result(1, both, one, report)
    one.last_result = report
    progress.on_trial_result(2, both, one, report | {"score": 20.0, "epoch": 2, "progress": "epoch 2/9"})
    progress.on_trial_result(3, both, two, report | {"score": 19.0})
    progress.on_trial_complete(4, both, one)
    progress.on_trial_error(4, both, two)
    two.last_result = report | {"finished": True}
    progress.on_trial_result(5, both, two, two.last_result | {"score": 18.0})
    progress.on_experiment_end(both)
    lines = [line.split("] ", 1)[1] for line in follow(capsys)]
    first, second = "trial 4-0: ", "trial 4-1: "
    assert lines[0] == f"{first}starts with nodes=3, seed=11"
    assert lines[1] == f"{first}a smaller batch"
    assert lines[2].startswith(f"{first}epoch 1/9  21.00 dB  best 21.00  0 of 2 ended")
    assert lines[3].startswith(f"{first}epoch 2/9  20.00 dB  best 21.00  0 of 2 ended  about")
    assert lines[4] == f"{second}a smaller batch" and lines[5].startswith(f"{second}epoch 1/9  19.00 dB  best 21.00")
    assert lines[6:8] == [f"{first}stopped early at epoch 1/9", f"{second}failed: no message"]
    assert lines[8].startswith(f"{second}finished  18.00 dB") and "  1 of 2 ended" in lines[8]


def test_a_progress_that_was_kept_looks_for_its_own_terminal() -> None:
    """Tune keeps callbacks in a file; a study that was begun in a terminal may be continued in a job."""
    progress = StageProgress("finals", 3, "psnr", rungs=[2], names=TrialNames(3, 1))
    assert isinstance(progress.view, PlainLines)
    kept = pickle.loads(pickle.dumps(progress))
    assert kept._view is None and kept.trials == 3 and kept.state.rungs == (2,) and kept.state.stage == "finals"
    assert kept.state.name(trial("a")) == progress.state.name(trial("a"))
