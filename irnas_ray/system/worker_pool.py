"""Work spread over processes: the same results whatever their number, and nobody left behind when one is killed."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Called with how many images are done, and of how many.
Progress = Callable[[int, int], None]
#: Called by work after each image.
Tick = Callable[[], None]

#: Seconds between two looks at how far the processes are.
_LOOK = 0.2
#: Bytes that a process needs beside its largest image, and how often it holds that image's pixels.
_BASE_BYTES, _COPIES = 256 * 2**20, 6


class WorkerKilled(ValueError):
    """A process was killed from outside; what the others had finished is good."""


class _Stopped(Exception):
    """Work was given up because other work failed."""


def run_tasks(
    work: Callable[[Task, Tick], Result],
    tasks: Sequence[Task],
    workers: int,
    progress: Progress | None = None,
    done: int = 0,
    total: int = 0,
) -> list[Result]:
    """``[work(task, tick) for task in tasks]``, by up to `workers` processes, or in this one if that is one.

    `progress` is called with `done` more than the ticks so far, and `total`. The first exception that `work` raises
    ends the others after their current image and is raised here; WorkerKilled if a process was killed.
    """
    if min(workers, len(tasks)) <= 1:
        ticks = iter(range(done + 1, done + total + 1))
        return [work(task, lambda: progress(next(ticks), total) if progress else None) for task in tasks]
    # Not forked from here, where threads of Ray or torch may hold locks.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "irnas_ray.datasets.writer"])
    counter, stop = context.Value("q", done), context.Event()

    def look() -> None:
        if progress:
            progress(counter.value, total)

    with ProcessPoolExecutor(min(workers, len(tasks)), context, _begin, (counter, stop)) as pool:
        with _stopping(pool, stop):
            futures = [pool.submit(_run, work, task) for task in tasks]
            _await(futures, look)
            return [future.result() for future in futures]


def choose_workers(wanted: int | None, largest_image: int) -> int:
    """How many processes to use: as many as wanted, else one for each core that memory allows.

    `largest_image` is in bytes of pixels. ValueError if fewer than one is wanted.
    """
    if wanted is not None:
        if wanted < 1:
            raise ValueError(f"workers: {wanted}; at least 1")
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _memory() // 2 // (_BASE_BYTES + _COPIES * largest_image)))


def _memory() -> int:
    """Bytes of memory that this process may use."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(found, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return found


def _await(futures: list[Future], look: Callable[[], None]) -> None:
    waiting = set(futures)
    while waiting:
        finished, waiting = wait(waiting, timeout=_LOOK, return_when=FIRST_COMPLETED)
        for future in finished:
            try:
                future.result()
            except BrokenProcessPool as error:
                message = "a process was killed, most likely for want of memory; use fewer with workers=N"
                raise WorkerKilled(message) from error
        look()


@contextmanager
def _stopping(pool: ProcessPoolExecutor, stop: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stop.set()
        pool.shutdown(cancel_futures=True)
        raise


_counter: Any = None
_stop: Any = None


def _begin(counter: Any, stop: Any) -> None:
    global _counter, _stop
    _counter, _stop = counter, stop
    # Ctrl-C reaches every process of a terminal; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed parent says nothing, and processes of a pool would wait for its next task for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(work: Callable[[Task, Tick], Result], task: Task) -> Result:
    return work(task, _tick)


def _tick() -> None:
    if _stop.is_set():
        raise _Stopped
    with _counter.get_lock():
        _counter.value += 1
