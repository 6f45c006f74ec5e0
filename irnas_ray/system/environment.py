"""What a result depends on beside its settings: versions of libraries, and the machine."""

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import irnas_ray

#: Distributions whose versions can change a score.
LIBRARIES = ("torch", "numpy", "scipy", "scikit-image", "PyWavelets", "pillow", "bm3d")


def versions(distributions: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Returns the versions of this package, of Python and of those distributions that are installed."""
    found = {"irnas_ray": irnas_ray.__version__, "python": platform.python_version()}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Returns the processor's name, the cores that this process may use, memory in GiB, and the GPU's name if any."""
    found: dict[str, Any] = {"processor": _processor(), "cores": usable_cores()}
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found["memory_gib"] = round(pages / 2**30, 1)
    found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    # platform.processor() is empty or only the architecture on most Linux systems.
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
