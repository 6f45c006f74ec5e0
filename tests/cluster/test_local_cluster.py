"""A cluster that a study starts itself: what it needs, who reaches it, and what is left of it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line_cases import compose
from study_cases import environment, wait_for

from irnas_ray.cluster import local_cluster
from irnas_ray.cluster.internals import ASK, LONGEST_SOCKET
from irnas_ray.cluster.local_cluster import HELD, OWN, check_start, remove_left
from irnas_ray.study.study import run_study
from irnas_ray.system.files import locked

#: A driver: joins or starts a cluster, has a worker of each kind, says what it has, and waits.
DRIVER = """
import gc, json, sys, time
import ray
from irnas_ray.cluster.connection import asks_for_token, connect
from irnas_ray.settings.study import Cluster

print("begins", flush=True)
try:
    dashboard = connect(Cluster())
    @ray.remote(num_cpus=0)
    class Worker:
        def collects(self):
            return gc.get_threshold()
    worker = Worker.remote()
    collects = ray.get(worker.collects.remote())
    address = ray.get_runtime_context().gcs_address
    print(json.dumps([dashboard, address, asks_for_token(), gc.get_threshold(), collects]), flush=True)
    time.sleep(300)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A short folder that is home and temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="lc", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def own_environment(place: Path) -> dict[str, str]:
    own = {key: value for key, value in environment().items() if not key.startswith("RAY_")}
    return own | {"HOME": str(place / "home"), "RAY_TMPDIR": str(place / "t"), "RAY_USAGE_STATS_ENABLED": "0"}


def driver(place: Path) -> subprocess.Popen[str]:
    (place / "home").mkdir(exist_ok=True)
    found = subprocess.Popen([sys.executable, "-c", DRIVER], env=own_environment(place), stdout=-1, text=True)
    assert found.stdout is not None and found.stdout.readline() == "begins\n"
    return found


def processes(place: Path) -> Iterator[Path]:
    """The living processes of a driver and of all that it started."""
    own = f"RAY_TMPDIR={place / 't'}\0".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if own in (process / "environ").read_bytes():
                yield process
        except OSError:
            continue


def listening(place: Path) -> dict[str, set[str]]:
    """Address -> programs that listen there on TCP."""
    addresses = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # LISTEN
                addresses[fields[9]] = fields[1].partition(":")[0]
    found: dict[str, set[str]] = {}
    for process in processes(place):
        try:
            name = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            for file in (process / "fd").iterdir():
                inode = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(file))
                if inode and inode[1] in addresses:
                    found.setdefault(addresses[inode[1]], set()).add(name)
        except OSError:
            continue
    return found


#: 127.0.0.1, and the same in IPv6, as Linux writes them.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.mark.whole
@pytest.mark.timeout(600)
def test_nobody_else_reaches_a_cluster_and_nothing_is_left_of_it(place: Path) -> None:
    """Only loopback is listened on, only with this user's token; killed, its next cluster clears it away."""
    first = driver(place)
    assert first.stdout is not None
    dashboard, address, asks, usual, in_worker = json.loads(first.stdout.readline())
    assert asks
    assert in_worker[0] > 10 * usual[0], "workers do not import rare_collection first"
    wait_for(lambda: len(listening(place).get("0100007F", ())) >= 1)
    found = listening(place)
    programs = " ".join(program for names in found.values() for program in names)
    assert all(name in programs for name in ("gcs_server", "raylet", "ray::Worker", "dashboard.py", "-c "))
    assert found.keys() <= LOOPBACK, found

    token = place / "home" / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600 and re.fullmatch("[0-9a-f]{64}", token.read_text())
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{dashboard}/api/jobs/", timeout=60)
    assert refused.value.code == 401
    tells = [sys.executable, "-m", "ray.scripts.scripts", "get-auth-token"]
    told = subprocess.run(tells, env=own_environment(place), capture_output=True, text=True, timeout=60).stdout
    assert told == token.read_text()
    asked = urllib.request.Request(f"http://{dashboard}/api/jobs/", headers={"Authorization": f"Bearer {told}"})
    assert urllib.request.urlopen(asked, timeout=60).status == 200
    ask = [sys.executable, "-c", ASK, address]
    stranger = own_environment(place) | {"HOME": str(place), "RAY_AUTH_MODE": "disabled"}
    assert subprocess.run(ask, env=stranger, capture_output=True, timeout=60).returncode != 0
    friend = own_environment(place) | {"RAY_AUTH_MODE": "token"}
    assert subprocess.run(ask, env=friend, capture_output=True, timeout=60).returncode == 0

    (folder,) = (place / "t").iterdir()
    assert folder.name == f"{OWN}0" and folder.stat().st_mode & 0o777 == 0o700
    longest = max(len(str(path)) for path in folder.glob("*/session_2*/sockets/*"))
    assert longest == len(str(folder / local_cluster.RAY / LONGEST_SOCKET.format(pid=first.pid)))

    left = set(processes(place))
    first.kill()
    first.wait()
    second = driver(place)
    assert second.stdout is not None
    wait_for(lambda: not any(process.exists() for process in left))
    second.send_signal(signal.SIGTERM)
    # ten seconds are promised, and a busy machine gets more
    assert second.wait(60) == 130
    # where Ray's C++ keeps Python from it for too long, the driver is ended from outside and says so on its stderr
    said = second.stdout.read()
    assert not said or said.endswith("interrupted\n")
    assert not list((place / "t").iterdir())
    wait_for(lambda: not list(processes(place)), seconds=30)


LONG = "a-folder-that-is-too-deep-for-the-sockets-of-ray"


@pytest.mark.parametrize(
    "variables, named, remedy",
    [
        ({"TMPDIR": f"/tmp/{LONG}"}, f"TMPDIR: /tmp/{LONG} is [0-9]+ bytes too long", "RAY_TMPDIR=/tmp"),
        ({"RAY_TMPDIR": f"/tmp/{LONG}", "TMPDIR": "/tmp"}, "RAY_TMPDIR: .* too long", "RAY_TMPDIR=/tmp"),
        ({"TMPDIR": "/dev/null/x"}, "TMPDIR: /dev/null/x cannot be written", "RAY_TMPDIR=/tmp"),
        ({"HOME": ""}, "HOME: not set", "set HOME to your own folder, or RAY_AUTH_TOKEN"),
        ({"HOME": "/no/such/home"}, "HOME: /no/such/home is not a folder", "set HOME to your own folder"),
    ],
)
def test_what_a_start_lacks_is_named_before_it(
    variables: dict[str, str], named: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match=f"{named}.*{remedy}") as caught:
        check_start()
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    check_start()


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        # no permission keeps root from writing, but a file in the way does
        (tmp_path / ".ray").touch()
    else:
        tmp_path.chmod(0o500)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(OSError, match=f"HOME: {tmp_path} cannot be written.*set HOME"):
        check_start()


def test_a_ray_that_does_not_start_leaves_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command works once the reason is gone."""
    monkeypatch.setenv("RAY_GCS_SERVER_PORT", "none")
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    try:
        for _ in range(2):
            with pytest.raises(OSError, match="Ray does not start on this machine .invalid literal.*cluster.address"):
                run_study(compose(f"results={tmp_path}", "study=s"))
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGHUP), handlers, strict=True):
            signal.signal(number, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]
    assert not list(Path(os.environ["RAY_TMPDIR"]).glob(f"{OWN}*"))


def test_only_what_dead_drivers_of_this_machine_left_is_removed(tmp_path: Path) -> None:
    folders = {name: tmp_path / f"{OWN}{name}" for name in ("dead", "alive", "elsewhere", "begun", "broken")}
    for name, folder in folders.items():
        folder.mkdir()
        if name not in ("begun", "broken"):
            (folder / HELD).write_text("another machine" if name == "elsewhere" else socket.gethostname())
    os.utime(folders["broken"], (0, 0))
    (tmp_path / "ray").mkdir()
    (tmp_path / f"{OWN}link").symlink_to(tmp_path / "ray")
    with locked(folders["alive"] / HELD):
        remove_left(tmp_path)
    left = {path.name.removeprefix(OWN) for path in tmp_path.iterdir()}
    assert left == {"alive", "elsewhere", "begun", "ray", "link"}


#: Writes into a folder again and again, under a name that says nothing of Ray.
WRITES = """
import itertools, pathlib, sys
print(flush=True)
for number in itertools.count():
    place = pathlib.Path(sys.argv[1]) / str(number % 100)
    place.mkdir(parents=True, exist_ok=True)
"""


def test_what_still_writes_there_is_ended_by_what_it_inherited(tmp_path: Path) -> None:
    dead = tmp_path / f"{OWN}0"
    dead.mkdir()
    (dead / HELD).write_text(socket.gethostname())
    command = [sys.executable, "-c", WRITES]
    marked = os.environ | {local_cluster.MARK: str(dead)}
    with (
        subprocess.Popen([*command, dead], env=marked, stdout=-1) as own,
        subprocess.Popen([*command, tmp_path / "other"], stdout=-1) as other,
    ):
        assert own.stdout is not None and own.stdout.readline() and other.stdout is not None and other.stdout.readline()
        remove_left(tmp_path)
        assert own.wait(60) == -signal.SIGKILL and not dead.exists()
        assert other.poll() is None
        other.kill()
