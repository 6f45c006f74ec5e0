"""Write docs/settings.md from the settings' classes: python docs/make_settings.py."""

import re
from collections.abc import Iterable
from pathlib import Path

from irnas_ray.cli.configuration import KINDS
from irnas_ray.cli.help import Entry, entries

PAGE = Path(__file__).with_name("settings.md")
HEAD = """# Settings

<!-- Written by docs/make_settings.py from the classes in irnas_ray/settings; run it after changing them. -->

Every setting of every command, as `key=value` on the command line or in a YAML file. The value shown is the default of
the class; a search space, a budget and the other files that a command reads may set another one.
`irnas-ray search --help all` shows the values that would run, also beside other words
(`irnas-ray search search_spaces=compact --help all`), and `irnas-ray search --cfg job` prints them as YAML.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page as Markdown: the settings of a study, then what the other commands have beside them."""
    study = list(entries(KINDS["search"]()))
    shared = {entry.key for entry in study}
    parts = [HEAD, "## A study: `search`, `retrain`, `audit`\n", *_tables(study)]
    for name, kind in KINDS.items():
        if name == "search":
            continue
        inherits = issubclass(kind, KINDS["search"])
        own = list(entries(kind()))
        again = [x for x in own if x.key in shared and (inherits or x.value is None or "." in x.key)]
        sections = ", ".join(f"[`{x.key}.*`](#{x.key})" for x in again if x.value is None and "." not in x.key)
        beside = "those of a study" if inherits else sections
        parts += [
            f"## `{name}`\n",
            *([f"Beside {beside}:\n"] if again else []),
            *_tables(x for x in own if x not in again),
        ]
    return "\n".join(parts)


def _tables(listed: Iterable[Entry]) -> list[str]:
    """A table of what stands in no section, then one for each section."""
    lines: dict[str, list[str]] = {"": []}
    for key, value, meaning in listed:
        if value is None:
            lines[key] = [f"### `{key}.*`", "", _cell(meaning), ""]
            continue
        rows = lines[key.rpartition(".")[0]]
        if not rows or not rows[-1].startswith("|"):
            rows += ["| key | default | meaning |", "|---|---|---|"]
        rows.append(f"| `{key}` | {f'`{value}`' if value else ''} | {_cell(meaning)} |")
    return [line for rows in lines.values() if rows for line in [*rows, ""]]


def _cell(text: str) -> str:
    return re.sub(r"docs/(\w+)\.md", r"[\1.md](\1.md)", " ".join(text.split())).replace("|", "\\|")


if __name__ == "__main__":
    main()
