"""Files that are written whole or not at all, and locks that end with their process."""

import contextlib
import csv
import fcntl
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def written(path: str | Path, advice: str = "") -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of ``path`` as a whole when the block ends, or never if it fails.

    A reader sees the old file or the whole new one, on the disk before it has its name; of several writers the last
    one wins. Missing folders are made. OSError naming the file, with ``advice``, if it cannot be written.
    """
    path = Path(path)
    # Not made of the file's own name, which may be as long as names can be.
    temporary = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        kept = "the old file is kept" if os.path.exists(path) else ""
        message = "; ".join(filter(None, [f"cannot write {path} ({error.strerror or error})", advice, kept]))
        raise (OSError(error.errno, message) if error.errno else OSError(message)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_bytes(path: str | Path, content: bytes, advice: str = "") -> None:
    """Write a file as ``written`` does."""
    with written(path, advice) as file:
        file.write(content)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as ``written`` does."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON as ``written`` does; TypeError, and the old file stays, if JSON cannot hold the value."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: str | Path) -> Any:
    """The value in a JSON file; ValueError naming the file if it cannot be read or is no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from None


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table with a head as CSV as ``written`` does; None becomes an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


@contextlib.contextmanager
def locked(path: Path) -> Iterator[IO[str]]:
    """A file, made if need be and open to read and append, that is held until the block or this process ends.

    BlockingIOError if someone else holds it. What it holds stays as it is.
    """
    with open(path, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(file.fileno()).st_nlink:
            raise BlockingIOError(f"{path} was just removed by who held it")
        yield file
