"""What a command says: ``--help``, with the comment that stands above each key in ``settings``, and errors."""

import dataclasses
import inspect
import re
import sys
import textwrap
from typing import Any

from irnas_ray.system.exit_status import INCOMPLETE, STATUSES

#: The installed command.
PROGRAM = "irnas-ray"


def complain(error: object, status: int) -> int:
    """Say on stderr what is wrong; the status."""
    print(f"error: {error}", file=sys.stderr)
    return status


def first_lines(error: BaseException) -> str:
    """An error of a library in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(line for line in lines[:3] if not line.startswith(("object_type", "full_key")))


def describe(name: str, kind: type, description: str, groups: dict[str, list[str]]) -> str:
    """What a command does, the configuration groups it takes, and all keys with defaults and meanings."""
    usage = f"usage: {PROGRAM} {name} [key=value ...], or in a clone: python launchers/{name}.py [key=value ...]"
    lines = [description.strip(), "", usage, ""]
    fields = {field.name for field in dataclasses.fields(kind)}
    known = {group: names for group, names in groups.items() if group in fields or "domains" in fields}
    for group, names in known.items():
        lines.append(f"  {group}=NAME, one of: {', '.join(names)}")
    lines += ["", "keys (defaults before the chosen files are applied):", *_fields(kind, "")]
    if "exit status" not in description.lower():
        # only a study can be finished in part
        known_statuses = [x for x in STATUSES if "domains" in fields or not x.startswith(str(INCOMPLETE))]
        lines += ["", f"exit status: {', '.join(known_statuses)}"]
    return "\n".join(lines)


def _fields(kind: type, prefix: str) -> list[str]:
    comments = _comments(kind)
    lines: list[str] = []
    for field in dataclasses.fields(kind):
        default = _default(field)
        if dataclasses.is_dataclass(default):
            lines += ["", *_fields(type(default), f"{prefix}{field.name}.")]
            continue
        comment = comments.get(field.name, "")
        head = f"  {prefix}{field.name}={_shown(default)}"
        lines += textwrap.wrap(f"{head:<40} {comment}", 118, subsequent_indent=" " * 41)
    return lines


def _comments(kind: type) -> dict[str, str]:
    """Field name -> the ``#:`` comment above it; fields without one share the comment of the field before."""
    found: dict[str, str] = {}
    pending: list[str] = []
    shared = ""
    sources = [inspect.getsource(base) for base in reversed(kind.__mro__) if dataclasses.is_dataclass(base)]
    for line in "\n".join(sources).splitlines():
        comment = re.match(r"\s*#: ?(.*)", line)
        field = re.match(r"    (\w+): ", line)
        if comment:
            pending.append(comment.group(1))
        elif field:
            shared = " ".join(pending) if pending else shared
            found[field.group(1)] = shared
            pending = []
    return found


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else "REQUIRED"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return "[" + ",".join(map(str, value)) + "]"
    return str(value)
