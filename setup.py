"""What pyproject.toml cannot say: search_spaces/ is installed in the package; compiled code knows its sources."""

import hashlib
from pathlib import Path

from setuptools import Extension, find_packages, setup

KERNELS = Path("irnas_ray/kernels")
# as in irnas_ray/kernels/compiled.py, which loads no library of other sources than its own
SOURCES = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(KERNELS.glob("*.[ch]")))).hexdigest()

setup(
    packages=[*find_packages(include=["irnas_ray*"]), "irnas_ray.search_spaces"],
    package_dir={"irnas_ray.search_spaces": "search_spaces"},
    ext_modules=[
        # optional: without a C compiler the package installs and works, only its operators are slower on a CPU;
        # no OpenMP library is linked, because the symbols must come from the one that torch has loaded
        Extension(
            "irnas_ray.kernels._native",
            sources=[str(path) for path in sorted(KERNELS.glob("*.c"))],
            depends=[str(path) for path in KERNELS.glob("*.h")],
            define_macros=[("IRNAS_RAY_SOURCES", f'"{SOURCES}"')],
            extra_compile_args=["-O3", "-fopenmp"],
            optional=True,
        )
    ],
)
