"""How a command says what is wrong."""

import sys

#: The installed command.
PROGRAM = "irnas-ray"
#: Lines of OmegaConf's errors that name its own types.
INNER = ("full_key", "object_type", "reference_type")


def complain(error: object, status: int) -> int:
    """Say on stderr what is wrong; the status."""
    print(f"error: {error}", file=sys.stderr)
    return status


def first_lines(error: object) -> str:
    """An error of a library in one line."""
    return "; ".join(line.strip() for line in own_lines(error)[:3])


def own_lines(error: object) -> list[str]:
    """The lines of a library's error, without those that only its authors need."""
    return [line for line in str(error).splitlines() if line.strip() and not line.strip().startswith(INNER)]
