"""A cluster that a study starts on its own machine: reached by its user alone, and gone with the study."""

import atexit
import contextlib
import itertools
import logging
import os
import shutil
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from irnas_ray.cluster.internals import FIRST_IMPORT, LONGEST_SOCKET, loopback_only
from irnas_ray.system.exit_status import INTERRUPTED
from irnas_ray.system.files import locked
from irnas_ray.system.kept_secret import kept_secret

#: How the folder begins that each driver gives to its Ray, and the file in it that is held while the driver lives.
OWN, HELD = "irnas-", ".driver"
#: Ray's own folder in it, which Ray opens to everyone.
RAY = "r"
SHORT = "set RAY_TMPDIR to a short folder that you can write, such as RAY_TMPDIR=/tmp"
#: Bytes that Linux allows for the path of a socket.
SOCKET_BYTES = 107
#: Seconds after which a folder without that file is no longer just being made.
YOUNG = 60.0
#: Seconds that a start which is told to end has for it, and that ending and removing what it left may take then.
END, REMOVAL = 5.0, 4.0
#: The variable that all processes of a cluster inherit and nothing else does: what they call themselves changes.
MARK = "IRNAS_RAY_CLUSTER"


def check_start() -> None:
    """OSError naming the environment variable and the remedy if no cluster could be started here; changes nothing."""
    variable, place = _temporary()
    longest = place / f"{OWN}0" / RAY / LONGEST_SOCKET.format(pid=os.getpid())
    over = len(os.fsencode(longest)) - SOCKET_BYTES
    if over > 0:
        raise OSError(f"{variable}: {place} is {over} bytes too long for the sockets that Ray puts there; {SHORT}")
    if not _may_write(place):
        raise OSError(f"{variable}: {place} cannot be written, and Ray keeps its sockets and logs there; {SHORT}")
    _token_file()


def start(dashboard: bool = True) -> Any:
    """Start a cluster on this machine and join it; what ``ray.init`` returns. It ends with this process.

    It listens on 127.0.0.1 alone and asks for this user's token, which is made if there is none. Its folder is removed
    at the end, and so are those of earlier drivers that were killed. Raises as ``check_start``; OSError with a reason
    if Ray does not start.
    """
    check_start()
    token = _token_file()
    if token is not None:
        # Ray itself would let everyone read it
        kept_secret(token)
    variable, place = _temporary()
    held = contextlib.ExitStack()
    try:
        place.mkdir(parents=True, exist_ok=True)
        remove_left(place)
        folder = _own_folder(place, held)
    except OSError as error:
        raise OSError(f"{variable}: {place} cannot be written ({error.strerror}); {SHORT}") from None

    def end() -> None:
        ray.shutdown()
        _remove(folder)
        held.close()

    with _ending_soon(folder):
        try:
            with _marked(folder), loopback_only():
                # what workers print is kept in Ray's logs; their reports and errors reach the user through the study
                options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
                options |= {"_temp_dir": str(folder / RAY), "_system_config": FIRST_IMPORT}
                context = ray.init(address="local", include_dashboard=dashboard, **options)
        except BaseException as error:
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            reason = "; ".join([said, *_last_words(folder)])
            end()
            if not isinstance(error, Exception):
                raise
            raise OSError(
                f"Ray does not start on this machine ({reason}); free memory, disk or processes, or join a cluster "
                "that runs with cluster.address=HOST:PORT"
            ) from None
    atexit.register(end)
    return context


def remove_left(place: Path) -> None:
    """Remove the folders that killed drivers of this user and machine left in a temporary folder, and end their Ray."""
    for folder in place.glob(f"{OWN}*"):
        with contextlib.suppress(OSError):
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
                continue
            with locked(folder / HELD) as file:
                file.seek(0)
                host = file.read()
                # a file system that machines share may not share its locks; and one that is just being made has no name
                if host == socket.gethostname() or (not host and time.time() - about.st_mtime > YOUNG):
                    _remove(folder)


def _temporary() -> tuple[str, Path]:
    """The variable that says where Ray's folder is to lie, and that place."""
    for variable in ("RAY_TMPDIR", "TMPDIR"):
        if os.environ.get(variable):
            return variable, Path(os.environ[variable]).absolute()
    return "TMPDIR (not set)", Path("/tmp")


def _own_folder(place: Path, held: contextlib.ExitStack) -> Path:
    """A new folder that only this user reads, and that is marked as used until ``held`` is closed."""
    for number in itertools.count():
        folder = place / f"{OWN}{number}"
        with contextlib.suppress(FileExistsError, BlockingIOError):
            folder.mkdir(mode=0o700)
            file = held.enter_context(locked(folder / HELD))
            file.write(socket.gethostname())
            file.flush()
            return folder
    raise AssertionError


@contextlib.contextmanager
def _marked(folder: Path) -> Iterator[None]:
    """What is started inside belongs to the cluster that keeps its files in ``folder``."""
    os.environ[MARK] = str(folder)
    try:
        yield
    finally:
        del os.environ[MARK]


@contextlib.contextmanager
def _ending_soon(folder: Path) -> Iterator[None]:
    """Told to end inside, this process is gone within ``END`` seconds, even while Ray's C++ keeps Python from it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told, tells = socket.socketpair()
    tells.setblocking(False)
    before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    over = threading.Event()

    def watch() -> None:
        if told.recv(1) and not over.wait(END):
            _remove(folder)
            print("error: interrupted while Ray started", file=sys.stderr, flush=True)
            os._exit(INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        tells.close()


def _token_file() -> Path | None:
    """Where this user's token lies or is to lie; None where the environment gives one, or wants none.

    OSError naming HOME if there is none, and none could be made.
    """
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return None
    remedy = "set HOME to your own folder, or RAY_AUTH_TOKEN to a secret of 64 hexadecimal digits"
    need = "Ray keeps the token there without which nobody may use its cluster"
    home = os.environ.get("HOME")
    if not home:
        raise OSError(f"HOME: not set, and {need}; {remedy}")
    token = Path(home) / ".ray" / "auth_token"
    if not Path(home).is_dir():
        raise OSError(f"HOME: {home} is not a folder, and {need}; {remedy}")
    if not (os.access(token, os.R_OK) if token.exists() else _may_write(token.parent)):
        what = f"{token} cannot be read" if token.exists() else f"{home} cannot be written"
        raise OSError(f"HOME: {what}, and {need}; {remedy}")
    return token


def _may_write(folder: Path) -> bool:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _last_words(folder: Path) -> list[str]:
    """What the processes that were to start have said last of errors."""
    found = []
    for name in ("gcs_server.err", "raylet.err"):
        with contextlib.suppress(OSError, StopIteration):
            text = next(folder.glob(f"{RAY}/session_2*/logs/{name}")).read_text(errors="replace")
            found += [f"{name}: {line.strip()}" for line in text.splitlines() if line.strip()][-1:]
    return found


def _remove(folder: Path) -> None:
    """Remove a driver's folder and end what is left of its Ray, some of which lives on for half a minute by itself."""
    deadline = time.monotonic() + REMOVAL
    while True:
        # one that is being started or dies slowly may write there again
        left = [process for process in Path("/proc").glob("[0-9]*") if _is_of(process, folder)]
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(int(process.name), signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        if (not left and not folder.exists()) or time.monotonic() > deadline:
            return
        time.sleep(0.01)


def _is_of(process: Path, folder: Path) -> bool:
    """Whether a process, by its folder in /proc, was started by the cluster that keeps its files in ``folder``."""
    try:
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:  # it is another user's, or gone
        return False
    return os.fsencode(f"{MARK}={folder}") in variables
