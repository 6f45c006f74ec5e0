"""From a command line and YAML files to one typed settings object, with errors that say what is possible."""

import contextlib
import dataclasses
import difflib
import logging
import re
import shlex
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar, get_origin

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from irnas_ray.cli.distributions import make_domains, read_domains
from irnas_ray.cli.help import FIRST
from irnas_ray.cli.inheritance import always_tuned, location, refuse_resolvers, settled, warn_of_overruled
from irnas_ray.cli.messages import PROGRAM, first_lines, own_lines
from irnas_ray.cli.search_spaces import CONF, GROUPS, hidden, linked
from irnas_ray.cli.typed_text import as_typed, elements_as_typed, in_quotes, type_of
from irnas_ray.settings.bounds import check_bounds
from irnas_ray.settings.study import SHAPES, RetrainConfig, StudyConfig
from irnas_ray.system.names import check_names

Settings = TypeVar("Settings")

#: Settings that are a dict of the user's own keys: Hydra would take a key's dots for levels of the configuration, merge
#: an empty dict and change nothing, and refuse keys that are not there yet.
FREE = ("domains", "compare", "network_arguments")
#: Words that name a network rather than an image.
NETWORK_SUFFIXES = (".pt", ".pt2", ".onnx")
ONE_VALUE = "one value is needed; a list is [a,b], and what is tuned is domains.KEY=[a,b]"
SYNTAX = "give one number or word, a list as [a,b], or a dict as {a: 1, b: 2}; other text in quotes of its own"

logger = logging.getLogger(__name__)


def compose_settings(name: str, kind: type[Settings], arguments: list[str]) -> Settings:
    """The settings that a list of Hydra overrides asks for; ValueError says which keys or values are possible.

    Search spaces come from others: none can run code, read the environment or name a class that is to be called.
    """
    settings, _ = plain_settings(name, kind, arguments)
    if isinstance(settings, StudyConfig):
        if isinstance(settings, RetrainConfig):
            _settle_given(settings, arguments)
        else:
            _warn_of_overruled(settings, arguments)
        settings.domains = make_domains(settings.domains)
    return settings


def plain_settings(name: str, kind: type[Settings], arguments: list[str]) -> tuple[Settings, str]:
    """The settings before Optuna makes distributions of their domains, and the same as YAML.

    Raises as ``compose_settings``.
    """
    check_names(arguments)
    arguments = _with_input(name, kind, arguments)
    free_arguments = [x for x in arguments if _section(x) in FREE]
    config = _composed(name, kind, [x for x in arguments if x not in free_arguments])
    fixed = _settle(config, kind)
    for argument in free_arguments:
        _override_free(config, kind, argument)
    refuse_resolvers(OmegaConf.to_container(config, resolve=False), "")
    try:
        settings = OmegaConf.to_object(config)
        text = OmegaConf.to_yaml(config, resolve=True)
    except OmegaConfBaseException as error:
        where = f"{error.full_key}: " if error.full_key else ""
        raise ValueError(where + first_lines(error)) from None
    assert isinstance(settings, kind)
    own = hidden(settings.search_space) if isinstance(settings, StudyConfig) else None
    if own is not None:
        # before what is wrong with the other one
        logger.warning(f"{own} is not used: another search space has its name and comes first; rename it")
    check_bounds(settings)
    if isinstance(settings, RetrainConfig):
        _refuse_classes_of_files(settings, arguments)
    elif isinstance(settings, StudyConfig):
        warn_of_overruled(fixed, settings.domains, arguments)
    if isinstance(settings, StudyConfig):
        _refuse_trust_of_files(settings, arguments)
        read_domains(settings.domains)
    return settings, text


def _with_input(name: str, kind: type, arguments: list[str]) -> list[str]:
    """The arguments with what `restore` is to restore as ``input=``, where it is their one word without a key."""
    bare = [argument for argument in arguments if "=" not in argument]
    given = any(argument.startswith("input=") for argument in arguments)
    if name != "restore" or len(bare) != 1 or given or bare[0].startswith(("-", "+", "~")):
        return arguments
    if type_of(kind, bare[0]) is not None or bare[0].endswith(NETWORK_SUFFIXES) or not bare[0]:
        return arguments
    return [f"input={argument}" if argument is bare[0] else argument for argument in arguments]


def _composed(name: str, kind: type, arguments: list[str]) -> DictConfig:
    """The configuration of the files and of all arguments but those that ``_override_free`` applies."""
    for argument in arguments:
        if argument in ("-m", "--multirun"):
            raise ValueError(f"{argument}: one command is one study; values to try in it are domains.KEY=[a,b]")
        if argument.startswith(("-", "+")):
            raise ValueError(f"unknown option {argument}; settings are given as key=value, --help lists them")
        if _section(argument) == "search_space":
            raise ValueError("search_space= only records the name of the space; choose one with search_spaces=NAME")
        if _section(argument) == "hydra":
            raise ValueError(f"{argument}: Hydra's own settings have no effect here; --help lists what has")
        if argument.startswith("~"):
            raise ValueError(
                f"{argument}: only entries of {', '.join(FREE)} can be removed; give KEY=VALUE or KEY=null"
            )
    _refuse_bare_words(name, kind, arguments)
    ConfigStore.instance().store(name=f"{name}_settings", node=kind)
    with linked() as folder, initialize_config_dir(str(CONF), version_base="1.3"):
        place = f"hydra.searchpath=[{in_quotes(location(folder))}]"
        try:
            return compose(name, overrides=[place, *(_readable(kind, argument) for argument in arguments)])
        except (HydraException, OmegaConfBaseException, OSError, YAMLError) as error:
            # without the user's overrides composing works, which shows the keys that exist
            text = _explain(error, lambda: compose(name, overrides=[place]))
            raise ValueError(text.replace(f"{folder}/", "")) from None
        except AttributeError:
            # Hydra takes its own part of a file for what it should be
            raise ValueError("a configuration file has hydra:, whose settings have no effect here; remove it") from None
        except UnicodeDecodeError as error:
            file = next(file for file in Path(folder).rglob("*.yaml") if file.read_bytes() == error.object)
            raise ValueError(f"{file.relative_to(folder)}: is not UTF-8 text") from None


def _settle(config: DictConfig, kind: type) -> dict[str, str]:
    """Give the configuration the domains that its files mean; by the key of a tuned setting, the file that fixes it."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    if not isinstance(plain.get("domains"), dict):
        return {}
    domains, fixed = settled(plain["domains"], kind)
    with _unlocked(config):
        config.domains = domains
    return fixed


def _refuse_bare_words(name: str, kind: type, arguments: list[str]) -> None:
    """ValueError for words that are no key=value, with the keys that were probably meant."""
    bare = [argument for argument in arguments if "=" not in argument]
    if not bare:
        return
    if type_of(kind, bare[0]) is not None or bare[0] in GROUPS:
        raise ValueError(f"{bare[0]}: give it a value, as {bare[0]}=VALUE")
    free = [key for key in FIRST[name] if not any(argument.startswith(f"{key}=") for argument in arguments)]
    meant = [f"{key}={word or '...'}" for key, word in zip_longest(free, bare[: len(free)])]
    hint = f", such as\n  {PROGRAM} {name} {shlex.join(meant)}\n" if free else "; "
    raise ValueError(f"{bare[0]!r} is not a setting; settings are given as key=value{hint}--help lists them")


def _readable(kind: type, argument: str) -> str:
    """An argument as Hydra reads it: text as it was typed, all else in Hydra's own syntax."""
    key, _, text = argument.partition("=")
    if not re.fullmatch(r"[\w.]+", key):
        raise ValueError(f"unknown key {key!r}; settings are given as key=value, --help lists them")
    hint = str if key in GROUPS else type_of(kind, key)
    above = key.rpartition(".")[0]
    if hint is None and above and not dataclasses.is_dataclass(type_of(kind, above) or kind):
        raise ValueError(f"unknown key {key!r}: {above} has no settings of its own")
    if get_origin(hint) is list and not text.startswith(("[", "$")):
        raise ValueError(f"{argument}: give a list, such as {key}=[{text}]")
    if dataclasses.is_dataclass(hint) and not text.startswith("{"):
        raise ValueError(f"{argument}: {key} has settings of its own; give one of them as {key}.NAME=VALUE")
    text = as_typed(hint, text)
    _parse(key, text)
    return f"{key}={text}"


def _section(argument: str) -> str:
    """The first part of the key that an override changes."""
    return re.split(r"[.=/@]", argument.lstrip("~+"))[0]


def _warn_of_overruled(settings: StudyConfig, arguments: list[str]) -> None:
    """Say which values of the command line have no effect, because the search space tunes their settings."""
    given = {argument.partition("=")[0] for argument in arguments}
    for key in sorted(given & always_tuned(settings.domains)):
        if f"domains.{key}" not in given:
            logger.warning(f"{key} is tuned, and the value given has no effect; to fix it, add domains.{key}=null")


def _settle_given(settings: RetrainConfig, arguments: list[str]) -> None:
    """Keep the domains of settings that are not given, which a genotype may know; say what is given in vain."""
    given = {argument.partition("=")[0] for argument in arguments}
    settings.domains = {
        key: domain for key, domain in settings.domains.items() if not given & {key, key.partition(".")[0]}
    }
    read = {*SHAPES, "architecture.channels", "architecture.multipliers"}
    for key in sorted(key for key in given - read if key.startswith("architecture.")):
        logger.warning(f"{key}: shapes supernets; a genotype says what its network is, and the value has no effect")


def _refuse_classes_of_files(settings: RetrainConfig, arguments: list[str]) -> None:
    """ValueError for a class, which is imported and called, that a file names and the command line does not."""
    compared = settings.compare.get("network")
    for name in map(str, [settings.network, *(compared if isinstance(compared, list) else [])]):
        if ":" in name and not any(name in argument for argument in arguments):
            raise ValueError(f"network: a file names {name}, whose code would run; give it on the command line, too")


def _refuse_trust_of_files(settings: StudyConfig, arguments: list[str]) -> None:
    """ValueError where a file decides whose code may run here: whose records are read, or what cluster is joined."""
    given = {argument.partition("=")[0].lstrip("+~") for argument in arguments}
    if settings.trust and "trust" not in given:
        raise ValueError("trust: a file says true, so that code of others could run; give it on the command line, too")
    address = settings.cluster.address
    if address not in (None, "auto", "local") and not given & {"cluster.address", "cluster"}:
        raise ValueError(f"cluster.address: a file names {address}, whose answers can run code; name it yourself, too")


def _explain(error: Exception, valid: Callable[[], DictConfig]) -> str:
    text = str(error)
    if not text:
        # the grammar of references says nothing itself
        place = re.search(r"full_key: (\S+)", str(error.__cause__))
        return (
            f"{place[1] if place else 'a file'}: holds ${{ without an end; a reference to another setting is ${{KEY}}"
        )
    if error.__cause__ is not None and text.startswith("Error merging override"):
        return f"{text.removeprefix('Error merging override ')}: {first_lines(error.__cause__)}"
    match = re.search(r"Could not (?:override|append to config) '([^']+)'", text)
    if match is None:
        text = re.sub(r"\nConfig search path:.*", "", text, flags=re.DOTALL)
        place = re.search(r"full_key: (\S+)", text)
        named = r"\1.yaml: " + (f"{place[1]}: " if place else "")
        return "\n".join(own_lines(re.sub(r"^In '([^']+)': \w+ raised while composing config:\n", named, text)))
    key = match.group(1)
    wrong = key
    node: Any = valid()
    parts = key.split(".")
    for index, part in enumerate(parts):
        if not isinstance(node, DictConfig) or part not in node:
            wrong = ".".join(parts[: index + 1])
            break
        node = node[part]
    known = [str(name) for name in node] if isinstance(node, DictConfig) else []
    where = wrong.rpartition(".")[0]
    close = difflib.get_close_matches(wrong.rpartition(".")[2], known, n=1)
    hint = f"; did you mean {where + '.' if where else ''}{close[0]}?" if close else ""
    return f"unknown key {wrong!r}{hint}\npossible{' under ' + where if where else ''}: {', '.join(known)}"


def _override_free(config: DictConfig, kind: type, argument: str) -> None:
    """Apply ``domains.<dotted key>=value`` or ``domains={...}``, or the like for another setting with free keys."""
    name, _, text = argument.lstrip("~+").partition("=")
    section, _, key = name.partition(".")
    if section not in config:
        does = "tunes nothing" if section == "domains" else f"has no {section}"
        raise ValueError(f"unknown key {name!r}: this command {does}")
    # the arguments of a network have keys of their own
    hint = None if section == "network_arguments" else type_of(kind, key)
    delete = argument.startswith("~") or text == "null"
    value = None if delete else _parse(name, elements_as_typed(hint, text))
    if section == "domains" and issubclass(kind, RetrainConfig) and value not in (None, {}):
        # those of a space's file are left alone, which was made for searches
        meant = "networks side by side are compare.KEY=[a,b], such as compare.final.lr or compare.genotype"
        raise ValueError(f"{name}: retrain tunes nothing; {meant}")
    if section == "domains" and isinstance(value, dict) and "when" in value:
        # its values are those of other settings
        value["when"] = _parse(name, text)["when"]
    if delete and section == "domains" and hint is not None and key not in config.domains and text == "null":
        # what no space tunes is not tuned, as was asked: one command line fits all spaces
        return
    with _unlocked(config):
        if key:
            _override_entry(config[section], section, key, value, delete)
        elif value is None or isinstance(value, dict):
            config[section] = value or {}
        else:
            raise ValueError(f"{section}: {text!r} is not a dict; give {section}.KEY=VALUE or {section}={{KEY: VALUE}}")


def _override_entry(entries: Any, section: str, key: str, value: Any, delete: bool) -> None:
    known = next((name for name in entries if key == name or key.startswith(name + ".")), None)
    if delete and known != key:
        what = "domain" if section == "domains" else "entry"
        raise ValueError(f"{section}.{key}: there is no such {what}; {section}: {', '.join(entries)}")
    if delete:
        del entries[key]
    elif known is None or known == key:
        entries[key] = value
    elif OmegaConf.is_dict(entries[known]):
        entries[known][key[len(known) + 1 :]] = value
    else:
        raise ValueError(f"{section}.{key}: {section}.{known} is a list of choices; replace it as a whole")


def _parse(key: str, text: str) -> Any:
    """A value in Hydra's syntax."""
    try:
        override = OverridesParser.create().parse_override(f"value={text}")
    except (HydraException, OverrideParseException):
        raise ValueError(f"{key}: cannot read {text!r}; {SYNTAX}") from None
    if override.is_sweep_override():
        raise ValueError(f"{key}: cannot read {text!r}; {ONE_VALUE}")
    return override.value()


@contextlib.contextmanager
def _unlocked(config: DictConfig) -> Any:
    OmegaConf.set_struct(config, False)
    yield
    OmegaConf.set_struct(config, True)
