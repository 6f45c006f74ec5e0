"""What the user hears when Tune cannot save its record."""

import errno
import logging

import pytest

from irnas_ray.cluster.connection import quiet
from irnas_ray.tune import unsaved_state
from irnas_ray.tune.internals import RECORD_LOGGERS
from irnas_ray.tune.unsaved_state import unsaved_state_told

TRACE = "Traceback (most recent call last):\n  File\nOSError: [Errno 28] Error writing bytes: No space left on device"


def test_a_record_that_cannot_be_copied_is_told_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet()
    told: list[str] = []
    now = [0.0]
    monkeypatch.setattr(unsaved_state.time, "monotonic", lambda: now[0])
    with unsaved_state_told(told.append):
        for now[0] in (0.0, 30.0, 61.0):
            logging.getLogger(RECORD_LOGGERS[0]).warning(f"Last sync command failed with the following error:\n{TRACE}")
        logging.getLogger(RECORD_LOGGERS[1]).warning("Saving the experiment state has already taken 31.00 seconds")
    assert len(told) == 2
    assert told[0].startswith("where the trials stand cannot be saved (OSError: [Errno 28] ")
    logging.getLogger(RECORD_LOGGERS[0]).warning(f"Last sync command failed with the following error:\n{TRACE}")
    assert len(told) == 2


def test_a_full_disk_is_one_line_however_tune_wraps_it() -> None:
    def fail(wrapped: bool) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/tmp/ray/result.json")
        except OSError as error:
            raise (RuntimeError(f"Traceback:\n{TRACE}\n") if wrapped else error)  # noqa: B904

    for wrapped in (False, True):
        with pytest.raises(OSError, match="cannot note where .*No space left on device.*resume=true") as caught:
            with unsaved_state_told(lambda text: None):
                fail(wrapped)
        assert "\n" not in str(caught.value)
    with pytest.raises(KeyError), unsaved_state_told(lambda text: None):
        raise KeyError("other")
