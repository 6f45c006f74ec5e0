"""What a result depends on beside its settings: versions of libraries, the machine, and variables of the process."""

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from irnas_ray import __version__

PYTHON = "python"


def versions(*names: str) -> dict[str, str]:
    """The versions of this package, and of those of the named distributions that are installed; ``PYTHON`` is one."""
    found = {"irnas_ray": __version__}
    for name in names:
        try:
            found[name] = platform.python_version() if name == PYTHON else importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@contextlib.contextmanager
def variable_set(name: str) -> Iterator[None]:
    """Inside, a variable of the environment is ``1``, also for processes that are started; then it is as before."""
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def hardware() -> dict[str, Any]:
    """The processor's name, the cores and the GiB of memory that this process may use, and the GPU's name if any."""
    # Imported here because processes that prepare images do without torch.
    import torch

    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gib": round(usable_memory() / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_memory() -> int:
    """Bytes of memory that this process may use."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(found, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return found


def _processor() -> str:
    # platform.processor() is empty or only the architecture on most Linux systems.
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
