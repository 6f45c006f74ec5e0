"""The settings that arguments of a command give, and the keys of all settings."""

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

from irnas_ray.cli.command_line import compose_settings
from irnas_ray.settings import audit, commands, study
from irnas_ray.settings.study import StudyConfig

ROOT = Path(__file__).parents[2]
CONFIGS: dict[str, Any] = {**vars(study), **vars(commands), **vars(audit)}
#: Every launcher that takes settings, by the YAML file that holds its defaults.
COMMANDS: dict[str, Any] = {
    file.stem: StudyConfig if file.stem == "search" else CONFIGS[f"{file.stem.capitalize()}Config"]
    for file in sorted((ROOT / "irnas_ray" / "conf").glob("*.yaml"))
}


def compose(*arguments: str) -> StudyConfig:
    """The settings of a search."""
    return compose_settings("search", StudyConfig, list(arguments))


def leaves(kind: type, prefix: str = "") -> dict[str, Any]:
    """Dotted key of every setting that is no group -> its type."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            found |= leaves(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            found[prefix + name] = hint
    return found


def words(settings: Any, prefix: str = "") -> dict[str, tuple[Any, ...]]:
    """Dotted key -> what every setting may be that is one of some words, or a list of them."""
    found: dict[str, tuple[Any, ...]] = {}
    for field in dataclasses.fields(settings):
        value, key = getattr(settings, field.name), f"{prefix}{field.name}"
        found |= words(value, f"{key}.") if dataclasses.is_dataclass(value) else {}
        found |= {key: field.metadata["words"]} if "words" in field.metadata else {}
    return found


def value_at(config: Any, key: str) -> Any:
    """The setting of a dotted key."""
    for name in key.split("."):
        config = getattr(config, name)
    return config
