"""Who wrote what Tune unpickles of a run: files are marked with a key of this user, for reading a pickle runs code."""

import contextlib
import fnmatch
import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow.fs import FileSelector, FileType, LocalFileSystem
from ray.tune import Callback

from irnas_ray.system.files import write_json
from irnas_ray.system.kept_secret import kept_secret
from irnas_ray.tune.internals import ERROR, RECORDS
from irnas_ray.tune.storage import open_storage

#: In a run's folder: file -> mark.
MARKS = "marks.json"
#: Seconds between two looks at a storage that is not a folder.
FAR = 10.0


class Authorship(Callback):
    """Marks the files of a run that Tune unpickles as this user's, as soon as Tune has written them."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._seen: dict[str, tuple[Any, int]] = {}
        self._failed: set[str] = set()
        self._marks: dict[str, str] | None = None
        self._next = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune keeps its callbacks in a file
        return Authorship, (self._run,)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed.add(f"{trial.trial_id}/{ERROR}")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if time.monotonic() >= self._next:
            self.mark()

    def mark(self) -> None:
        """Mark what was written since the last time; what cannot be is not marked."""
        key = _key()
        if key is None:
            return
        with contextlib.suppress(OSError, ValueError, pyarrow.ArrowException):
            filesystem, path = open_storage(self._run)
            if not isinstance(filesystem, LocalFileSystem):
                self._next = time.monotonic() + FAR
            listed = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
            found = {entry.base_name: entry for entry in listed if _is_record(entry.base_name)}
            failed = sorted(self._failed)
            found |= dict(zip(failed, filesystem.get_file_info([f"{path}/{name}" for name in failed]), strict=True))
            now = {name: (file.mtime_ns, file.size) for name, file in found.items() if file.type == FileType.File}
            changed = [name for name, state in now.items() if self._seen.get(name) != state]
            if not changed:
                return
            if self._marks is None:
                self._marks = read_marks(self._run)
            for name in changed:
                with filesystem.open_input_stream(f"{path}/{name}") as file:
                    self._marks[name] = _mark(key, name, file.readall())
            if isinstance(filesystem, LocalFileSystem):
                write_json(Path(path) / MARKS, self._marks)
            else:
                with filesystem.open_output_stream(f"{path}/{MARKS}") as file:
                    file.write(json.dumps(self._marks).encode())
            self._seen = now


def is_own(run: str, files: Mapping[str, bytes]) -> bool:
    """Whether this user wrote these files of a run, name -> content, and nobody has changed them since."""
    marks, key = read_marks(run), _key()
    return key is not None and all(
        hmac.compare_digest(marks.get(name, ""), _mark(key, name, content)) for name, content in files.items()
    )


def read_marks(run: str) -> dict[str, str]:
    """The marks that lie in a run's folder; none where they cannot be read."""
    filesystem, path = open_storage(run)
    try:
        with filesystem.open_input_stream(f"{path}/{MARKS}") as file:
            marks = json.loads(file.readall())
    except (OSError, ValueError):
        return {}
    return {str(name): str(mark) for name, mark in marks.items()} if isinstance(marks, dict) else {}


def _is_record(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in RECORDS)


def _mark(key: bytes, name: str, content: bytes) -> str:
    return hmac.new(key, name.encode() + b"\0" + content, hashlib.sha256).hexdigest()


def _key() -> bytes | None:
    """This user's key; None where there is no home to keep it in."""
    home = os.environ.get("XDG_CONFIG_HOME") or (f"{os.environ['HOME']}/.config" if os.environ.get("HOME") else None)
    try:
        return kept_secret(Path(home) / "irnas_ray" / "key").encode() if home else None
    except OSError:
        return None
