"""How far work is, is a bar in a terminal and a few plain lines in a log."""

import os
import pty
import subprocess
import sys

import pytest

PROGRAM = """
import time
from irnas_ray.system.progress_bar import progress_bar

with progress_bar("prepare") as progress:
    for done in range({count} + 1):
        progress(done, {count})
    time.sleep(0.5)
"""


def shown(count: int, **environment: str) -> str:
    """What a program that works on so many images writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm"} | environment
    subprocess.run([sys.executable, "-c", PROGRAM.format(count=count)], stderr=theirs, env=environment, timeout=300)
    os.close(theirs)
    text = b""
    # a terminal whose other end is closed gives an error where a file would end
    while chunk := _read(ours):
        text += chunk
    os.close(ours)
    return text.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 2**16)
    except OSError:
        return b""


def test_a_terminal_shows_a_bar_that_is_gone_afterwards():
    text = shown(300, COLUMNS="100")
    assert "prepare" in text and "300/300" in text and "━" in text and "of 300 images" not in text
    # the cursor comes back, and the line of the bar is erased last
    assert "\x1b[?25h" in text and text.rindex("\x1b[2K") > text.rindex("300/300")


@pytest.mark.parametrize(("count", "lines"), [(300, 10), (200, 10), (199, 0)])
def test_a_log_gets_a_few_lines(count, lines):
    # colours that are forced upon programs make a log no terminal
    environment = os.environ | {"FORCE_COLOR": "1"}
    program = [sys.executable, "-c", PROGRAM.format(count=count)]
    said = subprocess.run(program, stderr=subprocess.PIPE, text=True, env=environment, timeout=300).stderr
    assert said.splitlines() == [f"prepare: {count * tenth // 10} of {count} images" for tenth in range(1, lines + 1)]


def test_a_terminal_that_cannot_move_its_cursor_gets_lines():
    assert shown(300, TERM="dumb").splitlines()[-1] == "prepare: 300 of 300 images"
