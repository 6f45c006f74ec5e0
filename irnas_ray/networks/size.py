"""How large a network may be: what is absurd is refused before it is built."""

#: Parameters and candidate operators beyond which no network or supernet is built: a thousand times those of the paper.
MOST_PARAMETERS, MOST_CANDIDATES = 10**9, 10**5


def check_parameters(least: int) -> None:
    """ValueError if a network of at least so many parameters is too large; called before it is built."""
    if least > MOST_PARAMETERS:
        raise ValueError(f"a network of more than {least:.1e} parameters; at most {MOST_PARAMETERS:.0e} are built")
