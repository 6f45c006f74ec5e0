"""How far long work on images is: a bar in a terminal, a few plain lines in a log."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress
from rich.console import Console

from irnas_ray.system.worker_pool import Progress

#: Lines in a log, about.
_LINES = 10
#: Images below which a log gets no lines.
_FEW = 200


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A function to be called with how many images are done, and of how many; shows it on standard error."""
    console = Console(stderr=True)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        yield _lines(what)
        return
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
    rest = (progress.TextColumn("images"), progress.TimeRemainingColumn(elapsed_when_finished=True))
    with progress.Progress(*columns, *rest, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(what: str) -> Progress:
    said = 0

    def show(done: int, total: int) -> None:
        nonlocal said
        tenth = _LINES * done // max(total, 1)
        if tenth > said and total >= _FEW:
            said = tenth
            print(f"{what}: {done} of {total} images", file=sys.stderr, flush=True)

    return show
