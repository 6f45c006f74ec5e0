"""The parts of a discrete architecture: operators, edges, cells, and how they are read from JSON."""

from dataclasses import dataclass
from typing import Any

#: What an edge can do, in the order of alpha's columns.
OPERATORS = ("conv", "sep", "dil", "def", "skip", "none")


@dataclass(frozen=True, order=True)
class Edge:
    """One kept connection of a node: which input it reads (0 = h(l-2), 1 = h(l-1), 2.. = nodes) and how."""

    source: int
    operator: str


#: The two edges that each node keeps.
Cell = tuple[tuple[Edge, Edge], ...]


def check_cell(cell: Cell, where: str) -> None:
    """ValueError naming the node unless every node keeps two different earlier inputs with known operators."""
    if not cell:
        raise ValueError(f"{where}: has no nodes")
    for node, edges in enumerate(cell):
        if len(edges) != 2 or edges[0].source == edges[1].source:
            raise ValueError(f"{where}[{node}]: a node keeps two different inputs")
        for edge in edges:
            if edge.operator not in OPERATORS or edge.operator == "none":
                possible = ", ".join(name for name in OPERATORS if name != "none")
                raise ValueError(f"{where}[{node}]: unknown operator {edge.operator!r}; possible: {possible}")
            if not 0 <= edge.source < node + 2:
                raise ValueError(f"{where}[{node}]: input {edge.source}; node {node} has inputs 0 to {node + 1}")


def read_list(value: dict[str, Any], field: str) -> list[Any]:
    """The list in a field of a JSON object; ValueError naming the field if it is missing or no list."""
    if field not in value:
        raise ValueError(f'genotype: field "{field}" is missing')
    if not isinstance(value[field], list):
        raise ValueError(f"{field}: must be a list")
    return value[field]


def read_number(value: Any, where: str, kinds: Any) -> Any:
    """A number of one of these types; ValueError saying where it stands otherwise."""
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ValueError(f"{where}: {value!r} is not a number of the expected kind")
    return value


def read_float(value: Any, where: str) -> float:
    """A number as a float; ValueError saying where it stands if it is none or too large for one."""
    try:
        return float(read_number(value, where, (int, float)))
    except OverflowError:
        raise ValueError(f"{where}: too large") from None


def read_cell(value: Any, where: str) -> Cell:
    """A cell from its JSON form, a list of nodes of two [operator, input] pairs; ValueError names the node."""
    if not isinstance(value, list):
        raise ValueError(f"{where}: must be a list of nodes")
    return tuple(_read_node(node, f"{where}[{index}]") for index, node in enumerate(value))


def _read_node(value: Any, where: str) -> tuple[Edge, Edge]:
    try:
        (first_operator, first), (second_operator, second) = value
    except (TypeError, ValueError):
        raise ValueError(f"{where}: must be two [operator, input] pairs") from None
    edges = []
    for operator, source in ((first_operator, first), (second_operator, second)):
        if not isinstance(operator, str):
            raise ValueError(f"{where}: operator {operator!r} must be a name")
        edges.append(Edge(read_number(source, where, int), operator))
    return edges[0], edges[1]
