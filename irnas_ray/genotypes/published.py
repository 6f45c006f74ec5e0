"""The paper's genotypes, which ship with the package and are loaded by name; docs/tables.md says whence they are."""

from importlib.resources import files
from pathlib import Path

from irnas_ray.genotypes.genotype import Genotype

_FOLDER = files("irnas_ray") / "genotypes"


def published_names() -> list[str]:
    """Names of the genotypes that ship with the package, in alphabetical order."""
    return sorted(entry.name.removesuffix(".json") for entry in _FOLDER.iterdir() if entry.name.endswith(".json"))


def load_genotype(name_or_path: str) -> Genotype:
    """The published genotype of a name such as ``irnas_denoise``, else that of a file.

    A name wins over a file of the same name, which ``./NAME`` still reads. Raises ValueError, listing the names where
    there is neither, and naming file and field where the file is no genotype.

    >>> import irnas_ray as ir
    >>> ir.load_genotype("irnas_denoise").levels
    (0, 0, 1, 1)
    """
    if name_or_path in published_names():
        return Genotype.from_json((_FOLDER / f"{name_or_path}.json").read_text(encoding="utf-8"))
    if not Path(name_or_path).exists():
        known = ", ".join(published_names())
        raise ValueError(f"genotype {name_or_path!r}: no such file, and no genotype of this name; names: {known}")
    return Genotype.load(name_or_path)
