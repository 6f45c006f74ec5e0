"""Bounds of settings, and the words that they may be: kept with the field that they limit, and checked all at once."""

import dataclasses
from collections.abc import Callable
from operator import ge, gt, le, lt
from typing import Any, get_args

#: What a field's metadata may hold: how a value is compared with the bound, and how that is said.
_BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "at_least": (ge, "at least"),
    "more_than": (gt, "more than"),
    "at_most": (le, "at most"),
    "less_than": (lt, "less than"),
}


def bounded(default: Any, **bounds: float) -> Any:
    """A dataclass field with a default and bounds: ``at_least``, ``more_than``, ``at_most``, ``less_than``.

    null is always allowed.
    """
    assert bounds.keys() <= _BOUNDS.keys()
    return dataclasses.field(default=default, metadata={"bounds": bounds})


def one_of(default: Any, *further: Any) -> Any:
    """A dataclass field that is its default or one of some further words; null only where that is the default."""
    return dataclasses.field(default=default, metadata={"words": (default, *further)})


def some_of(words: tuple[str, ...], *default: str) -> Any:
    """A dataclass field that is a list of such words."""
    return dataclasses.field(default_factory=lambda: list(default), metadata={"words": words})


def check_bounds(settings: Any, prefix: str = "") -> None:
    """ValueError naming the first setting, by its dotted key, outside the bounds or the words of its field.

    ``settings`` is a dataclass whose fields may be dataclasses again.
    """
    for field in dataclasses.fields(settings):
        key, value = f"{prefix}{field.name}", getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check_bounds(value, f"{key}.")
        _check_words(key, value, field.metadata.get("words"))
        bounds = field.metadata.get("bounds", {})
        if value is not None and not all(_BOUNDS[name][0](value, bound) for name, bound in bounds.items()):
            raise ValueError(f"{key}: {value}; {bounds_of(field)}")


def _check_words(key: str, value: Any, words: tuple[Any, ...] | None) -> None:
    for word in value if isinstance(value, list) else [value]:
        # True and 1.0 are equal to 1
        if words is not None and not any(word == known and type(word) is type(known) for known in words):
            possible = ", ".join("null" if known is None else str(known) for known in words)
            raise ValueError(f"{key}: unknown {word!r}; possible: {possible}")


def bounds_of(field: dataclasses.Field) -> str:
    """The bounds of a field in words; empty where it has none."""
    bounds = field.metadata.get("bounds", {})
    words = " and ".join(f"{_BOUNDS[name][1]} {bound}" for name, bound in bounds.items())
    return f"{words}, or null" if words and type(None) in get_args(field.type) else words
