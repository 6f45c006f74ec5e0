"""What is used of Ray beyond its documented interface below ``tune``, whose ``internals`` says more."""

import contextlib
from collections.abc import Iterator
from typing import Any

import ray
from ray._private import ray_constants, services

#: Set by Ray for the driver of a job: a job has no documented way to know that it is one.
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
#: The folder in which Ray unpacks what `ray job submit --working-dir` uploads; nothing else tells a copy from a place
#: that lasts.
COPIES = "working_dir_files"
#: The longest path of a socket below the folder that Ray is given; what stands for its time and its driver is as long.
LONGEST_SOCKET = "session_2026-11-29_05-20-05_705920_{pid}/sockets/dash_MetricsHead"
#: Run with an address as argument it ends once a cluster has answered there: the public ways wait for minutes, and
#: cannot be given up from within the process that asks.
ASK = "import sys, ray; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"
#: What starts a cluster whose workers import a module before all else; the documented hook would give trials an
#: environment of their own, and so no process that was started ahead.
FIRST_IMPORT = {"preload_python_modules": ["irnas_ray.system.rare_collection"]}


def free_resources() -> dict[str, dict[str, float]]:
    """Node id -> what nobody holds of its resources; `ray.available_resources` adds the nodes up."""
    return ray._private.state.available_resources_per_node()


def joined_address(address: str | None) -> str | None:
    """The ``host:port`` that ``ray.init(address)`` would join; None where it would start a cluster here."""
    resolve: Any = services.canonicalize_bootstrap_address
    return resolve(address)


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """A cluster that is started inside listens on 127.0.0.1 alone.

    Ray does so itself on systems where a cluster has one node; ``_node_ip_address="127.0.0.1"`` it replaces by the
    machine's address in its network.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
