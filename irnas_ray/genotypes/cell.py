"""The parts of a discrete architecture: operators, edges and cells."""

from dataclasses import dataclass

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


def check_cell(cell: Cell, where: str) -> None:
    """ValueError naming the node unless every node keeps two different earlier inputs with known operators."""
    if not cell:
        raise ValueError(f"{where}: has no nodes")
    for node, edges in enumerate(cell):
        if len(edges) != 2 or edges[0].source == edges[1].source:
            raise ValueError(f"{where}[{node}]: a node keeps two different inputs")
        for edge in edges:
            if edge.operator not in OPERATORS + FURTHER_OPERATORS or edge.operator == "none":
                possible = ", ".join(name for name in OPERATORS + FURTHER_OPERATORS if name != "none")
                raise ValueError(f"{where}[{node}]: unknown operator {edge.operator!r}; possible: {possible}")
            if not 0 <= edge.source < node + 2:
                raise ValueError(f"{where}[{node}]: input {edge.source}; node {node} has inputs 0 to {node + 1}")
