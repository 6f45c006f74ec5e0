"""The parts of a discrete architecture: operators, edges and cells."""

import operator
import reprlib
from dataclasses import dataclass
from typing import Any

#: What an edge can do in the paper, in the order of alpha's columns.
OPERATORS = ("conv", "sep", "dil", "def", "skip", "none")
#: What an edge can do besides, where a space lists it.
FURTHER_OPERATORS = ("gate",)


@dataclass(frozen=True, order=True)
class Edge:
    """One kept connection of a node: which input it reads (0 = h(l-2), 1 = h(l-1), 2.. = nodes) and how."""

    source: int
    operator: str


#: The two edges that each node keeps.
Cell = tuple[tuple[Edge, Edge], ...]


def plain_cell(nodes: tuple[Any, ...], where: str) -> Cell:
    """The cell with each node's edges in order and plain numbers in them.

    Raises ValueError naming the node unless every one keeps two different earlier inputs with known operators.
    """
    if not nodes:
        raise ValueError(f"{where}: has no nodes")
    return tuple(_plain_node(node, index, f"{where}[{index}]") for index, node in enumerate(nodes))


def _plain_node(node: Any, index: int, where: str) -> tuple[Edge, Edge]:
    edges = sorted(_plain_edge(edge, where) for edge in as_tuple(node, where))
    if len(edges) != 2 or edges[0].source == edges[1].source:
        raise ValueError(f"{where}: a node keeps two different inputs")
    for edge in edges:
        if not 0 <= edge.source < index + 2:
            raise ValueError(f"{where}: input {edge.source}; node {index} has inputs 0 to {index + 1}")
    return edges[0], edges[1]


def _plain_edge(edge: Any, where: str) -> Edge:
    if not isinstance(edge, Edge):
        raise ValueError(f"{where}: {reprlib.repr(edge)} is no edge; give Edge(source, operator)")
    name, possible = edge.operator, [name for name in OPERATORS + FURTHER_OPERATORS if name != "none"]
    if not isinstance(name, str) or name not in possible:
        raise ValueError(f"{where}: unknown operator {name!r}; possible: {', '.join(possible)}")
    return Edge(plain_number(edge.source, f"{where}: input"), str(name))


def as_tuple(value: Any, where: str) -> tuple[Any, ...]:
    """The entries of a list or the like; ValueError naming where if it has none."""
    try:
        return tuple(value)
    except TypeError:
        raise ValueError(f"{where}: {reprlib.repr(value)}; a list is needed") from None


def plain_number(value: Any, where: str) -> int:
    """A whole number, one of NumPy's too, as Python's own, which JSON can hold; ValueError naming where otherwise."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{where} {reprlib.repr(value)} is not a whole number")
    return operator.index(value)
