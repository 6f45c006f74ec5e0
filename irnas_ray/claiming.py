"""A folder that is ours while a data set is written into it, and what is left of it when that ends early."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from irnas_ray.contact_sheet import CONTACT_SHEET
from irnas_ray.parallel import WorkerKilled
from irnas_ray.screening import SCREENING
from irnas_ray.storing import remove_parts, remove_records

MARKER = ".preparing"


@contextlib.contextmanager
def claim(folder: Path, work: str) -> Iterator[None]:
    """Make `folder` ours while a data set is written.

    `work` tells one data set from another: what an earlier claim for the same work finished is still there, anything
    else of ours is removed. After a kill, an interrupt or the loss of a process the finished parts stay; after any
    other failure nothing of ours does. ValueError if the folder holds something else, if another process has claimed
    it, or if it cannot be written.
    """
    marker = folder / MARKER
    created = not folder.exists()
    try:
        if folder.exists() and not marker.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder}: is not empty and holds no data set; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        with open(marker, "a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(f"{folder}: another process is writing a data set here; wait for it") from error
            lock.seek(0)
            if lock.read() != work:
                _clear(folder)
                lock.truncate(0)
                lock.write(work)
                lock.flush()
            try:
                yield
            except (KeyboardInterrupt, WorkerKilled):
                raise
            except BaseException:
                _clear(folder)
                marker.unlink(missing_ok=True)
                if created:
                    with contextlib.suppress(OSError):
                        folder.rmdir()
                raise
            remove_records(folder)
            marker.unlink()
    except OSError as error:
        raise ValueError(f"{folder}: the data set cannot be written ({error}); nothing was kept") from error


def _clear(folder: Path) -> None:
    remove_parts(folder)
    for name in (CONTACT_SHEET, SCREENING):
        (folder / name).unlink(missing_ok=True)
