"""Connecting to Ray: which cluster, and a clean stop when a job is told to end."""

import logging
import os
import signal
import threading
from types import FrameType

import ray

from irnas_ray.settings.study import Cluster

#: glibc gives large tensors back to the system after every use, and faulting them in again took half of a validation's
#: time on a virtual machine. Workers of a cluster that is started here inherit this.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}


def connect(cluster: Cluster) -> str | None:
    """Join the cluster that the settings or the environment name, or start one here; the dashboard's address.

    Raises ValueError if the address does not answer.
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
    try:
        # what workers print is kept in Ray's logs; their reports and errors reach the user through the study
        context = ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(f"cluster.address: cannot join {cluster.address or 'a local cluster'} ({error})") from None
    _stop_cleanly_on_termination()
    return context.dashboard_url or None


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
