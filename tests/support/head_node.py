"""A Ray head node of its own for tests of jobs: other ports, folders and token than any other Ray on the machine."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


class HeadNode:
    """`ray start --head` in a process group that ``close`` kills; ``with HeadNode() as head:``."""

    def __init__(self, cpus: int = 2) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hn", dir="/tmp"))  # sockets' paths are limited to 107 bytes
        self.address = f"http://127.0.0.1:{free_port()}"
        self.log = self.folder / "log"
        self.nodes: list[tuple[subprocess.Popen[bytes], int]] = []
        options = f"--head --block --num-cpus {cpus} --port 0 --temp-dir {self.folder / 'ray'} --dashboard-port"
        options += f" {self.address.rpartition(':')[2]} --ray-client-server-port {free_port()}"
        options += f" --dashboard-agent-listen-port {free_port()} --disable-usage-stats"
        self.ray("get-auth-token", "--generate", check=True)
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*RAY, "start", *options.split()],
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def gcs(self) -> str:
        """Address that nodes and drivers join."""
        found = re.search(r"--address='([\d.:]+)'", self.log.read_text())
        assert found is not None
        return found.group(1)

    def add_node(self, cpus: int) -> None:
        """Start a further node on this machine, a process group of its own."""
        self.nodes.append((self._start_node(cpus), cpus))

    def restart_nodes(self) -> None:
        """Start again the nodes that ended by themselves: on a busy machine a start may take longer than Ray waits."""
        for place, (node, cpus) in enumerate(self.nodes):
            if node.poll() is not None:
                kill_group(node)
                self.nodes[place] = self._start_node(cpus), cpus

    def _start_node(self, cpus: int) -> subprocess.Popen[bytes]:
        options = f"--address {self.gcs} --block --num-cpus {cpus} --dashboard-agent-listen-port {free_port()}"
        with open(self.folder / "nodes.log", "a") as log:
            return subprocess.Popen(
                [*RAY, "start", *options.split(), "--disable-usage-stats"],
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for_nodes(self, count: int, seconds: float = 400) -> None:
        """Return when so many nodes are alive."""
        program = "import ray; ray.init(logging_level='ERROR'); print(sum(n['Alive'] for n in ray.nodes()))"
        deadline = time.time() + seconds
        own = {**self.environment(), "RAY_ADDRESS": self.gcs}
        while time.time() < deadline:
            found = subprocess.run([sys.executable, "-c", program], env=own, capture_output=True, text=True)
            if found.stdout.strip() == str(count):
                return
            self.restart_nodes()
        raise AssertionError(f"{count} nodes did not come up: {(self.folder / 'nodes.log').read_text()}")

    def remove_node(self) -> None:
        """kill -9 of the newest node with all its processes, as if its machine had lost its power."""
        kill_group(self.nodes.pop()[0])

    def environment(self, token: str | None = None) -> dict[str, str]:
        """What this node and the commands that talk to it are told; ``token`` replaces the one in the home folder."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        own |= {"HOME": str(self.folder), "RAY_AUTH_MODE": "token"}
        own |= {} if token is None else {"RAY_AUTH_TOKEN": token}
        own |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(self.folder / "ray")}
        # a killed node is known to be dead after five seconds, not fifteen
        own["RAY_health_check_period_ms"] = "1000"
        return own | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}

    def ray(self, *arguments: str, token: str | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        """A `ray` command that has ended."""
        environment = self.environment(token)
        defaults: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 240, "cwd": ROOT}
        return subprocess.run([*RAY, *arguments], env=environment, **defaults | options)

    def job(self, verb: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`ray job VERB` at this node."""
        return self.ray("job", verb, "--address", self.address, *arguments, **options)

    def __enter__(self) -> "HeadNode":
        deadline = time.time() + 400
        while "Ray runtime started" not in self.log.read_text():
            if self.process.poll() is not None or time.time() > deadline:
                text = self.log.read_text()
                self.close()
                raise RuntimeError(f"no head node was started: {text}")
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the node with all that belongs to it."""
        while self.nodes:
            self.remove_node()
        kill_group(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of a process and all that it started, also where it has ended itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
