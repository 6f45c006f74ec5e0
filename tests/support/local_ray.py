"""A Ray of a test file's own, in its process."""

import gc
import threading
from typing import Any


def streams() -> int:
    """How many executions of Ray Data this process has, but for those that nobody holds any more."""
    return _threads("StreamingExecutor")


def reads() -> bool:
    """Whether a thread of Ray Data is still at work, which may outlive the execution of a stream that was dropped."""
    return _threads("StreamingExecutor", "iter_threaded") > 0


def _threads(*names: str) -> int:
    gc.collect()
    return sum(any(name in thread.name for name in names) for thread in threading.enumerate())


def start_ray(**resources: float) -> dict[str, Any]:
    """Start a local Ray with these resources and return what its context says of addresses.

    A start that takes longer than Ray waits, as on a busy machine, is tried again.
    """
    import ray

    for left in reversed(range(10)):
        try:
            context = ray.init(**resources, include_dashboard=False, log_to_driver=False)  # type: ignore[arg-type]
            return dict(context.address_info)
        except Exception as error:
            ray.shutdown()
            if not left or "timed out during startup" not in str(error):
                raise
    raise AssertionError("unreachable")
