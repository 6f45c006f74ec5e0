"""Tab completion: what may follow on a command line, and what makes a shell ask for it."""

from collections.abc import Iterator, Sequence

from irnas_ray.catalogue.cards import shipped_networks
from irnas_ray.cli.configuration import KINDS
from irnas_ray.cli.help import entries
from irnas_ray.cli.messages import PROGRAM
from irnas_ray.cli.search_spaces import options

_BASH = f"""\
_irnas_ray() {{
  local IFS=$'\\n'
  COMPREPLY=($({PROGRAM} --complete "${{COMP_LINE:0:$COMP_POINT}}" 2>/dev/null))
}}
complete -o default -o nospace -F _irnas_ray {PROGRAM}
"""
#: Shell -> what it has to run once; both split words at `=`, and complete names of files where nothing is proposed.
SCRIPTS = {"bash": _BASH, "zsh": f"autoload -U +X bashcompinit && bashcompinit\n{_BASH}"}


def completions(line: str) -> list[str]:
    """How the last word of a command line can go on: commands, keys up to their next dot, or values after ``=``.

    What is complete ends in a space. Empty where anything may follow, such as a number or a file.
    """
    words = line.split()[1:]
    current = "" if line[-1:].isspace() or not words else words.pop()
    if not words:
        return [f"{name} " for name in KINDS if name.startswith(current)]
    if words[0] not in KINDS:
        return []
    key, equal, value = current.partition("=")
    if equal:
        return [f"{choice} " for choice in _values(words[0], key) if choice.startswith(value)]
    found = dict.fromkeys(_next(name, current) for name in _keys(words[0]) if name.startswith(current))
    return list(found)


def _next(key: str, typed: str) -> str:
    part, dot, _ = key[len(typed) :].partition(".")
    return typed + part + (dot or "=")


def _keys(command: str) -> Iterator[str]:
    found = {entry.key: entry.value for entry in entries(KINDS[command]())}
    yield from (group for group in options() if group in found or "domains" in found)
    yield from (key for key, value in found.items() if value is not None)


def _values(command: str, key: str) -> Sequence[str]:
    found = {entry.key: entry.value for entry in entries(KINDS[command]())}
    groups = options()
    if key in groups and (key in found or "domains" in found):
        return groups[key]
    if key == "network" and key in found:
        return [network.name for network in shipped_networks()]
    return ["true", "false"] if found.get(key) in ("true", "false") else []
