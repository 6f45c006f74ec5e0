"""How far long work on images is: a bar in a terminal, a few plain lines in a log."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from irnas_ray.system.worker_pool import Progress

#: Lines in a log, about.
_LINES = 10
#: Images below which a log gets no lines.
_FEW = 200


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A function to be called with how many images are done, and of how many; shows it on standard error."""
    if not sys.stderr.isatty():
        yield _lines(what)
        return
    with tqdm(desc=what, unit=" images", leave=False, dynamic_ncols=True) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _lines(what: str) -> Progress:
    said = 0

    def show(done: int, total: int) -> None:
        nonlocal said
        tenth = _LINES * done // max(total, 1)
        if tenth > said and total >= _FEW:
            said = tenth
            print(f"{what}: {done} of {total} images", file=sys.stderr, flush=True)

    return show
