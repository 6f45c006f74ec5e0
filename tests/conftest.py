"""Fixtures that more than one test file needs."""

import atexit
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator

# Before torch is first imported, here and in all processes that tests start: more of them than cores compute at a time,
# and threads that wait by spinning would keep the others from work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest
import torch
from beartype import BeartypeConf, beartype
from floors import FLOOR, RAY
from jaxtyping import config, install_import_hook
from local_ray import reads, start_ray

# Before triton is first imported: without a GPU its kernels are interpreted, on tensors of the CPU.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

torch.set_num_threads(1)  # tensors of tests are small, and the cores are shared

# Annotations are checked in every test, but in the rooms of Ray; before irnas_ray is first imported.
typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # a whole number is a float, as mypy has it
install_import_hook([f"irnas_ray.{room}" for room in sorted(FLOOR.keys() - RAY)], "conftest.typechecker")

# A busy machine is slow; no test asserts speed.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

# Before ray is first imported, or it reports usage.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

# Several test processes run side by side, and a Ray that one of them starts must not be joined by another. Short,
# because the paths of sockets below it are limited to 107 bytes.
os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray", dir="/tmp")
atexit.register(shutil.rmtree, os.environ["RAY_TMPDIR"], ignore_errors=True)


#: The files that take longest.
LONG = ("test_survival.py", "test_study.py", "test_interrupting.py", "test_first_layout.py", "test_perturbation.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, or one process would be alone with one of them at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="module", autouse=True)
def no_ray_left() -> Iterator[None]:
    """No file finds a Ray that the one before it in the same process left connected, as commands run in place do."""
    _leave_ray()
    yield
    _leave_ray()


def _leave_ray() -> None:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        # a thread of Ray Data that still runs a dropped stream would end this process when it finds no Ray
        deadline = time.monotonic() + 60
        while reads() and time.monotonic() < deadline:
            time.sleep(0.05)
        ray.shutdown()


@pytest.fixture(scope="module")
def ray_local(no_ray_left: None) -> None:
    """One local Ray with two CPUs for a test file; other files of the same process have Rays of their own."""
    start_ray(num_cpus=2)


@pytest.fixture
def unannotated() -> Iterator[None]:
    """Annotations are not checked, as in production: to see what a function itself says to a wrong shape."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
