"""Work spread over processes: the same results whatever their number, and nobody left behind when one is killed."""

import collections
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import forkserver
from typing import Any, TypeVar

from irnas_ray.system.environment import usable_cores, usable_memory, variable_set

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Called with how many images are done, and of how many.
Progress = Callable[[int, int], None]
#: Called by work after each image.
Tick = Callable[[], None]

#: Most items that wait for other processes or for their results to be asked for; bounds the memory.
AHEAD = 64
#: Seconds between two looks at how far the processes are.
_LOOK = 0.2
#: Bytes that a process needs beside its largest image, and how often it holds that image's pixels.
_BASE_BYTES, _COPIES = 256 * 2**20, 6

#: By default Python's helper processes look for modules in the current folder first.
_SAFE_PATH = "PYTHONSAFEPATH"


class WorkerKilled(ValueError):
    """A process was killed from outside; what the others had finished is good."""


class _Stopped(Exception):
    """Work was given up because other work failed."""


class WorkerPool:
    """Processes that are started when work first comes, and end with the block or with this process.

    Where the block fails they end after their current image.

    Args:
        count: How many; one: none are ever started.
        module: What they import before they are divided, most often the module of the work.
        setting: The name of the setting that tells how many, for the user of whom one was killed.
        begin: Called in each process first.
    """

    def __init__(self, count: int, module: str, setting: str, begin: Callable[[], Any] | None = None) -> None:
        self.count, self._module, self._setting, self._begin = count, module, setting, begin
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if self._pool is not None:
            if failure is not None:
                self._stop.set()
            self._pool.shutdown(cancel_futures=True)

    def map(
        self,
        work: Callable[[Task], Result],
        items: Iterable[Task],
        ahead: int = AHEAD,
        look: Callable[[int], object] = lambda ticks: None,
    ) -> Iterator[Result]:
        """Applies work to items and yields the results in order; both must be sendable to other processes.

        Up to `ahead` items are worked on before their results are asked for. `look` is called now and then with the
        number of ticks so far. Of several exceptions the first one is raised, without waiting for the items before it;
        WorkerKilled if a process was killed.
        """
        if self.count <= 1:
            yield from map(work, items)
            return
        waiting: collections.deque[Future[Result]] = collections.deque()
        try:
            pool = self._started()
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > ahead:
                    yield self._next(waiting, look)
            while waiting:
                yield self._next(waiting, look)
        except (BrokenProcessPool, OSError) as error:
            if self._pool is None or not self._pool._broken:
                raise
            self._kill()
            message = f"a process was killed, most likely for want of memory; use fewer with {self._setting}=N"
            raise WorkerKilled(message) from error
        finally:
            for future in waiting:
                future.cancel()

    def _kill(self) -> None:
        # Python ends the others when one dies, but not one that was just being started, and waits for it for ever:
        # its documented remedy, `kill_workers`, comes with 3.14.
        assert self._pool is not None
        for process in list(self._pool._processes.values()):
            process.kill()

    def _next(self, waiting: collections.deque[Future[Result]], look: Callable[[int], object]) -> Result:
        while not waiting[0].done():
            wait([waiting[0]], timeout=_LOOK)
            for future in waiting:
                if future.done():
                    future.result()
            # what was submitted just as a process died has no result ever
            if self._pool is not None and self._pool._broken:
                raise BrokenProcessPool(self._pool._broken)
            look(self._counter.value)
        return waiting.popleft().result()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not forked from here, where threads of Ray or torch may hold locks.
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["__main__", self._module])
            # nothing is to be imported from the current folder, which may be one of data
            with variable_set(_SAFE_PATH):
                self._counter, self._stop = context.Value("q", 0), context.Event()
                forkserver.ensure_running()
            self._pool = ProcessPoolExecutor(self.count, context, _start, (self._counter, self._stop, self._begin))
        return self._pool


def run_tasks(
    work: Callable[[Task, Tick], Result],
    tasks: Sequence[Task],
    workers: int,
    progress: Progress | None = None,
    done: int = 0,
    total: int = 0,
    module: str | None = None,
) -> list[Result]:
    """``[work(task, tick) for task in tasks]``, by up to `workers` processes, or in this one if that is one.

    `progress` is called with `done` more than the ticks so far, and `total`. Processes import `module` (None: that of
    the work) before they are divided, if they are the first that this process starts. The first exception that `work`
    raises ends the others after their current image and is raised here; WorkerKilled if a process was killed.
    """
    tell = progress or (lambda done, total: None)
    if min(workers, len(tasks)) <= 1:
        ticks = iter(range(done + 1, done + total + 1))
        return [work(task, lambda: tell(next(ticks), total) if progress else None) for task in tasks]
    with WorkerPool(min(workers, len(tasks)), module or work.__module__, "workers") as pool:
        results = pool.map(partial(_run, work), tasks, len(tasks), lambda ticks: tell(done + ticks, total))
        return list(results)


def choose_workers(wanted: int | None, largest_image: int) -> int:
    """How many processes to use: as many as wanted, else one for each core that memory allows.

    `largest_image` is in bytes of pixels. ValueError if fewer than one is wanted.
    """
    if wanted is not None:
        if wanted < 1:
            raise ValueError(f"workers: {wanted}; at least 1")
        return wanted
    return max(1, min(usable_cores(), usable_memory() // 2 // (_BASE_BYTES + _COPIES * largest_image)))


_counter: Any = None
_stop: Any = None


def _start(counter: Any, stop: Any, begin: Callable[[], Any] | None) -> None:
    global _counter, _stop
    _counter, _stop = counter, stop
    # Ctrl-C reaches every process of a terminal; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if begin is not None:
        begin()


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
