"""``--help``: what a command does, its settings as they would be now, and the comments that stand above them."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from irnas_ray.cli.messages import PROGRAM
from irnas_ray.settings.bounds import bounds_of
from irnas_ray.system.exit_status import INCOMPLETE, STATUSES

#: Command -> the settings that a first call most likely needs, in the order in which others take them.
FIRST = {
    "prepare": ("data.source", "data.output"),
    "search": ("search_spaces",),
    "retrain": ("genotype",),
    "evaluate": ("network",),
    "restore": ("network", "input", "output"),
    "networks": ("network",),
    "export": ("network",),
    "analyze": ("study",),
    "audit": ("search_spaces",),
}
#: Command -> further settings of the short help.
OFTEN = {
    "prepare": ("data.color", "data.patch", "freeze", "check", "check_against"),
    "search": ("study", "results", "resume", "data.source", "tune.trials", "cluster.gpus_per_trial"),
    "retrain": ("network", "study", "results", "resume", "data.source", "final.steps", "final.minutes", "compare"),
    "evaluate": ("method", "restored", "protocol", "sigma", "data.source", "output"),
    "restore": ("color", "tile", "overwrite"),
    "networks": (),
    "export": ("format", "output", "overwrite"),
    "analyze": ("top", "output", "against"),
    "audit": (
        "study",
        "results",
        "resume",
        "data.source",
        "search.method",
        "audit.runs",
        "audit.images",
        "audit.budget",
    ),
}
ALL = "all"


def describe(name: str, settings: Any, description: str, groups: dict[str, list[str]], topic: str = "") -> str:
    """What a command does, the configuration groups it takes, and keys with values and meanings.

    The keys are those used most, with ``topic`` those that begin with it, with ``"all"`` all. ValueError if none does.
    """
    lines = {entry.key: _lines(entry) for entry in entries(settings)}
    sections = [field.name for field in dataclasses.fields(settings)]
    shown = [key for key in lines if topic == ALL or key == topic or key.startswith(f"{topic}.")]
    if topic and not shown:
        raise ValueError(f"--help {topic}: there is no such key; possible: {ALL}, {', '.join(sections)}")
    usage = f"usage: {PROGRAM} {name} [key=value ...], or in a clone: python launchers/{name}.py [key=value ...]"
    text = [description.strip(), "", usage, ""]
    known = {group: names for group, names in groups.items() if group in sections or "domains" in sections}
    text += [f"  {group}=NAME, one of: {', '.join(names)}" for group, names in known.items()] + [""] * bool(known)
    if not topic:
        text += [
            f"{name} --help all lists every key, --help KEY those that begin so; {name} --cfg job prints the settings",
            "that the words beside it give, and runs nothing",
            "",
        ]
        shown = [key for key in (*FIRST[name], *OFTEN[name]) if key in lines]
    text += [f"keys{'' if topic else ' used most'}, with the values they have without others:"]
    text += [line for key in shown for line in lines[key]]
    if "exit status" not in description.lower():
        # only a study can be finished in part
        known_statuses = [x for x in STATUSES if "domains" in sections or not x.startswith(str(INCOMPLETE))]
        text += ["", f"exit status: {', '.join(known_statuses)}"]
    return "\n".join(text)


class Entry(NamedTuple):
    """A setting, or a section of them, whose value is null and whose meaning is what the section is."""

    key: str
    value: str | None
    meaning: str


def entries(settings: Any, prefix: str = "") -> Iterator[Entry]:
    """All settings with their dotted keys, values as they would be typed, and meanings with bounds; sections, too."""
    comments = comments_of(type(settings))
    for field in dataclasses.fields(settings):
        key, value = f"{prefix}{field.name}", getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield Entry(key, None, (inspect.getdoc(value) or "").partition("\n")[0])
            yield from entries(value, f"{key}.")
            continue
        bounds = bounds_of(field)
        meaning = f"{comments.get(field.name, '')} {bounds[:1].upper()}{bounds[1:]}{'.' if bounds else ''}"
        yield Entry(key, _shown(value), meaning)


def _lines(entry: Entry) -> list[str]:
    if entry.value is None:
        return ["", f"{entry.key}: {entry.meaning}"]
    return textwrap.wrap(f"{f'  {entry.key}={entry.value}':<40} {entry.meaning}", 118, subsequent_indent=" " * 41)


def comments_of(kind: type) -> dict[str, str]:
    """Field of a dataclass -> the ``#:`` comment that stands directly above it."""
    found: dict[str, str] = {}
    sources = [inspect.getsource(base) for base in reversed(kind.__mro__) if dataclasses.is_dataclass(base)]
    pending: list[str] = []
    for line in "\n".join(sources).splitlines():
        comment = re.match(r"\s*#: ?(.*)", line)
        field = re.match(r"    (\w+): ", line)
        if comment:
            pending.append(comment.group(1))
            continue
        if field and pending:
            found[field.group(1)] = " ".join(pending)
        pending = []
    return found


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return "[" + ",".join(map(_shown, value)) + "]"
    if isinstance(value, dict):
        # a domain is longer than what can be said of it here
        return "{" + ", ".join(f"{name}: ..." for name in value) + "}"
    return str(value)
