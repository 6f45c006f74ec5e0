"""Output that a run outlives: a pipe whose reader has ended, a terminal or a connection that is gone."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

#: What is said of a pipe without a reader, and of a terminal that is gone.
GONE = (errno.EPIPE, errno.EIO, errno.EBADF)


class LastingStream:
    """A text stream that goes on without a word where what it writes to is gone, with all its other properties."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, or what can still be written of it."""
        with self._outlived():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Let everything be read, if somebody still reads."""
        with self._outlived():
            self._stream.flush()

    @contextlib.contextmanager
    def _outlived(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in GONE:
                # a full disk, which may have room again
                return
            # the file behind the stream, because others write to it too, and Python once more when it ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """What is printed inside, to standard output or errors, ends nothing when nobody can read it any more."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (LastingStream(stream) for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before
