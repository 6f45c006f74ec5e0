"""Connecting to Ray: which cluster, and a clean stop when a job is told to end."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import ray

from irnas_ray.cluster.internals import ASK, joined_address
from irnas_ray.cluster.local_cluster import check_start, start
from irnas_ray.settings.study import Cluster

#: glibc gives large tensors back to the system after every use, and faulting them in again took half of a validation's
#: time on a virtual machine. Workers of a cluster that is started here inherit this.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}
#: Seconds in which a cluster must answer that is to be joined.
PATIENCE = 10
REMEDY = "start it, name one that runs (cluster.address=HOST:PORT), or start one here with cluster.address=local"


def check_connection(cluster: Cluster) -> None:
    """OSError naming the variable or setting and the remedy if ``connect`` would fail; nothing is left of the attempt.

    A cluster that is to be joined is asked for an answer, which takes ten seconds at most.
    """
    if ray.is_initialized():
        return
    address = _address(cluster)
    if address is None:
        check_start()
    else:
        _ask(address, cluster)


def connect(cluster: Cluster) -> str | None:
    """Join the cluster that the settings or the environment name, or start one here; the dashboard's address.

    Raises as ``check_connection``; OSError if Ray does not start; KeyboardInterrupt if it is told to end meanwhile.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # the study prints its own progress; with the old output and verbose=0 Tune prints none
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # checkpoints of small trials follow each other quickly on purpose
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    for name, value in KEEP_MEMORY.items():
        os.environ.setdefault(name, value)
    quiet()
    if ray.is_initialized():
        return None
    _stop_cleanly_on_termination()
    try:
        context = start(cluster.dashboard) if _address(cluster) is None else _join(cluster)
    except SystemExit:
        # while Ray starts, it has a handler of its own for SIGTERM
        raise KeyboardInterrupt from None
    _stop_cleanly_on_termination()
    return context.dashboard_url or None


def asks_for_token() -> bool:
    """Whether the cluster that was joined asks for a token: Ray notes that where it turns it on for a new one."""
    return os.environ.get("RAY_AUTH_MODE") == "token"


def _join(cluster: Cluster) -> Any:
    try:
        # what workers print is kept in Ray's logs; their reports and errors reach the user through the study
        return ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise OSError(f"{_source(cluster)}: cannot join the cluster at {_address(cluster)} ({error})") from None


def _address(cluster: Cluster) -> str | None:
    """Where the cluster is that is to be joined; None where one is to be started here."""
    named = cluster.address or os.environ.get("RAY_ADDRESS")
    if named and "://" in named:
        return named
    try:
        return joined_address(cluster.address)
    except (ConnectionError, ValueError) as error:
        raise OSError(f"{_source(cluster)}: {str(error).partition('. ')[0]}; {REMEDY}") from None


def _source(cluster: Cluster) -> str:
    if cluster.address not in (None, "auto"):
        return "cluster.address"
    return "RAY_ADDRESS" if os.environ.get("RAY_ADDRESS") else "the cluster that `ray start` began here"


def _ask(address: str, cluster: Cluster) -> None:
    """OSError unless a cluster answers at an address within a few seconds, where Ray would wait for minutes."""
    deadline = time.monotonic() + PATIENCE
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        socket.create_connection((place.hostname or "", place.port or 10001), timeout=PATIENCE / 2).close()
        if "://" not in address:
            left = deadline - time.monotonic()
            subprocess.run([sys.executable, "-P", "-c", ASK, address], capture_output=True, timeout=left, check=True)
    except subprocess.TimeoutExpired:
        reason = f"no answer within {PATIENCE} s"
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"status {error.returncode}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    else:
        return
    raise OSError(f"{_source(cluster)}: no Ray cluster answers at {address} ({reason}); {REMEDY}")


def _stop_cleanly_on_termination() -> None:
    """Turn SIGTERM, which `ray job stop` sends, and the loss of the terminal into the interrupt on which Tune saves."""
    if threading.current_thread() is not threading.main_thread():
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # a shell lets what it runs in the background ignore Ctrl-C, as launchers/cluster/slurm.sh does the study
            signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGTERM, interrupt)
    # nohup lets a run ignore that its terminal is gone
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)


def quiet() -> None:
    """Keep Ray's own libraries silent in this process: the study prints its own progress and every trial's error."""
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("optuna").setLevel(logging.WARNING)
