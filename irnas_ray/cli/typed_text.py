"""Text as it was typed: settings that are text reach Hydra in quotes, so that its syntax changes nothing in them."""

import dataclasses
import re
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

#: Types of settings that are text; Any is text, or a list or dict of it.
TEXT = (str, str | None, Any)
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
#: A word in a list or dict that stands alone, as 1.10 and true do; what is in quotes, or has a colon, is passed over.
_ELEMENT = re.compile(rf"{_QUOTED}|(?P<space>(?<=[\[,])\s*|(?<=:)\s+)(?P<word>[\w.+-]+)(?=\s*[,\]}}])", re.DOTALL)
#: What opens a reference to another setting and does not close it.
_OPEN = re.compile(r"(\\*)\$\{(?![^{}]*\})")


def type_of(kind: Any, key: str) -> Any:
    """The type of the setting of a dotted key; None if there is no such setting."""
    for name in key.split("."):
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        kind = next((field.type for field in fields if field.name == name), None)
    return kind


def as_typed(hint: Any, text: str) -> str:
    """A value in Hydra's syntax that is the text itself if the setting's type is text, or text among others.

    Null stays null where the type allows it, references such as ``${study}`` stay references, text in Hydra's own
    quotes loses them; where lists are possible, they and dicts keep Hydra's syntax, with their words as they are.
    """
    if hint == list[str]:
        return _ELEMENT.sub(_element, text)
    if hint not in TEXT:
        return text
    if re.fullmatch(_QUOTED, text, re.DOTALL) or (text == "null" and hint is not str):
        return text
    if hint is Any and (text[:1], text[-1:]) in (("[", "]"), ("{", "}")):
        return _ELEMENT.sub(_element, text)
    return in_quotes(_OPEN.sub(r"\1\1\\${", text))


def elements_as_typed(hint: Any, text: str) -> str:
    """A list of values for a setting, in Hydra's syntax, whose words stay what they are if its type is text."""
    return _ELEMENT.sub(_element, text) if hint in TEXT else text


def _element(match: re.Match[str]) -> str:
    word = match["word"]
    return match[0] if word in (None, "null") else match["space"] + in_quotes(word)


def in_quotes(text: str) -> str:
    """Text in Hydra's quotes."""
    return QuotedString(text=text, quote=Quote.single).with_quotes()
