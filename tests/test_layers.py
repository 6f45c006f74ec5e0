"""The floors of the house: a package imports from lower floors only, and each library stays in its rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from floors import FLOOR, RAY, RAY_AUDIT, RAY_DATA

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "irnas_ray"

MODULES = sorted(
    path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if len(path.relative_to(PACKAGE).parts) > 1
)
LAUNCHERS = sorted((ROOT / "launchers").glob("*.py"))
MOST_MODULES = 14


def imported(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def libraries(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def siblings(path: Path) -> set[Path]:
    """Modules of irnas_ray that a file imports, without the package's own version."""
    parts = [name.split(".")[1:] for name in imported(path) if name.startswith("irnas_ray.")]
    return {Path(*own[:2]).with_suffix(".py") for own in parts if len(own) > 1}


def test_every_room_stands_on_a_floor():
    rooms = {path.parts[0] for path in MODULES}
    assert rooms == FLOOR.keys()
    assert len(list(PACKAGE.glob("*.py"))) <= 3
    for room in rooms:
        own = [path for path in MODULES if path.parts[0] == room and path.stem != "__init__"]
        assert len(own) <= MOST_MODULES, f"{room} holds {len(own)} modules"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_down(module):
    own = module.parts[0]
    for other in siblings(PACKAGE / module):
        assert (PACKAGE / other).exists(), f"{module} imports {other.parts[0]} as a whole"
        room = other.parts[0]
        assert room == own or FLOOR[room] < FLOOR[own], f"{module} imports {other}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_libraries_stay_in_their_rooms(module):
    found = libraries(PACKAGE / module)
    assert module.parts[0] == "cli" or not found & {"hydra", "omegaconf"}
    assert module.parts[0] in RAY or str(module) == RAY_DATA or "ray" not in found
    assert FLOOR[module.parts[0]] > FLOOR["hpo"] or module.parts[0] == "hpo" or "optuna" not in found


def test_modules_do_not_import_each_other_in_circles():
    below = {module: siblings(PACKAGE / module) for module in MODULES}
    while below:
        free = {module for module, needed in below.items() if not needed & below.keys()}
        assert free, f"a circle among {sorted(below)}"
        below = {module: needed for module, needed in below.items() if module not in free}


@pytest.mark.parametrize(
    "path", [*PACKAGE.rglob("*.py"), *LAUNCHERS], ids=lambda path: f"{path.parent.name}.{path.stem}"
)
def test_nobody_imports_what_is_replaced(path):
    assert not libraries(path) & {"torchvision", "torchmetrics", "piq", "pytorch_msssim"}


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_launchers_compose_and_call(path):
    assert len(path.read_text().splitlines()) <= 20
    assert not libraries(path) & {"ray", "torch", "optuna"}


def test_everything_but_the_ray_rooms_runs_without_ray_and_what_is_below_hpo_without_optuna():
    blocked = ("ray", "hydra", "omegaconf", "torchvision", "torchmetrics")
    free = [path for path in MODULES if path.parts[0] not in RAY | {"cli"} and str(path) not in (RAY_AUDIT, RAY_DATA)]
    first = [path for path in free if FLOOR[path.parts[0]] <= FLOOR["hpo"] and path.parts[0] != "hpo"]
    program = f"import sys\nfor name in {(*blocked, 'optuna')}: sys.modules[name] = None\n"
    program += "\n".join(f"import irnas_ray.{'.'.join(path.with_suffix('').parts)}" for path in first)
    program += "\ndel sys.modules['optuna']\n"
    program += "\n".join(f"import irnas_ray.{'.'.join(path.with_suffix('').parts)}" for path in free)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
