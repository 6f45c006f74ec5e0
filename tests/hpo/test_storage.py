"""The study's storage next to other processes: readers do not stop it, writers are waited for, passwords hidden."""

import functools
import os
import pickle
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
import sqlalchemy
import yaml
from head_node import free_port
from study_cases import ROOT, wait_for

from irnas_ray.hpo import starting_points as warm_start
from irnas_ray.hpo import storage as storage_module
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.starting_points import starting_points
from irnas_ray.hpo.storage import PASSWORD, PatientStorage, StorageLost, on_local_disk, open_storage, opened_storage
from irnas_ray.results.folder import StudyFolder, as_plain
from irnas_ray.results.layout import settings_in
from irnas_ray.results.study_results import read_study
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.system.urls import masked

#: Opens a transaction, says so, and keeps it open for so many seconds or until its input ends.
HOLD = """
import select, sqlite3, sys
file, seconds, *statements = sys.argv[1:]
database = sqlite3.connect(file, isolation_level=None, timeout=30)
for statement in statements:
    database.execute(statement).fetchone()
print("held", flush=True)
select.select([sys.stdin], [], [], float(seconds))
database.execute("ROLLBACK")
"""


@contextmanager
def held_by_another_process(file: Path, *statements: str, seconds: float = 60) -> Iterator[None]:
    """Another process keeps a transaction of these statements open, for so long at most."""
    command = [sys.executable, "-S", "-c", HOLD, str(file), str(seconds), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.communicate()


READ = ("BEGIN", "SELECT count(*) FROM trials")
WRITE = ("BEGIN IMMEDIATE",)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "ATTEMPT", 0.2)
    monkeypatch.setattr(storage_module, "BETWEEN_LINES", 1)


def write_a_trial(study: optuna.Study, value: float) -> None:
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(value, 1)
    trial.set_user_attr("digest", "abc")
    study.tell(trial, value)


def test_a_reader_does_not_stop_the_search_and_sees_one_moment(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with opened_storage(None, tmp_path, patience=1) as storage:
        study = optuna.create_study(storage=storage, study_name="s")
        write_a_trial(study, 1.0)
        with held_by_another_process(tmp_path / "study.db", *READ):
            for value in range(5):
                write_a_trial(study, float(value))
        assert len(study.trials) == 6 and capsys.readouterr().out == ""
    # nothing but the file itself: it can be copied, and read where nothing may be written
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]
    with sqlite3.connect(tmp_path / "study.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert database.execute("SELECT count(*) FROM trials WHERE state='COMPLETE'").fetchone() == (6,)


def test_a_file_that_a_reader_holds_open_at_the_end_is_complete(tmp_path: Path) -> None:
    with opened_storage(None, tmp_path, patience=1) as storage:
        study = optuna.create_study(storage=storage, study_name="s")
        write_a_trial(study, 1.0)
        reader = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
        reader.execute("SELECT count(*) FROM trials").fetchone()
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "study.db").write_bytes((tmp_path / "study.db").read_bytes())
    reader.close()
    assert len(optuna.load_study(study_name="s", storage=open_storage(None, tmp_path / "copy")).trials) == 1


@pytest.mark.parametrize(("wal", "statements"), [(True, WRITE), (False, WRITE), (False, READ)])
def test_who_is_in_the_way_is_waited_for_and_the_user_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture, wal: bool, statements: tuple[str, ...]
) -> None:
    """Without the log, on a shared disk, even a reader is in the way."""
    study = optuna.create_study(storage=open_storage(None, tmp_path, patience=1, wal=wal), study_name="s")
    write_a_trial(study, 1.0)
    trial = study.ask()
    start = time.monotonic()
    with held_by_another_process(tmp_path / "study.db", *statements, seconds=2):
        study.tell(trial, 2.0)
        waited = time.monotonic() - start
    write_a_trial(study, 3.0)
    assert waited > 1.9
    assert [(trial.number, trial.value) for trial in study.trials] == [(0, 1.0), (1, 2.0), (2, 3.0)]
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) <= waited
    assert re.fullmatch(r"\[storage\] .*study\.db: database is locked; waiting for \d+ s of at most 60 s; .*", lines[0])


def test_patience_ends_with_a_message_that_no_library_takes_for_a_trials_failure(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path, patience=0.02, wal=True)
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    with held_by_another_process(tmp_path / "study.db", *WRITE):
        with pytest.raises(StorageLost, match=r"study\.db: database is locked for 0\.02 minutes"):
            study.tell(trial, 1.0)
        with pytest.raises(StorageLost):
            open_storage(None, tmp_path, patience=0.02).create_new_study([optuna.study.StudyDirection.MAXIMIZE], "t")
    assert not issubclass(StorageLost, Exception)
    study.tell(trial, 1.0)
    assert [trial.value for trial in study.trials] == [1.0]


def lose_connection(storage: PatientStorage, broken: int, refused: int) -> None:
    """Let so many statements break their connection, and so many connections be refused after that."""
    left = {"broken": broken, "refused": refused}

    def fail(kind: str, text: str) -> None:
        if left[kind] and (kind == "broken" or not left["broken"]):
            left[kind] -= 1
            raise sqlite3.OperationalError(f"{text}\n\tfurther explained")

    @sqlalchemy.event.listens_for(storage.engine, "do_execute")
    def _(*_: object) -> None:
        fail("broken", "server closed the connection unexpectedly")

    @sqlalchemy.event.listens_for(storage.engine, "do_connect")
    def _(*_: object) -> None:
        fail("refused", "connection refused")

    @sqlalchemy.event.listens_for(storage.engine, "handle_error")
    def _(context: sqlalchemy.engine.ExceptionContext) -> None:
        # as a server's dialect knows by the text
        context.is_disconnect = "closed the connection" in str(context.original_exception)


def test_a_lost_connection_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    storage = open_storage(None, tmp_path, patience=1)
    assert isinstance(storage, PatientStorage)
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    monkeypatch.setattr(storage_module, "BETWEEN_LINES", 0)
    lose_connection(storage, broken=1, refused=2)
    study.tell(trial, 1.0)
    assert [(trial.number, trial.value) for trial in study.trials] == [(0, 1.0)]
    said = [line.partition(": ")[2].partition(";")[0] for line in capsys.readouterr().out.splitlines()]
    broken = "no connection (server closed the connection unexpectedly)"
    assert said == [broken, *["no connection (connection refused)"] * 2]


def test_an_error_that_is_none_of_the_connection_is_not_waited_for(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path, patience=1)
    study = optuna.create_study(storage=storage, study_name="s")
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("DROP TABLE trial_user_attributes")
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.ask().set_user_attr("a", 1)


def test_a_locked_study_to_start_from_is_an_error_of_that_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = StudyConfig(study="s", results=str(tmp_path))
    folder = StudyFolder(before)
    folder.create(before)
    write_a_trial(optuna.create_study(storage=open_storage(None, folder.path), study_name="s"), 1.0)
    monkeypatch.setattr(warm_start, "open_storage", functools.partial(open_storage, patience=0.02))
    config = with_values(StudyConfig(), {"tune.warm_start": str(folder.path)})
    with (
        held_by_another_process(folder.path / "study.db", "BEGIN EXCLUSIVE"),
        pytest.raises(
            ValueError, match=r"tune\.warm_start: the study of .*/s cannot be read \(.*database is locked for"
        ),
    ):
        starting_points(config.tune, SearchSpace.of(config), settings_in)


class Server:
    """PostgreSQL on a free port, as another user where root must not run it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"postgresql://me@127.0.0.1:{self.port}/postgres"
        self.user = {"user": "nobody"} if os.geteuid() == 0 else {}
        if self.user:
            shutil.chown(folder, "nobody")
        make = [INITDB, "-D", folder / "data", "-U", "me", "-A", "trust", "--no-sync"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd="/", **self.user)  # type: ignore[call-overload]

    def start(self) -> None:
        """Return as soon as it listens."""
        listen = ["-h", "127.0.0.1", "-p", str(self.port), "-k", self.folder, "-F"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [Path(INITDB or "").resolve().parent / "postgres", "-D", self.folder / "data", *listen],
                stdout=log,
                stderr=log,
                cwd="/",
                **self.user,  # type: ignore[call-overload]
            )
        wait_for(lambda: (self.folder / f".s.PGSQL.{self.port}").exists(), self.process)

    def answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(f"postgresql://me@127.0.0.1:{self.port}/postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def crash(self) -> None:
        """End it at once; what it had committed is kept."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(300)


INITDB = shutil.which("initdb")


@pytest.fixture
def server() -> Iterator[Server]:
    if INITDB is None:
        pytest.skip("needs PostgreSQL's server")
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        server = Server(Path(folder))
        server.start()
        # where its user's disk is busy it listens long before it answers
        wait_for(server.answers, server.process)
        yield server
        server.crash()


def test_a_server_that_starts_again_is_waited_for(server: Server, capsys: pytest.CaptureFixture) -> None:
    with opened_storage(server.url, Path("/"), patience=10) as storage:
        study = optuna.create_study(storage=storage, study_name="s")
        write_a_trial(study, 1.0)
        trial = study.ask()
        server.crash()
        again = threading.Timer(3, server.start)
        again.start()
        study.tell(trial, 2.0)
        again.join()
        write_a_trial(study, 3.0)
        assert [(trial.number, trial.value) for trial in study.trials] == [(0, 1.0), (1, 2.0), (2, 3.0)]
        assert re.search(r"\[storage\] postgresql://me@.*: no connection \(.*\); waiting for", capsys.readouterr().out)
        storage.patience = 0.02  # type: ignore[attr-defined]
        server.crash()
        with pytest.raises(StorageLost, match=r"no connection \(.*\) for 0\.02 minutes"):
            study.ask()
        # with so much patience the test would not end if it waited
        with pytest.raises(ValueError, match="tune.storage: cannot open postgresql://me@127.0.0.1"):
            open_storage(server.url, Path("/"), patience=1000)


def test_a_running_study_can_be_analysed_while_another_process_writes(tmp_path: Path) -> None:
    folder = StudyFolder(StudyConfig(study="s", results=str(tmp_path)))
    folder.create(StudyConfig(study="s", results=str(tmp_path)))
    with opened_storage(None, folder.path, patience=1) as storage:
        write_a_trial(optuna.create_study(storage=storage, study_name="s"), 1.0)
        with held_by_another_process(folder.path / "study.db", *WRITE):
            assert len(read_study(folder.path).configurations) == 1
        with sqlite3.connect(folder.path / "study.db") as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_study_is_one_file_again_though_a_saved_search_holds_a_copy_of_its_storage(tmp_path: Path) -> None:
    with opened_storage(None, tmp_path, patience=1) as storage:
        write_a_trial(optuna.create_study(storage=storage, study_name="s"), 1.0)
        copy = pickle.loads(pickle.dumps(storage))
        write_a_trial(optuna.load_study(storage=copy, study_name="s"), 2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]
    with sqlite3.connect(tmp_path / "study.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_the_log_is_used_on_local_disks_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_local_disk(Path("/dev/shm")) and not on_local_disk(Path("/proc"))
    monkeypatch.setattr(storage_module, "LOCAL_DISKS", set())
    with opened_storage(None, tmp_path, patience=1):
        with sqlite3.connect(tmp_path / "study.db") as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_saved_storage_goes_on_with_its_patience_and_log(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path, patience=3, wal=True)
    again = pickle.loads(pickle.dumps(storage))
    assert isinstance(again, PatientStorage) and (again.patience, again.wal) == (3, True)
    with again.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


SECRET = "p@ss:w/rd"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://me:{SECRET}@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("mysql+pymysql://me@host/db?password=secret&ssl=1", "mysql+pymysql://me@host/db?password=***&ssl=1"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
        ("journal:/shared/study.log", "journal:/shared/study.log"),
        ("journal:/shared/pwd=x/study.log", "journal:/shared/pwd=x/study.log"),
        ("sqlite:////tmp/password=x/a.db", "sqlite:////tmp/password=x/a.db"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == masked(shown) == shown


def test_a_password_is_written_nowhere_and_a_study_resumes_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = StudyConfig(study="s", results=str(tmp_path))
    config.tune.storage = "postgresql://me:secret@host/db"
    folder = StudyFolder(config)
    folder.create(config)
    assert "secret" not in folder.config.read_text()
    assert yaml.safe_load(folder.config.read_text())["tune"]["storage"] == "postgresql://me:***@host/db"
    assert config.tune.storage == "postgresql://me:secret@host/db"
    config.resume = True
    for again in ("postgresql://me:changed@host/db", "postgresql://me:***@host/db"):
        config.tune.storage = again
        folder.check(config)
    config.tune.storage = "postgresql://me:secret@other/db"
    with pytest.raises(ValueError, match=r"tune\.storage \('postgresql://me:\*\*\*@host/db' -> "):
        folder.check(config)
    with pytest.raises(ValueError, match=f"cannot open postgresql://me:[*]+@host/db .*set {PASSWORD}"):
        open_storage(as_plain(config)["tune"]["storage"].replace("other", "host"), tmp_path)


def test_a_hidden_password_comes_from_the_environment_or_from_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLite knows no users, but its URLs may have parameters
    monkeypatch.setenv(PASSWORD, "secret")
    url = f"sqlite:///{tmp_path}/x.db?password=***"
    opened: list[str] = []
    monkeypatch.setattr(
        storage_module, "PatientStorage", lambda url, *_: opened.append(url) or optuna.storages.InMemoryStorage()
    )
    open_storage(url, tmp_path)
    open_storage(url.replace("***", "typed"), tmp_path)
    open_storage(url, tmp_path)
    assert [url.rpartition("=")[2] for url in opened] == ["secret", "typed", "typed"]


def test_a_saved_search_holds_no_password(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path)
    storage.url = "postgresql://me:secret@host/db"
    assert b"secret" not in pickle.dumps(storage) and b"me:***@host" in pickle.dumps(storage)


def test_storages(tmp_path: Path) -> None:
    journal = open_storage(f"journal:{tmp_path / 'study.log'}", tmp_path)
    optuna.create_study(storage=journal, study_name="x").ask()
    again = optuna.load_study(study_name="x", storage=open_storage(f"journal:{tmp_path / 'study.log'}", tmp_path))
    assert len(again.trials) == 1
    with pytest.raises(ValueError, match="tune.storage: cannot open nonsense"):
        open_storage("nonsense://host/db", tmp_path)


@pytest.mark.parametrize("page", [0, 1, 3, 10, 15])
def test_a_damaged_database_is_named(tmp_path: Path, page: int) -> None:
    """Whether that shows when it is opened or only when it is read."""
    file = tmp_path / "study.db"
    content = bytearray((ROOT / "tests" / "data" / "first_layout" / "finished" / "study.db").read_bytes())
    content[4096 * page : 4096 * (page + 1)] = b"Z" * 4096
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"tune.storage: .*{file} cannot be read .*; the file is damaged, use a copy"):
        (study,) = open_storage(None, tmp_path).get_all_studies()
        open_storage(None, tmp_path).get_all_trials(study._study_id)


def test_a_database_is_opened_without_further_imports_once_they_are_loaded(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from irnas_ray.hpo import storage\n"
        "storage.load_databases().join(); before = {*sys.modules}\n"
        "with storage.opened_storage(None, pathlib.Path(sys.argv[1]), 1): print(*sorted({*sys.modules} - before))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0 and done.stdout.split() == [], done.stdout + done.stderr
