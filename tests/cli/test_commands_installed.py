"""What pip installs, far from the clone: the command, the search spaces, and every file of the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from irnas_ray.cli.search_spaces import options

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.whole


def run(*words: object, cwd: Path, status: int = 0, **variables: str) -> str:
    """What a process prints; AssertionError unless it ends with this status."""
    variables = {"PYTHONPATH": "", **variables}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=os.environ | variables, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel that is built of an archive of the sources, without a C compiler."""
    place = tmp_path_factory.mktemp("installed")
    for folder in ("irnas_ray", "search_spaces"):
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / folder, place / "clone" / folder, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / "clone")
    archive = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    run(sys.executable, "-c", archive, cwd=place / "clone")
    (source,) = place.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", place, source, cwd=place, CC="false")
    (wheel,) = place.glob("*.whl")
    run(*pip, "install", "--no-deps", "--no-index", "--target", place / "site", wheel, cwd=place)
    (place / "empty").mkdir()
    return place


def command(installed: Path, *arguments: str, status: int = 0, cwd: Path | None = None) -> str:
    site = installed / "site"
    return run(
        site / "bin" / "irnas-ray", *arguments, cwd=cwd or installed / "empty", status=status, PYTHONPATH=str(site)
    )


def test_the_command_works_in_an_empty_folder(installed):
    program = "import irnas_ray; print(irnas_ray.__file__)"
    found = run(sys.executable, "-c", program, cwd=installed / "empty", PYTHONPATH=str(installed / "site"))
    assert found.strip() == str(installed / "site" / "irnas_ray" / "__init__.py")
    assert "  restore " in command(installed, "--help")
    assert f"search_spaces=NAME, one of: {', '.join(options()['search_spaces'])}" in command(
        installed, "search", "--help"
    )
    message = command(installed, "search", "search_spaces=nope", status=2)
    assert all(name in message for name in ("nope", *options()["search_spaces"]))
    assert "analyze" not in message and not list((installed / "empty").iterdir())


def test_search_spaces_of_the_users_own_stand_beside_those_that_ship(installed, tmp_path):
    (tmp_path / "search_spaces").mkdir()
    for name in ("mine", "hinas"):
        space = f"# @package _global_\nsearch_space: {name}\ntune: {{sampler: my_sampler}}\n"
        (tmp_path / "search_spaces" / f"{name}.yaml").write_text(space)
    assert "my_sampler" in command(installed, "search", "search_spaces=mine", status=2, cwd=tmp_path)
    said = command(installed, "search", "search_spaces=hinas", "tune.sampler=other", status=2, cwd=tmp_path)
    assert "search_spaces/hinas.yaml is not used" in said and "'other'" in said


def test_every_file_of_the_package_is_installed_and_nothing_else(installed):
    def files(folder: Path) -> set[str]:
        paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        return {str(path.relative_to(folder)) for path in paths if path.suffix != ".so"}

    spaces = {f"search_spaces/{path.name}" for path in (ROOT / "search_spaces").glob("*.yaml")}
    assert files(installed / "site" / "irnas_ray") == files(ROOT / "irnas_ray") | spaces
    assert {path.name.partition("-")[0] for path in (installed / "site").iterdir()} == {"irnas_ray", "bin"}
