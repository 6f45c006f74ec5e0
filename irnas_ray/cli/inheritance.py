"""What a search space inherits: an entry of its domains replaces the inherited one of that key as a whole."""

from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

#: Stands among the domains while files are merged: key of a setting -> the last file that gives it a value and no
#: domain, or None where no file does so after the last one with a domain.
FIXED = "(fixed)"
#: Stands behind a domain in its list.
WHOLE = "(whole)"


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
        if result.header.get("package") != "_global_":
            # its keys are not those of settings
            return result
        written = OmegaConf.to_container(result.config, resolve=False)
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


def settle(domains: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The domains that the merged files mean; and, by the key of a tuned setting, the file that fixes it in vain.

    Null is left where it drops an inherited domain.
    """
    fixed = domains.pop(FIXED, {})
    # a file of another package is merged as it is
    entries = {key: it[0] if isinstance(it, list) and WHOLE in it[1:] else it for key, it in domains.items()}
    return entries, {key: file for key, file in fixed.items() if file and entries.get(key) is not None}


def _leaves(written: Any, prefix: str = "") -> list[str]:
    """Dotted keys of the values in nested mappings."""
    if not isinstance(written, dict):
        return [prefix]
    return [leaf for key, item in written.items() for leaf in _leaves(item, f"{prefix}.{key}" if prefix else str(key))]
