"""What the packages export: their stubs and what they give agree, and nothing is loaded before it is used."""

import ast
import doctest
import importlib
import inspect
import io
import subprocess
import sys
from pathlib import Path

import pytest

import irnas_ray as ir

PACKAGE = Path(ir.__file__).parent
ROOMS = sorted(
    ".".join(("irnas_ray", *path.parent.relative_to(PACKAGE).parts)) for path in PACKAGE.rglob("__init__.py")
)
HEAVY = ("torch", "ray", "optuna", "hydra", "numpy", "scipy", "pandas", "pyarrow", "matplotlib")


def exported(room: str) -> dict[str, str]:
    """Each name of a package's stub -> the module that it comes from; empty for a module itself."""
    stub = PACKAGE.joinpath(*room.split(".")[1:], "__init__.pyi").read_text(encoding="utf-8")
    imports = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


def test_importing_the_package_loads_nothing_else():
    program = (
        f"import sys, irnas_ray\nassert not {set(HEAVY)} & set(sys.modules)\n"
        "irnas_ray.__version__, dir(irnas_ray)\n"
        "print([name for name in sys.modules if name.startswith('irnas_ray.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=400)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_a_package_gives_what_its_stub_names(room):
    package, names = importlib.import_module(room), exported(room)
    assert package.__doc__
    assert sorted(names) == sorted(package.__all__) == sorted(dir(package))
    for name, module in names.items():
        whole = importlib.import_module(f"{room}.{module or name}")
        assert getattr(package, name) is (getattr(whole, name) if module else whole)


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_bears_the_name_of_what_its_package_exports(room):
    names = {name for name, module in exported(room).items() if module}
    folder = Path(importlib.import_module(room).__file__).parent
    assert not names & {path.stem for path in [*folder.glob("*.py"), *folder.glob("*/")]}


def test_what_is_not_exported_is_an_error_that_names_it():
    with pytest.raises(AttributeError, match="no_such_name"):
        ir.no_such_name  # noqa: B018


def examples() -> list:
    """Every name of the public API that is no package; those that start Ray belong to the slower tier."""
    names = [name for name, module in exported("irnas_ray").items() if module]
    return [pytest.param(name, marks=pytest.mark.whole) if name.startswith("run_") else name for name in names]


@pytest.mark.parametrize("name", examples())
def test_the_example_in_a_docstring_is_right(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = inspect.getdoc(getattr(ir, name))
    assert text, f"{name} has no docstring"
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    assert example.examples, f"the docstring of {name} has no example"
    said = io.StringIO()
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.write)
    assert not said.getvalue(), said.getvalue()
