"""A table, printed as Markdown here and set as HTML by the templates."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of text under headers; a header that starts with ``>`` stands over numbers, which are set to the right."""

    headers: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """The table in Markdown, with bars in cells escaped."""
        lines = [[header.removeprefix(">") for header in self.headers]]
        lines += [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in self.rows]
        head, *body = [f"| {' | '.join(line)} |\n" for line in lines]
        rule = "|".join("---:" if header.startswith(">") else "---" for header in self.headers)
        return f"{head}|{rule}|\n{''.join(body)}"


def number(value: Any, digits: int = 0) -> str:
    """A number with thousands separated and so many decimals; a dash where there is none."""
    if not isinstance(value, int | float) or math.isnan(value):
        return "–"
    return f"{value:,.{digits}f}"


def duration(seconds: Any) -> str:
    """Seconds in the unit that suits them."""
    if not isinstance(seconds, int | float):
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
