"""Tune's record of where its trials stand: the user is told when a full disk keeps Tune from writing it."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from irnas_ray.tune.internals import RECORD_LOGGERS, RECORD_LOST

#: Seconds between two lines about it.
BETWEEN_LINES = 60.0


@contextlib.contextmanager
def unsaved_state_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Within it the user is told where Tune cannot save its record.

    Raises OSError with a clear message, instead of what Tune raises, where the disk is full on which it is prepared.
    """
    listener = _Listener(tell)
    for name in RECORD_LOGGERS:
        logger = logging.getLogger(name)
        logger.addHandler(listener)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    try:
        yield
    except Exception as error:
        reason = _full_disk(error)
        if reason is None:
            raise
        raise OSError(
            f"Tune cannot note where its trials stand ({reason}); free space or give Ray another folder, RAY_TMPDIR, "
            "and continue with resume=true: trials go on from their last checkpoints"
        ) from None
    finally:
        for name in RECORD_LOGGERS:
            logging.getLogger(name).removeHandler(listener)


class _Listener(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell, self._told = tell, -BETWEEN_LINES

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        text = self.format(record)
        if not text.startswith(RECORD_LOST) or now - self._told < BETWEEN_LINES:
            return
        self._told = now
        reason = text.strip().splitlines()[-1]
        self._tell(
            f"where the trials stand cannot be saved ({reason}); they go on, but resume=true would go on from the last "
            "time that it could"
        )


def _full_disk(error: BaseException | None) -> str | None:
    """What an error, or one that it hides, says about a full disk."""
    text = "No space left on device"
    while error is not None:
        lines = [line.strip() for line in str(error).splitlines() if text in line]
        if lines:
            return lines[-1]
        error = error.__cause__ or error.__context__
    return None
