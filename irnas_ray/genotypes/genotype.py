"""The discrete architecture as a value that can be saved, compared and built; decoding is in ``decoding``."""

import functools
import hashlib
import json
import math
import reprlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from irnas_ray.genotypes.cell import Cell, Edge, as_tuple, plain_cell, plain_number
from irnas_ray.genotypes.macro import CHOICES, PAPER, Macro
from irnas_ray.system.files import write_text

#: Width of each level as a multiple of the basic width (section 3.2).
MULTIPLIERS = (1.0, 2.0, 4.0)
FORMAT = "irnas_ray.genotype"
#: Version 1 knew no other network than the paper's, and is what is written of one.
VERSION = 2


#: Most nodes of a cell and most layers; what a file may hold at most is far more than they need.
MOST_NODES = MOST_LAYERS = 100
MOST_BYTES = 8 * 2**20
#: Most channels of a node at any level, and so the largest multiplier.
MOST_WIDTH = 10**6


@dataclass(frozen=True)
class _File:
    cells: list[list[tuple[tuple[str, int], tuple[str, int]]]]
    levels: tuple[int, ...]
    multipliers: tuple[float, ...]
    macro: Macro = PAPER


@functools.cache
def _reader() -> Any:
    # half of this module's time to import
    from pydantic import TypeAdapter

    return TypeAdapter(_File)


@dataclass(frozen=True)
class Genotype:
    """A network of stacked cells: one cell for all layers (or one for each layer) and a width level for each layer.

    ``cells[c][node]`` holds the node's two edges; ``levels[l]`` indexes ``multipliers``, so that a cell of layer ``l``
    has ``multipliers[levels[l]]`` times the basic width; ``macro`` is what stands around the cells. Raises ValueError
    naming the field on anything impossible.

    >>> import irnas_ray as ir
    >>> conv, skip = ir.genotypes.Edge(0, "conv"), ir.genotypes.Edge(1, "skip")
    >>> genotype = ir.Genotype(cells=(((conv, skip),),), levels=(0, 1))
    >>> print(genotype)
    n0 conv<-0 skip<-1; levels 0-1
    >>> genotype.save("genotype.json")
    >>> ir.Genotype.load("genotype.json") == ir.Genotype.from_json(genotype.to_json()) == genotype
    True
    """

    cells: tuple[Cell, ...]
    levels: tuple[int, ...]
    multipliers: tuple[float, ...] = MULTIPLIERS
    macro: Macro = PAPER

    def __post_init__(self) -> None:
        object.__setattr__(self, "multipliers", plain_multipliers(self.multipliers))
        object.__setattr__(self, "levels", _plain_levels(self.levels, len(self.multipliers)))
        object.__setattr__(self, "cells", _plain_cells(self.cells, len(self.levels)))
        if not isinstance(self.macro, Macro):
            raise ValueError(f"macro: {reprlib.repr(self.macro)} is no Macro; give Macro(unshuffle=2) or the like")

    @property
    def layers(self) -> int:
        return len(self.levels)

    @property
    def nodes(self) -> int:
        return len(self.cells[0])

    def cell(self, layer: int) -> Cell:
        """The cell of a layer, whether all layers share one or not."""
        return self.cells[layer] if len(self.cells) > 1 else self.cells[0]

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that are equal exactly for equal genotypes."""
        return hashlib.sha256(self.to_json(indent=None).encode()).hexdigest()[:12]

    def __str__(self) -> str:
        cells = " || ".join(
            " | ".join(f"n{n} " + " ".join(f"{e.operator}<-{e.source}" for e in node) for n, node in enumerate(cell))
            for cell in self.cells
        )
        own = asdict(self.macro)
        macro = ", ".join(f"{name} {value}" for name, value in own.items() if value != getattr(PAPER, name))
        return f"{cells}; levels {'-'.join(map(str, self.levels))}" + (f"; {macro}" if macro else "")

    def to_json(self, indent: int | None = 1) -> str:
        """The genotype as JSON text that ``from_json`` reads back to an equal genotype."""
        value: dict[str, Any] = {
            "format": FORMAT,
            "version": 1 if self.macro == PAPER else VERSION,
            "cells": [[[[e.operator, e.source] for e in node] for node in cell] for cell in self.cells],
            "levels": list(self.levels),
            "multipliers": list(self.multipliers),
        }
        if self.macro != PAPER:
            value["macro"] = asdict(self.macro)
        return json.dumps(value, indent=indent)

    @staticmethod
    def from_json(text: str) -> "Genotype":
        """Read a genotype from JSON text; ValueError names the field that is missing or wrong."""
        if len(text) > MOST_BYTES:
            raise ValueError(f"genotype: a text of {len(text)} characters; at most {MOST_BYTES}")
        try:
            value = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"genotype: not JSON ({error})") from None
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ValueError(f'genotype: field "format" must be "{FORMAT}"; this file is something else')
        if type(value.get("version")) is not int or not 1 <= value["version"] <= VERSION:
            known = f"this release reads versions up to {VERSION}"
            raise ValueError(f"version: {value.get('version')!r} is unknown; {known}")
        _check_fields(value)
        if isinstance(value.get("macro"), dict) and (unknown := sorted(value["macro"].keys() - CHOICES.keys())):
            raise ValueError(f"macro.{unknown[0]}: there is no such choice; possible: {', '.join(CHOICES)}")
        try:
            # strict, so that a name or a truth is no number; only JSON's lists are then tuples
            file: _File = _reader().validate_json(text, strict=True)
        except ValueError as error:
            raise ValueError(_first_mistake(error)) from None
        cells = tuple(tuple((Edge(i, a), Edge(j, b)) for (a, i), (b, j) in cell) for cell in file.cells)
        return Genotype(cells, file.levels, file.multipliers, file.macro)

    def save(self, path: str | Path) -> None:
        """Write the genotype as JSON, atomically; OSError naming the file if it cannot be written."""
        write_text(path, self.to_json() + "\n")

    @staticmethod
    def load(path: str | Path) -> "Genotype":
        """Read a genotype file; ValueError names the file and the field on bad input."""
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read(MOST_BYTES + 1)
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"genotype file {path}: cannot be read ({error})") from None
        try:
            return Genotype.from_json(text)
        except ValueError as error:
            raise ValueError(f"genotype file {path}: {error}") from None


def plain_multipliers(values: Any) -> tuple[float, ...]:
    """The multipliers as Python's own numbers; ValueError if one of them can be that of no network."""
    multipliers = as_tuple(values, "multipliers")
    if not multipliers:
        raise ValueError("multipliers: at least one width is needed")
    return tuple(_plain_multiplier(value) for value in multipliers)


def _plain_multiplier(value: Any) -> float:
    try:
        # float takes texts as well, which JSON would not give back as numbers
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number <= MOST_WIDTH:
        raise ValueError(f"multipliers: {reprlib.repr(value)}; a positive number, at most {MOST_WIDTH}, is needed")
    return number


def _plain_levels(values: Any, widths: int) -> tuple[int, ...]:
    levels = as_tuple(values, "levels")
    if not levels:
        raise ValueError("levels: at least one layer is needed")
    if len(levels) > MOST_LAYERS:
        raise ValueError(f"levels: {len(levels)} layers; at most {MOST_LAYERS}")
    levels = tuple(plain_number(level, f"levels[{layer}]:") for layer, level in enumerate(levels))
    for layer, (before, level) in enumerate(zip((0, *levels[:-1]), levels, strict=True)):
        if not 0 <= level < widths:
            raise ValueError(f"levels[{layer}]: {level} is not one of the {widths} width levels")
        if abs(level - before) > 1:
            raise ValueError(f"levels[{layer}]: from level {before} to {level}; a layer changes by one level at most")
    return levels


def _plain_cells(values: Any, layers: int) -> tuple[Cell, ...]:
    cells = as_tuple(values, "cells")
    if len(cells) not in (1, layers):
        raise ValueError(f"cells: {len(cells)} for {layers} layers; give one cell or one a layer")
    nodes = [as_tuple(cell, f"cells[{index}]") for index, cell in enumerate(cells)]
    for index, cell in enumerate(nodes):
        if len(cell) > MOST_NODES:
            raise ValueError(f"cells[{index}]: {len(cell)} nodes; at most {MOST_NODES}")
    if len({len(cell) for cell in nodes}) != 1:
        raise ValueError("cells: all cells must have the same number of nodes")
    return tuple(plain_cell(cell, f"cells[{index}]") for index, cell in enumerate(nodes))


def _check_fields(value: dict[str, Any]) -> None:
    """ValueError naming a field that a file of its version cannot have or must have.

    One that is misspelt would otherwise be left out, and the file read as another network than it describes.
    """
    known = ["format", "version", *_File.__dataclass_fields__]
    unknown = [name for name in value if name not in known]
    if unknown:
        raise ValueError(f"{unknown[0]}: there is no such field; possible: {', '.join(known)}")
    if "macro" in value and value["version"] < 2:
        raise ValueError('macro: unknown in version 1; a file that has it must say "version": 2')
    if "macro" not in value and value["version"] >= 2:
        raise ValueError('macro: missing; without it the file is one of "version": 1')


def _first_mistake(error: Any) -> str:
    """Where the first mistake is, such as ``cells[0][1]``, and what it is, in one line."""
    first = error.errors()[0]
    if first["type"] == "value_error":
        # what a class of ours says, which begins with its own field
        return ".".join([*map(str, first["loc"]), str(first["ctx"]["error"])])
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
    found = "" if first["type"] == "missing" else f", not {reprlib.repr(first['input'])}"
    return f"{where}: {first['msg']}{found}"
