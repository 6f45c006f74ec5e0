"""What a result depends on: versions as they are installed, told without importing the libraries."""

import importlib.metadata
import os
import platform
import subprocess
import sys

from irnas_ray import __version__
from irnas_ray.system.environment import PYTHON, hardware, usable_cores, usable_memory, versions


def test_versions_are_those_installed_in_the_order_asked_for():
    found = versions(PYTHON, "numpy", "no-such-distribution", "pillow")
    assert list(found) == ["irnas_ray", "python", "numpy", "pillow"]
    assert found["irnas_ray"] == __version__ and found["python"] == platform.python_version()
    assert found["pillow"] == importlib.metadata.version("pillow")
    assert versions() == {"irnas_ray": __version__}


def test_versions_are_told_without_importing_the_libraries():
    program = "import sys\nfrom irnas_ray.system.environment import versions\nversions('torch', 'ray', 'optuna')\n"
    program += "sys.exit(str({'torch', 'ray', 'optuna', 'numpy'} & sys.modules.keys() or ''))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.stderr == "\n" or not done.stderr, done.stderr


def test_the_machine_is_what_this_process_may_use():
    found = hardware()
    assert list(found) == ["processor", "cores", "memory_gib", "gpu"] and found["processor"]
    assert 1 <= found["cores"] == usable_cores() <= (os.cpu_count() or 1)
    assert found["memory_gib"] * 2**30 <= 1.1 * usable_memory() > 2**27
