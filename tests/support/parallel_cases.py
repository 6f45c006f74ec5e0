"""Work for processes: functions that they can import."""

import os
import time
from pathlib import Path

from irnas_ray.system.worker_pool import Tick


def square(number: int, tick: Tick) -> int:
    """Ticks as often as the number says."""
    for _ in range(number):
        tick()
    return number * number


def complain_at_three(number: int, tick: Tick) -> int:
    if number == 3:
        raise ValueError("three is too many")
    return square(number, tick)


def die_at_three(number: int, tick: Tick) -> int:
    if number == 3:
        os._exit(9)
    return square(number, tick)


_begun = 0


def begin_at(number: int) -> None:
    global _begun
    _begun = number


def backwards(number: int) -> tuple[int, int]:
    """Also tells what `begin_at` was given in this process."""
    return -number, _begun


def name_and_wait(folder: Path, tick: Tick) -> None:
    """Writes this process's id, then waits for ever."""
    (folder / str(os.getpid())).touch()
    while True:
        time.sleep(0.05)
        tick()
