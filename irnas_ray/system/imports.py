"""Imports of large libraries: nothing of what they make is garbage, and looking for it takes a fifth of the time."""

import contextlib
import gc
from collections.abc import Iterator

#: When Python collects garbage by itself.
USUAL = gc.get_threshold()


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage meanwhile."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def collect_rarely() -> None:
    """Collect garbage rarely until ``collect_as_usual``: once in 50,000 objects that are kept."""
    gc.set_threshold(50_000, 20, 20)


def collect_as_usual() -> None:
    """Collect garbage as Python does by itself."""
    gc.set_threshold(*USUAL)
