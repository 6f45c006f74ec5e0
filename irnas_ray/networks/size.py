"""How large a network may be: what is absurd is refused before it is built."""

from typing import Any

#: Parameters and candidate operators beyond which no network or supernet is built: a thousand times those of the paper.
MOST_PARAMETERS, MOST_CANDIDATES = 10**9, 10**5


def check_parameters(least: int) -> None:
    """ValueError if a network of at least so many parameters is too large; called before it is built."""
    if least > MOST_PARAMETERS:
        # what a float cannot hold cannot be written so
        shown = f"{min(least, 10**99):.1e}"
        raise ValueError(f"a network of more than {shown} parameters; at most {MOST_PARAMETERS:.0e} are built")


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A number of channels, layers or the like as Python's own, which files of networks hold.

    Raises ValueError naming it unless it is whole, at least ``least``, and at most ``most``.
    """
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or number != value or isinstance(value, bool):
        raise ValueError(f"{name}: {value!r}; a whole number is needed")
    if number < least:
        raise ValueError(f"{name}: {number}; at least {least}")
    if most is not None and number > most:
        raise ValueError(f"{name}: {number}; at most {most}")
    return number
