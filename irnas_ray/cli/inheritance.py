"""What a search space inherits: an entry of its domains replaces the inherited one of that key as a whole."""

import logging
import re
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from irnas_ray.cli.typed_text import type_of

#: Stands among the domains while files are merged: key of a setting -> the last file that gives it a value and no
#: domain, or None where no file does so after the last one with a domain.
FIXED = "(fixed)"
#: Stands behind a domain in its list.
WHOLE = "(whole)"

logger = logging.getLogger(__name__)


class SpaceSource(FileConfigSource):
    """Reads search spaces for Hydra, with every domain in a list of its own.

    Hydra merges two mappings of one key and refuses a list for a mapping, but replaces a list by another one.
    """

    @staticmethod
    def scheme() -> str:
        """How URLs of folders begin that are read so."""
        return "spaces"

    def load_config(self, config_path: str) -> ConfigResult:
        """One file, as Hydra asks for it."""
        result = super().load_config(config_path)
        written = OmegaConf.to_container(result.config, resolve=False)
        # before Hydra merges it, which calls them
        refuse_resolvers(written, "")
        if result.header.get("package") != "_global_":
            # its keys are not those of settings
            return result
        domains = written.pop("domains", {}) if isinstance(written, dict) else None
        if isinstance(domains, dict):
            file = self._normalize_file_name(config_path)
            fixed = dict.fromkeys(_leaves(written), file) | dict.fromkeys(map(str, domains))
            result.config["domains"] = {key: [value, WHOLE] for key, value in domains.items()} | {FIXED: fixed}
        return result


def location(folder: str) -> str:
    """The URL under which Hydra finds a folder with ``search_spaces/``."""
    Plugins.instance().register(SpaceSource)
    return f"{SpaceSource.scheme()}://{folder}"


def settled(domains: dict[str, Any], kind: type) -> tuple[dict[str, Any], dict[str, str]]:
    """The domains that the merged files mean; and, by the key of a tuned setting, the file that fixes it in vain.

    ``kind`` has the settings; ValueError where null stands for the domain of none of them.
    """
    fixed = domains.pop(FIXED, {})
    # a file of another package is merged as it is
    entries = {key: it[0] if isinstance(it, list) and WHOLE in it[1:] else it for key, it in domains.items()}
    for key in (key for key, value in entries.items() if value is None and type_of(kind, str(key)) is None):
        raise ValueError(f"domains.{key}: null drops the domain of a setting, and there is no such setting")
    tuned = {key: value for key, value in entries.items() if value is not None}
    return tuned, {key: file for key, file in fixed.items() if file and key in tuned}


def always_tuned(domains: dict[str, Any]) -> set[str]:
    """The settings that are tuned whatever the others are; where a condition does not hold, a given value does."""
    return {key for key, domain in domains.items() if not (isinstance(domain, dict) and "when" in domain)}


def warn_of_overruled(fixed: dict[str, str], domains: dict[str, Any], arguments: list[str]) -> None:
    """Say which values of files have no effect, because a search space that they inherit from tunes their settings."""
    given = {argument.partition("=")[0] for argument in arguments}
    for key in sorted(fixed.keys() & always_tuned(domains) - given):
        if not given & {"domains", f"domains.{key}"}:
            logger.warning(
                f"{fixed[key]}: {key} is tuned, and the value given has no effect; to fix it, add `{key}: null` "
                "under domains"
            )


def refuse_resolvers(value: Any, key: str) -> None:
    """ValueError for ``${name:...}``, which calls a function that reads the environment or whatever it likes."""
    if isinstance(value, dict):
        for name, item in value.items():
            refuse_resolvers(name, key)
            refuse_resolvers(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for item in value:
            refuse_resolvers(item, key)
    elif isinstance(value, str) and re.search(r"\$\{.*:", value, re.DOTALL):
        raise ValueError(f"{key}: {value!r} calls a resolver; give the value, or ${{KEY}} of another setting")


def _leaves(written: Any, prefix: str = "") -> list[str]:
    """Dotted keys of the values in nested mappings."""
    if not isinstance(written, dict):
        return [prefix]
    return [leaf for key, item in written.items() for leaf in _leaves(item, f"{prefix}.{key}" if prefix else str(key))]
