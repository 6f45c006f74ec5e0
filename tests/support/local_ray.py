"""A Ray of a test file's own, in its process."""

import gc
import threading
from typing import Any


def streams() -> int:
    """How many executions of Ray Data this process has, but for those that nobody holds any more."""
    gc.collect()
    return sum("StreamingExecutor" in thread.name for thread in threading.enumerate())


def reads() -> bool:
    """Whether a thread of Ray Data is still at work for a stream that was dropped."""
    gc.collect()
    return any(
        name in thread.name for thread in threading.enumerate() for name in ("StreamingExecutor", "iter_threaded")
    )


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
