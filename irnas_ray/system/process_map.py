"""Work on many items side by side in other processes, in order and in bounded memory."""

import collections
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Self, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Most items that wait for other processes or for their results to be asked for; bounds the memory.
AHEAD = 64


class Processes:
    """Other processes, each with one thread, that are started when they are first asked for and end with the block.

    Args:
        count: How many; one: none are ever started.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def executor(self) -> Executor | None:
        """The processes as an executor, or None if there are none."""
        if self._executor is None and self.count > 1:
            # Forked processes would share the locks of torch's threads in whatever state they are.
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self.count, context, initializer=torch.set_num_threads, initargs=(1,))
        return self._executor


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], executor: Executor | None = None
) -> Iterator[Result]:
    """Applies a function to items and yields the results in order.

    With an executor, up to ``AHEAD`` items are worked on before their results are asked for; to other processes,
    function and items must be sendable. Without one they are worked on in turn, here.
    """
    if executor is None:
        yield from map(function, items)
        return
    waiting: collections.deque[Future[Result]] = collections.deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
