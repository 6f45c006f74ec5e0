"""What pyproject.toml cannot say: the top-level folder search_spaces/ is installed inside the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["irnas_ray*"]), "irnas_ray.search_spaces"],
    package_dir={"irnas_ray.search_spaces": "search_spaces"},
)
