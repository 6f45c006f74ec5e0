"""Where the Optuna study is kept: opened so that readers do not stop the search, and patient where they do."""

import contextlib
import functools
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import optuna
import optuna.storages.journal
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage

from irnas_ray.system.urls import MASK, masked

Result = TypeVar("Result")

#: Environment variable with the password of a storage URL in which it is written as ``***``.
PASSWORD = "IRNAS_RAY_STORAGE_PASSWORD"
#: Seconds that SQLite itself waits for a lock, and seconds between two lines that say so to the user.
ATTEMPT, BETWEEN_LINES = 2, 10
#: SQLite's write-ahead log needs memory that all processes share, so it is used on disks of this machine only.
LOCAL_DISKS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay"}
#: What SQLite says when waiting may help; the transaction has been taken back by then, so it can be repeated.
PASSING = ("is locked", "disk is full")
#: What it says of a file that is not, or no longer, whole.
DAMAGE = ("malformed", "is not a database", "disk I/O error")
#: Methods of a storage that are one transaction each; those with an underscore are called by Optuna's cache.
TRANSACTIONS = (
    "create_new_study delete_study set_study_user_attr set_study_system_attr get_study_id_from_name"
    " get_study_name_from_id get_study_directions get_study_user_attrs get_study_system_attrs get_all_studies"
    " _create_new_trial _set_trial_param set_trial_state_values set_trial_intermediate_value set_trial_user_attr"
    " set_trial_system_attr get_trial_id_from_study_id_trial_number get_trial _get_trials _get_best_trial_id"
).split()

#: Storage URLs that this process was given, by what is written of them.
_given: dict[str, str] = {}


#: All databases that this process has open.
_alive: "weakref.WeakSet[PatientStorage]" = weakref.WeakSet()


class StorageLost(BaseException):
    """The storage could not be read or written for longer than the user wants to wait.

    No Exception: Tune takes those that a search algorithm raises for failures of a trial and runs it again.
    """


class StorageDamaged(ValueError):
    """The file of the storage is damaged, or something else."""


class PatientStorage(RDBStorage):
    """A database whose writers wait for locks, a full disk and a lost server, saying so, before they give up.

    Whether a transaction had arrived when its connection was lost is unknown; it is written once more then.

    Args:
        url: Any URL of SQLAlchemy.
        patience: Minutes to wait before ``StorageLost`` is raised.
        wal: Keep SQLite's changes in a write-ahead log, so that readers and the writer do not wait for each other.
    """

    def __init__(self, url: str, patience: float, wal: bool = False) -> None:
        self.patience, self.wal = patience, wal
        sqlite = url.startswith("sqlite")
        _wait(lambda: super(PatientStorage, self).__init__(url, _timeout(sqlite)), masked(url), patience, opened=False)
        self._log_ahead()

    @property
    def file(self) -> Path | None:
        """The database if it is a file, of SQLite, or None if a server keeps it."""
        return sqlite_file(self.url, Path())

    def _log_ahead(self) -> None:
        _alive.add(self)
        if self.wal:
            sqlalchemy.event.listen(self.engine, "connect", _use_log)
            # connections made before would go on without
            self.engine.dispose()

    def __getstate__(self) -> dict[Any, Any]:
        # searchers are saved with their storage
        return super().__getstate__() | {"url": masked(self.url)}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state | {"url": _with_password(state["url"])})
        self._log_ahead()


class FileJournal(JournalStorage):
    """A journal that knows the file in which it is kept."""

    def __init__(self, file: Path) -> None:
        super().__init__(optuna.storages.journal.JournalFileBackend(str(file)))
        self.file = file


def _patient(name: str) -> Callable[..., Any]:
    method = getattr(RDBStorage, name)

    @functools.wraps(method)
    def patient(self: PatientStorage, *arguments: Any, **keywords: Any) -> Any:
        return _wait(lambda: method(self, *arguments, **keywords), masked(self.url), self.patience)

    return patient


for _name in TRANSACTIONS:
    setattr(PatientStorage, _name, _patient(_name))


def _wait(transaction: Callable[[], Result], what: str, patience: float, opened: bool = True) -> Result:
    """Repeat a transaction until it succeeds; StorageLost after ``patience`` minutes.

    A server that was never ``opened`` is not waited for: it is more likely that its name is wrong.
    """
    start = said = time.monotonic()
    while True:
        try:
            return transaction()
        except (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
            reason = _passing(error) or (_lost(error) if opened else None)
            if reason is None:
                if damage := _damage(error):
                    raise StorageDamaged(
                        f"tune.storage: {what} cannot be read ({damage}); the file is damaged, use a copy of it"
                    ) from None
                raise
        now = time.monotonic()
        if now - start >= 60 * patience:
            raise StorageLost(f"tune.storage: {what}: {reason} for {patience:g} minutes (tune.storage_patience)")
        if now - said >= BETWEEN_LINES:
            said = now
            waited = f"waiting for {now - start:.0f} s of at most {60 * patience:.0f} s"
            print(f"[storage] {what}: {reason}; {waited}; trials go on meanwhile", flush=True)
        if "is locked" not in reason:
            # a lock was waited for by SQLite, the others are reported at once
            time.sleep(ATTEMPT)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _passing(error: BaseException) -> str | None:
    """What SQLite said, if it is something that passes."""
    for cause in _causes(error):
        if isinstance(cause, sqlalchemy.exc.OperationalError) and any(text in str(cause.orig) for text in PASSING):
            return str(cause.orig)
    return None


def _damage(error: BaseException) -> str | None:
    """What SQLite said, if its file is damaged or none of its own."""
    for cause in _causes(error):
        if isinstance(cause, sqlalchemy.exc.DBAPIError) and any(text in str(cause.orig) for text in DAMAGE):
            return str(cause.orig)
    return None


def _lost(error: BaseException) -> str | None:
    """What was said, if the connection to a server broke or a new one is refused, as while it starts again."""
    for cause in _causes(error):
        if isinstance(cause, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError) and (
            # what fails before there is a statement fails in connecting, or in the commit
            cause.connection_invalidated or cause.statement is None
        ):
            return f"no connection ({str(cause.orig).strip().partition(chr(10))[0]})"
    return None


@contextlib.contextmanager
def opened_storage(url: str | None, folder: Path, patience: float) -> Iterator[BaseStorage]:
    """The storage for a process that writes, closed at the end so that a study on SQLite is one file again.

    Arguments and errors are those of ``open_storage``.
    """
    file = sqlite_file(url, folder)
    storage = open_storage(url, folder, patience, wal=file is not None and on_local_disk(file.parent))
    try:
        yield storage
    finally:
        # a search that Tune restored has a copy of its own
        for copy in [copy for copy in _alive if isinstance(storage, RDBStorage) and copy.url == storage.url]:
            copy.remove_session()
            copy.engine.dispose()
        if file is not None:
            _settle(file)


def load_databases() -> threading.Thread:
    """Load in a thread what opening a database takes, half a second of imports, while something else is waited for."""
    thread = threading.Thread(target=RDBStorage, args=("sqlite://",), daemon=True)
    thread.start()
    return thread


def open_storage(url: str | None, folder: Path, patience: float = 1, wal: bool = False) -> BaseStorage:
    """The Optuna storage of a URL, of ``journal:PATH``, or SQLite in ``folder``.

    Args:
        url: A password in it may be ``***``: the environment's ``IRNAS_RAY_STORAGE_PASSWORD`` or, within the process
            that was given it, the password itself.
        folder: Where ``study.db`` lies if there is no URL.
        patience: Minutes that transactions wait for locks.
        wal: Whether SQLite shall use a write-ahead log, see ``PatientStorage``.

    Raises:
        ValueError: if it cannot be opened.
        StorageLost: if it is locked for longer than ``patience``, here or in a later use.
    """
    shown = masked(url) if url else str(folder / "study.db")
    try:
        if url is not None and url.startswith("journal:"):
            return FileJournal(Path(url.removeprefix("journal:")).absolute())
        return PatientStorage(_with_password(url) if url else sqlite_url(folder / "study.db"), patience, wal)
    except StorageDamaged:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"tune.storage: cannot open {shown} ({reason})") from None


def sqlite_url(file: Path) -> str:
    """The URL by which an SQLite file is opened, whatever its path holds."""
    return sqlalchemy.engine.URL.create("sqlite", database=str(file.absolute())).render_as_string()


def sqlite_file(url: str | None, folder: Path) -> Path | None:
    """The file of a SQLite storage, or None for another one."""
    if url is None:
        return folder / "study.db"
    if not url.startswith("sqlite"):
        return None
    name = sqlalchemy.engine.make_url(url).database
    return Path(name).absolute() if name and name != ":memory:" else None


def lies_in(storage: BaseStorage, folder: Path) -> bool:
    """Whether a storage of ``open_storage`` is a file in a folder, with which it is moved and copied."""
    file = storage.file if isinstance(storage, PatientStorage | FileJournal) else None
    return file is not None and file.resolve().is_relative_to(folder.resolve())


def on_local_disk(folder: Path) -> bool:
    """Whether a folder is known to lie on a disk of this machine, not on one that several share."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return False
    path = str(folder.resolve())
    above = [(point, kind) for _, point, kind, *_ in mounts if (path + "/").startswith(point.rstrip("/") + "/")]
    # the last of equal mount points lies above the earlier ones
    return bool(above) and max(reversed(above), key=lambda mount: len(mount[0]))[1] in LOCAL_DISKS


def _with_password(url: str) -> str:
    if MASK not in url or (url.startswith("sqlite:///") and "?" not in url):
        _given[masked(url)] = url
        return url
    password = os.environ.get(PASSWORD)
    if url in _given:
        return _given[url]
    if password is None:
        raise ValueError(f"its password is hidden; set {PASSWORD} in the environment")
    return url.replace(MASK, password, 1)


def _timeout(sqlite: bool) -> dict[str, Any]:
    return {"connect_args": {"timeout": ATTEMPT}} if sqlite else {}


def _use_log(connection: Any, _: Any) -> None:
    # kept by the file; where another process is in the way the file stays as it is, and the next connection tries again
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode=WAL").close()


def _settle(file: Path) -> None:
    """Bring the write-ahead log into the file and remove it, unless a reader holds it open."""
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(file, timeout=1)) as database,
    ):
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA journal_mode=DELETE")
