"""What `ray job submit --working-dir .` uploads: the code, and nothing that a study reads or writes."""

import shutil
import zipfile
from pathlib import Path

from ray._private.runtime_env.packaging import create_package

ROOT = Path(__file__).parents[2]


def test_only_code_is_uploaded(tmp_path: Path) -> None:
    """Data and results that lie in the clone, under any name, stay where they are."""
    clone = tmp_path / "clone"
    for folder in ("irnas_ray", "launchers", "search_spaces", "docs"):
        shutil.copytree(ROOT / folder, clone / folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for path in (path for path in ROOT.iterdir() if path.is_file()):
        shutil.copy(path, clone)
    for name in ("results/study/trials/checkpoint", "prepared/x.parquet", "BSD500/train/a.png", ".venv/bin/python"):
        (clone / name).parent.mkdir(parents=True)
        (clone / name).write_bytes(b"x" * 1000)
    (clone / "own_network.py").touch()
    create_package(str(clone), tmp_path / "package.zip", include_gitignore=True, excludes=[])
    uploaded = set(zipfile.ZipFile(tmp_path / "package.zip").namelist())
    assert {name.partition("/")[0] for name in uploaded} == {
        "irnas_ray",
        "launchers",
        "own_network.py",
        "pyproject.toml",
        "search_spaces",
    }
    needed = {
        str(path.relative_to(clone))
        for folder in ("irnas_ray", "launchers", "search_spaces")
        for path in (clone / folder).rglob("*")
        if path.is_file()
    }
    assert needed <= uploaded
    # beside code, the networks that ship, of 3 MB at most
    assert (tmp_path / "package.zip").stat().st_size < 2**21 + 3e6
