"""How a command can end, and the exit statuses by which scripts tell it; 3 is that of a check (``source_check``)."""

import contextlib
from collections.abc import Iterator

#: The work failed; nothing, or not all that is needed for a result, was made.
FAILED = 1
#: The command line is wrong; nothing was begun.
WRONG_COMMAND = 2
#: The study is finished, scored and written, but without configurations or final trainings that failed.
INCOMPLETE = 4
#: Interrupted by Ctrl-C or by a stop signal; what was finished is kept.
INTERRUPTED = 130


STATUSES = (
    "0 all done",
    f"{FAILED} the work failed",
    f"{WRONG_COMMAND} the command line is wrong",
    f"{INCOMPLETE} the study is finished, but a configuration failed under all its seeds, or a final training",
    f"{INTERRUPTED} interrupted",
)


class WrongSetting(ValueError):
    """A setting, or what it names together with the others, is impossible; nothing was begun."""


@contextlib.contextmanager
def checking_settings() -> Iterator[None]:
    """Inside, a ValueError is about the settings, and becomes a ``WrongSetting`` of the same words."""
    try:
        yield
    except ValueError as error:
        raise WrongSetting(str(error)) from error


class Incomplete(Exception):
    """A study is finished, scored and written, but a configuration failed under all its seeds, or a final did."""
