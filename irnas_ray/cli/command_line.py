"""From a command line and YAML files to one typed settings object, with errors that say what is possible."""

import contextlib
import difflib
import os
import re
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from irnas_ray.cli.help import describe
from irnas_ray.results.folder import StudyFolder
from irnas_ray.settings.study import StudyConfig
from irnas_ray.system.exit_status import FAILED, INCOMPLETE, INTERRUPTED, WRONG_COMMAND, Incomplete

Settings = TypeVar("Settings")

#: The configuration files that ship with the package.
CONF = Path(__file__).parents[1] / "conf"
GROUPS = ("data", "search_spaces", "degradation", "budget", "cluster")
#: Settings that are a dict of the user's own keys: Hydra would take a key's dots for levels of the configuration, merge
#: an empty dict and change nothing, and refuse keys that are not there yet.
FREE = ("domains", "compare", "network_arguments")
#: What a domain's `_target_` may name; anything else would let a search space run code.
TARGET = r"optuna\.distributions\.\w+Distribution"


def run(
    name: str, kind: type[Settings], function: Callable[[Settings], object], description: str, root: Path | None = None
) -> None:
    """Compose the settings that ``sys.argv`` asks for, call ``function`` with them, and exit with a clear status.

    ``root`` is the folder that holds ``search_spaces/``. The exit statuses are those of
    ``irnas_ray.system.exit_status``.
    """
    arguments = sys.argv[1:]
    try:
        if {"-h", "--help"} & set(arguments):
            print(describe(name, kind, description, options(root)))
            return
        settings = compose_settings(name, kind, arguments, root)
    except ValueError as error:
        sys.exit(_complain(error, WRONG_COMMAND))
    try:
        function(settings)
    except KeyboardInterrupt:
        sys.exit(_complain(f"interrupted; what was finished is kept{_continued(settings)}", INTERRUPTED))
    except Incomplete as error:
        sys.exit(_complain(error, INCOMPLETE))
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(_complain(error, FAILED))
    except Exception as error:
        if os.environ.get("IRNAS_RAY_TRACEBACK"):
            raise
        hint = "IRNAS_RAY_TRACEBACK=1 in the environment shows where"
        sys.exit(_complain(f"{type(error).__name__}: {_first_lines(error)} ({hint})", FAILED))


def _continued(settings: object) -> str:
    """The command line that goes on with a study, as it is to be typed; nothing where there is none."""
    if not isinstance(settings, StudyConfig):
        return ""
    words = [word for word in sys.orig_argv if not word.startswith("resume=")]
    begun = False
    with contextlib.suppress(ValueError):
        begun = StudyFolder(settings).config.exists()
    return f"; continue with\n  {shlex.join([*words, 'resume=true'] if begun else words)}"


def compose_settings(name: str, kind: type[Settings], arguments: list[str], root: Path | None = None) -> Settings:
    """The settings that a list of Hydra overrides asks for; ValueError says which keys or values are possible."""
    free_arguments = [x for x in arguments if re.split(r"[.=]", x.lstrip("~+"))[0] in FREE]
    others = [x for x in arguments if x not in free_arguments]
    if any(x.startswith("search_space=") for x in others):
        raise ValueError("search_space= only records the name of the space; choose one with search_spaces=NAME")
    for argument in others:
        if argument.startswith(("-", "+")):
            raise ValueError(f"unknown option {argument}; settings are given as key=value, --help lists them")
    ConfigStore.instance().store(name=f"{name}_settings", node=kind)
    with _only_search_spaces(root) as folder, initialize_config_dir(str(CONF), version_base="1.3"):
        searchpath = [f"hydra.searchpath=['file://{folder}']"]
        try:
            config = compose(name, overrides=searchpath + others)
        except (HydraException, OmegaConfBaseException, OSError) as error:
            # without the user's overrides composing works, which shows the keys that exist
            raise ValueError(_explain(error, lambda: compose(name, overrides=searchpath))) from None
    for argument in free_arguments:
        _override_free(config, argument)
    try:
        settings = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise ValueError(_first_lines(error)) from None
    assert isinstance(settings, kind)
    if hasattr(settings, "domains"):
        settings.domains = {key: _distribution(key, value) for key, value in settings.domains.items()}
    return settings


def options(root: Path | None) -> dict[str, list[str]]:
    """The files that each configuration group can be set to."""
    folders = [CONF, *_search_folders(root)]
    found = {group: sorted({p.stem for f in folders for p in (f / group).glob("*.yaml")}) for group in GROUPS}
    return {group: names for group, names in found.items() if names}


def _search_folders(root: Path | None) -> list[Path]:
    """Folders whose search_spaces/ are known: that of the launcher, and where the user stands."""
    folders = [] if root is None else [root]
    here = Path.cwd()
    if here not in folders and (here / "search_spaces").is_dir():
        folders.append(here)
    return folders


@contextlib.contextmanager
def _only_search_spaces(root: Path | None) -> Iterator[str]:
    """A folder with nothing but the files of all search_spaces/ in it.

    Hydra takes every folder beside search_spaces/ for a configuration group: where a user keeps ``results/`` there,
    ``results=DIR`` would be looked up in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        spaces = Path(folder) / "search_spaces"
        spaces.mkdir()
        for place in _search_folders(root):
            for file in (place / "search_spaces").glob("*.yaml"):
                if not (spaces / file.name).exists():
                    (spaces / file.name).symlink_to(file.resolve())
        yield folder


def _explain(error: Exception, valid: Callable[[], DictConfig]) -> str:
    text = str(error)
    if error.__cause__ is not None and text.startswith("Error merging override"):
        return f"{text.removeprefix('Error merging override ')}: {_first_lines(error.__cause__)}"
    match = re.search(r"Could not (?:override|append to config) '([^']+)'", text)
    if match is None:
        text = re.sub(r"\nConfig search path:.*", "", text, flags=re.DOTALL)
        return "\n".join(line for line in text.splitlines() if line.strip() and "full_key" not in line)
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


def _override_free(config: DictConfig, argument: str) -> None:
    """Apply ``domains.<dotted key>=value`` or ``domains={...}``, or the like for another setting with free keys."""
    name, _, text = argument.lstrip("~+").partition("=")
    section, _, key = name.partition(".")
    if section not in config:
        does = "tunes nothing" if section == "domains" else f"has no {section}"
        raise ValueError(f"unknown key {name!r}: this command {does}")
    delete = argument.startswith("~") or text == "null"
    value = None if delete else _parse(name, text)
    with _unlocked(config):
        if key:
            _override_entry(config[section], section, key, value, delete)
        elif value is None or isinstance(value, dict):
            config[section] = value or {}
        else:
            raise ValueError(f"{section}: {text!r} is no dict; give {section}.KEY=VALUE or {section}={{KEY: VALUE}}")


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
        return OverridesParser.create().parse_override(f"value={text}").value()
    except (HydraException, OverrideParseException) as error:
        raise ValueError(f"{key}: cannot read {text!r} ({_first_lines(error)})") from None


@contextlib.contextmanager
def _unlocked(config: DictConfig) -> Any:
    OmegaConf.set_struct(config, False)
    yield
    OmegaConf.set_struct(config, True)


def _distribution(key: str, value: Any) -> Any:
    """The object that a domain's YAML describes: a list is a choice, else ``_target_`` names an Optuna distribution."""
    import optuna.distributions

    from irnas_ray.hpo.domains import Conditional

    hint = "give a list of choices or {_target_: optuna.distributions.FloatDistribution, low: ..., high: ...}"
    if isinstance(value, dict) and "when" in value:
        rest = {name: item for name, item in value.items() if name != "when"}
        return Conditional(_distribution(key, rest), _conditions(key, value["when"]))
    if isinstance(value, dict) and value.keys() == {"choices"}:
        value = value["choices"]
    if isinstance(value, list) and value:
        return optuna.distributions.CategoricalDistribution(value)
    if not isinstance(value, dict) or not re.fullmatch(TARGET, str(value.get("_target_", ""))):
        raise ValueError(f"domains.{key}: {value!r} is no distribution; {hint}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return instantiate(value, _convert_="all")
    except (HydraException, Warning, TypeError, ValueError) as error:
        raise ValueError(f"domains.{key}: {_first_lines(error)}; {hint}") from None


def _conditions(key: str, when: Any) -> dict[str, tuple[Any, ...]]:
    """Keys and the values under which a domain is tuned; one value may stand without its list."""
    if not isinstance(when, dict) or not when or any(isinstance(values, dict) for values in when.values()):
        raise ValueError(f"domains.{key}: when: {when!r} is no condition; give {{search.ssim_weight: [0.5, 1.0]}}")
    return {name: tuple(values) if isinstance(values, list) else (values,) for name, values in when.items()}


def _first_lines(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(line for line in lines[:3] if not line.startswith(("object_type", "full_key")))


def _complain(error: object, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status
