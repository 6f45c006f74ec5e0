"""Runs of Tune that were begun before the package had rooms: their records name modules where they were then."""

import contextlib
import importlib
import sys
from collections.abc import Iterator

#: Former module -> where what records name of it is now.
MOVED = {"irnas_ray.tuning": "irnas_ray.tune.runner", "irnas_ray.accumulation": "irnas_ray.training.accumulation"}


@contextlib.contextmanager
def moved_modules_found() -> Iterator[None]:
    """Within it, what is unpickled may name a former module; what is pickled names the present one."""
    sys.modules.update({former: importlib.import_module(present) for former, present in MOVED.items()})
    try:
        yield
    finally:
        for former in MOVED:
            sys.modules.pop(former, None)
