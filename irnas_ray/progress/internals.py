"""What is used of Tune beyond its documented interface below ``tune``, whose ``internals`` says more."""

from typing import Any


def last_line(trial: Any) -> str:
    """The last line of a failed trial's error, which names the cause; callbacks are documented to get no error."""
    try:
        with open(trial.error_file) as file:
            lines = [line.strip() for line in file if line.strip()]
        return lines[-1] if lines else "no message"
    except (OSError, TypeError):
        return "no message"
