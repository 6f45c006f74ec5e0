"""A command outlives what it writes to: a pipe without a reader, a terminal that is gone."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from command_line_cases import ROOT

#: Says more than a pipe or a terminal holds, then notes that it came to its end.
PROGRAM = """
import pathlib, sys
from irnas_ray.cli.output import lasting_output
with lasting_output():
    print("first", flush=True)
    sys.stdin.readline()
    for _ in range(20_000):
        print("a line that nobody reads")
        print("nor this one", file=sys.stderr)
    pathlib.Path(sys.argv[1]).write_text("done")
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def test_a_run_goes_on_without_its_reader(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "end")]
    running = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert running.stdin and running.stdout and running.stderr
    assert running.stdout.readline() == b"first\n"
    running.stdout.close()
    running.stderr.close()
    running.stdin.close()
    assert running.wait(120) == 0 and (tmp_path / "end").read_text() == "done"


def test_a_run_goes_on_without_its_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "end")]
    # a session of its own: it is not told by a signal, only its writing fails
    running = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, env=environment(), start_new_session=True
    )
    os.close(theirs)
    assert os.read(ours, 5) == b"first" and running.stdin
    os.close(ours)
    running.stdin.close()
    assert running.wait(120) == 0 and (tmp_path / "end").read_text() == "done"


def test_help_into_a_pipe_that_is_closed_says_nothing() -> None:
    line = f"{sys.executable} -m irnas_ray search --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 0 and not done.stderr and len(done.stdout.splitlines()) == 1
