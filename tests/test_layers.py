"""The rooms of the house: imports go one way, and everything below the Ray layer runs without Ray, Optuna and Hydra."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "irnas_ray"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
LAUNCHERS = sorted((ROOT / "launchers").glob("*.py"))

#: Lowest room first; a module imports from its own room and those below. What is not named is of the Ray layer.
ROOMS = {
    "facts": "bilateral bilinear camera cells colors command_settings decoding deformable degradation"
    " degradation_settings environment filters genotype geometry gridded image_files images jobs manifest masking"
    " metrics mosaic native normalising objectives outcomes protocols published rain ranges rungs schedules separable"
    " settings synchronised unprocessing urls",
    "networks": "costs dncnn folding losses network networks operations supercell supernet",
    "loops": "accumulation baselines batches candidates checkpoints claiming comparison configurations"
    " contact_sheet distributed evaluation examining folder freezing inference leakage loss_curve"
    " optimizers pairing parallel parts preparing processes progress_bar reading restored scoring"
    " screening searching sheet source_check sources storing tensorboard training validation",
}
ROOM = {module: room for room, names in ROOMS.items() for module in names.split()}
ORDER = [*ROOMS, "Ray layer"]


def room_of(module: str) -> int:
    return ORDER.index(ROOM.get(module, "Ray layer"))


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


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def siblings(path: Path) -> set[str]:
    """Modules of irnas_ray that a file imports; `conf` for all of irnas_ray.conf."""
    inner = {name.split(".")[1] for name in imported(path) if name.startswith("irnas_ray.")}
    return {name for name in inner if name in MODULES or name == "conf"}


def test_every_named_module_exists():
    assert set(ROOM) <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    found = siblings(PACKAGE / f"{module}.py")
    assert "conf" not in found
    above = sorted(name for name in found if room_of(name) > room_of(module))
    assert not above, f"{module} ({ORDER[room_of(module)]}) imports {above}"


@pytest.mark.parametrize("module", MODULES)
def test_libraries_stay_in_their_rooms(module):
    found = packages(PACKAGE / f"{module}.py")
    assert not found & {"hydra", "omegaconf"}
    if module in ROOM:
        assert not found & {"ray", "optuna"}


def test_modules_do_not_import_each_other_in_circles():
    below = {module: siblings(PACKAGE / f"{module}.py") for module in MODULES}
    while below:
        free = {module for module, needed in below.items() if not needed & below.keys()}
        assert free, f"a circle among {sorted(below)}"
        below = {module: needed for module, needed in below.items() if module not in free}


@pytest.mark.parametrize(
    "path", [*PACKAGE.rglob("*.py"), *LAUNCHERS], ids=lambda path: f"{path.parent.name}.{path.stem}"
)
def test_nobody_imports_what_is_replaced(path):
    assert not packages(path) & {"torchvision", "torchmetrics", "piq", "pytorch_msssim"}


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_launchers_compose_and_call(path):
    assert len(path.read_text().splitlines()) <= 60
    assert "conf" in siblings(path) and not packages(path) & {"ray", "torch", "optuna"}


def test_everything_below_the_ray_layer_runs_without_ray_optuna_and_hydra():
    blocked = ("ray", "optuna", "hydra", "omegaconf", "torchvision", "torchmetrics")
    program = f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
    program += "\n".join(f"import irnas_ray.{module}" for module in sorted(ROOM))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
