"""One command from its words to its exit status: help, settings, work, and what is said when that fails."""

import contextlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from irnas_ray.cli.help import describe
from irnas_ray.cli.messages import PROGRAM, complain, first_lines
from irnas_ray.cli.search_spaces import options
from irnas_ray.settings.study import StudyConfig
from irnas_ray.system.exit_status import FAILED, INCOMPLETE, INTERRUPTED, WRONG_COMMAND, Incomplete, WrongSetting
from irnas_ray.system.imports import uncollected

Settings = TypeVar("Settings")
OPTIONS = {"--help": "--help", "-h": "--help", "--cfg": "--cfg", "-c": "--cfg"}


def run(
    name: str,
    kind: type[Settings],
    function: Callable[[Settings], object],
    description: str,
    arguments: Sequence[str] | None = None,
) -> None:
    """Compose the settings that the arguments ask for, call ``function`` with them, and exit with a clear status.

    Without ``arguments``, those of ``sys.argv``. The exit statuses are those of ``irnas_ray.system.exit_status``.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    with uncollected():
        # the list of all commands does without Hydra
        from irnas_ray.cli.command_line import compose_settings, plain_settings

    try:
        words, asked = with_options(words)
        if "--help" in asked:
            try:
                settings: object = plain_settings(name, kind, words)[0]
            except ValueError:
                # who asks for help may not know yet how settings are given
                settings = plain_settings(name, kind, [])[0]
            print(describe(name, settings, description, options(), asked["--help"]))
            return
        if "--cfg" in asked:
            print(plain_settings(name, kind, words)[1], end="")
            return
        settings = compose_settings(name, kind, words)
    except ValueError as error:
        sys.exit(complain(error, WRONG_COMMAND))
    _work(function, settings)


def with_options(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """The words that are settings; and what ``--help`` and ``--cfg`` were asked for, where they were.

    ValueError if that is nothing that they know.
    """
    settings: list[str] = []
    asked: dict[str, str] = {}
    rest = list(words)
    while rest:
        word, equal, value = rest.pop(0).partition("=")
        if word not in OPTIONS:
            settings.append(word + equal + value)
            continue
        if not equal and rest and re.fullmatch(r"[\w.]+", rest[0]):
            value = rest.pop(0)
        asked[OPTIONS[word]] = value
    if asked.get("--cfg", "job") != "job":
        raise ValueError(f"--cfg {asked['--cfg']}".rstrip() + ": the settings are printed with --cfg job")
    return settings, asked


def _work(function: Callable[[Any], object], settings: object) -> None:
    try:
        function(settings)
    except KeyboardInterrupt:
        sys.exit(complain(f"interrupted; what was finished is kept{_continued(settings)}", INTERRUPTED))
    except Incomplete as error:
        sys.exit(complain(error, INCOMPLETE))
    except WrongSetting as error:
        sys.exit(complain(error, WRONG_COMMAND))
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(complain(error, FAILED))
    except Exception as error:
        if os.environ.get("IRNAS_RAY_TRACEBACK"):
            raise
        hint = "IRNAS_RAY_TRACEBACK=1 in the environment shows where"
        sys.exit(complain(f"{type(error).__name__}: {first_lines(error)} ({hint})", FAILED))


def _continued(settings: object) -> str:
    """The command line that goes on with a study, as it is to be typed; nothing where there is none."""
    if not isinstance(settings, StudyConfig):
        return ""
    from irnas_ray.results.folder import StudyFolder

    words = [word for word in _typed() if not word.startswith("resume=")]
    begun = False
    with contextlib.suppress(ValueError):
        begun = StudyFolder(settings).config.exists()
    return f"; continue with\n  {shlex.join([*words, 'resume=true'] if begun else words)}"


def _typed() -> list[str]:
    """The words of this command line; Python's own are left out where it runs the installed command."""
    python, *words = sys.orig_argv
    if not words or Path(words[0]).name != PROGRAM:
        return [python, *words]
    return [PROGRAM if shutil.which(PROGRAM) == words[0] else words[0], *words[1:]]
