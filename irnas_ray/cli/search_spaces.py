"""The configuration files: those that ship with the package, and the search spaces of the user's own."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
#: The configuration files that ship with the package.
CONF = PACKAGE / "conf"
#: What is chosen as GROUP=NAME on the command line.
GROUPS = ("data", "search_spaces", "degradation", "budget", "cluster")


def options() -> dict[str, list[str]]:
    """The files that each configuration group can be set to."""
    found = {group: {path.stem for path in (CONF / group).glob("*.yaml")} for group in GROUPS}
    found["search_spaces"] = {path.stem for folder in _folders() for path in folder.glob("*.yaml")}
    return {group: sorted(names) for group, names in found.items()}


def _folders() -> list[Path]:
    """Folders of search spaces; where two hold a file of one name, that of the first is taken.

    First the clone whose launcher runs, then what ships (in an installed package, or beside it in a clone), then
    where the user stands.
    """
    launcher = Path(sys.argv[0]).resolve()
    clone = [launcher.parents[1] / "search_spaces"] if launcher.parent.name == "launchers" else []
    shipped = next(folder for folder in (PACKAGE, PACKAGE.parent) if (folder / "search_spaces").is_dir())
    return [folder for folder in (*clone, shipped / "search_spaces", _here()) if folder.is_dir()]


def _here() -> Path:
    return Path.cwd() / "search_spaces"


def hidden(name: str) -> Path | None:
    """The search space where the user stands that is not taken because another one of its name comes first."""
    own = _here() / f"{name}.yaml"
    taken = next((path for folder in _folders() if (path := folder / own.name).exists()), own)
    return own if own.exists() and own.read_bytes() != taken.read_bytes() else None


@contextlib.contextmanager
def linked() -> Iterator[str]:
    """A folder with nothing but ``search_spaces/`` in it, which links to the files of all search spaces.

    Hydra takes every folder beside search_spaces/ for a configuration group: where a user keeps ``results/`` there,
    ``results=DIR`` would be looked up in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        spaces = Path(folder) / "search_spaces"
        spaces.mkdir()
        for file in (file for place in _folders() for file in place.glob("*.yaml")):
            if not (spaces / file.name).exists():
                (spaces / file.name).symlink_to(file.resolve())
        yield folder
