"""A study in a real terminal: what Ctrl-C does in each stage, how it goes on, and what scripts are told at the end."""

import fcntl
import json
import os
import re
import shlex
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import optuna
import pytest
from event_files import values
from study_cases import TINY, command, environment

pytestmark = pytest.mark.whole

#: The second value makes the loss NaN, so that a trial fails for good.
LOSSY = [
    *TINY,
    "domains.search.ssim_weight=null",
    "domains.search.weight_lr=[0.025,1e30]",
    "search.gradient_clip=null",
    "search.epochs=4",
    "tune.sampler=random",
    "tune.trials=3",
    "tune.max_failures=0",
    "final.count=1",
    "final.steps=120",
    "final.validate_every=10",
    "study=s",
]
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, words: list[str], cwd: Path) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x28\x00\x78\x00\x00\x00\x00\x00")  # 40 lines of 120
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            words,
            cwd=cwd,
            env={**environment(), "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),
        )
        self.text = ""
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(400)

    def _read(self) -> None:
        while True:
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                return

    def wait_for(self, folder: Path, pattern: str, timeout: float = 400) -> None:
        deadline = time.time() + timeout
        while not list(folder.glob(pattern)):
            assert self.process.poll() is None and time.time() < deadline, self.text
            time.sleep(0.05)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait(self, timeout: float = 400) -> int:
        status = self.process.wait(timeout)
        time.sleep(0.2)  # what it wrote last is still to be read
        assert termios.tcgetattr(self.slave) == self.before
        assert self.text.rfind(SHOWN) > self.text.rfind(HIDDEN)
        os.close(self.slave)
        os.close(self.master)
        return status

    @property
    def lines(self) -> list[str]:
        """What was written, without the sequences that move the cursor or colour."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.text).replace("\r", "\n").splitlines()


def continued(terminal: Terminal) -> list[str]:
    """The command that the study told its user to type."""
    told = terminal.lines[next(i for i, line in enumerate(terminal.lines) if "continue with" in line) + 1 :]
    return shlex.split(" ".join(line.strip() for line in told if line.strip()))


@pytest.mark.timeout(1800)
def test_ctrl_c_in_each_stage_and_a_trial_that_fails(tmp_path: Path) -> None:
    """Stops cleanly, says how to continue, keeps every trial; at the end status 4, as a trial has failed."""
    folder = tmp_path / "results" / "s"
    with Terminal(command("search", *LOSSY), tmp_path) as search:
        search.wait_for(folder, "trials/round-1/*/checkpoint_00000[0-9]")
        search.type(b"\x03")
        assert search.wait() == 130, search.text
    assert any("stopping" in line for line in search.lines), search.text
    words = continued(search)
    assert words == [sys.executable, *command("search", *LOSSY, "resume=true")[1:]]
    begun = {path.parent.name for path in folder.glob("trials/round-1/*/result.json")}

    with Terminal(words, tmp_path) as finals:
        finals.wait_for(folder, "trials/finals-*/*/checkpoint_00000[0-9]")
        finals.type(b"\x03")
        assert finals.wait() == 130, finals.text
    assert continued(finals) == words
    # whether the trial fails before or after the first interruption is a matter of the machine
    told = search.lines + finals.lines
    assert any("failed: " in line and "the loss became" in line for line in told), search.text + finals.text
    assert any(line.startswith("search ") and "3 of 3 ended" in line for line in finals.lines)
    ended = json.loads((folder / "trials" / "records.json").read_text())
    assert begun <= {record["id"] for record in ended}

    last = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600)
    assert last.returncode == 4, last.stdout + last.stderr
    assert "failed; resume=true makes up for them" in last.stderr and "Traceback" not in last.stderr
    assert "\x1b" not in last.stdout and "[finals " in last.stdout
    summary = json.loads((folder / "summary.json").read_text())
    assert {trial["id"] for trial in ended} <= {trial["id"] for trial in summary["trials"]}
    assert len(summary["finals"]) == 1
    # told once each: what Tune ran, what the summary lists, what the Optuna study holds
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder / 'study.db'}")
    assert len(study.trials) == len(summary["trials"])
    states = {trial.state.name for trial in study.trials}
    assert states == {"COMPLETE", "FAIL"}
    # a trial's curves are whole, before and after the interruption; the last report is that of the proxy
    for trial in (trial for trial in summary["trials"] if trial["state"] == "COMPLETE"):
        (place,) = folder.glob(f"trials/round-*/{trial['id']}/trial-{trial['name']}")
        for name, points in {"loss": {1, 2}, "arch_loss": {1, 2}, "score": {1, 2, 3}, "psnr": {1, 2, 3}}.items():
            assert {step for step, _ in values(place, f"ray/tune/{name}")} == points, name
