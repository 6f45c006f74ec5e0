"""The genotypes of a search space as named genes: counted, sampled uniformly, mutated, crossed over and compared."""

import functools
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any

from irnas_ray.genotypes.cell import Cell, Edge
from irnas_ray.genotypes.genotype import MOST_LAYERS, MOST_NODES, MULTIPLIERS, Genotype, plain_multipliers
from irnas_ray.genotypes.macro import PAPER, Macro

#: How the names of all genes begin.
PREFIX = "genotype."
#: Draws in a row that may be rejected before a space counts as used up.
MOST_REJECTIONS = 1000

#: Name of a gene -> the pair of inputs such as ``0+2``, the operator, or the level.
Genes = Mapping[str, str | int]
_Node = tuple[Edge, Edge]


@dataclass(frozen=True)
class Gene:
    """One decision: its name, what is possible there, and how many ways to go on each possibility leaves."""

    name: str
    choices: tuple[str | int, ...]
    weights: tuple[int, ...]


#: Takes a decision.
Choose = Callable[[Gene], str | int]


@dataclass(frozen=True)
class Encoding:
    """All genotypes of a space, each by its genes: for every node of every cell a pair of inputs and two operators, and
    for every layer a level.

    Genes are decided in order, and those of a level are named after the level before it (``genotype.layer1.after0``),
    so that whatever is chosen is a genotype, and no two choices are the same one. A decision without an alternative is
    no gene. ``operators`` may name ``none``, which no genotype holds. Raises ValueError where there is no genotype.

    >>> import random
    >>> import irnas_ray as ir
    >>> encoding = ir.genotypes.Encoding(("conv", "skip"), nodes=1, layers=1, multipliers=(1, 2))
    >>> encoding.size
    8
    >>> genotype = encoding.sample(random.Random(0))
    >>> encoding.decode(encoding.encode(genotype)) == genotype
    True
    >>> encoding.distance(genotype, encoding.mutate(genotype, random.Random(0)))
    1
    """

    operators: tuple[str, ...]
    nodes: int
    layers: int
    tie_cells: bool = True
    multipliers: tuple[float, ...] = MULTIPLIERS
    macro: Macro = PAPER

    def __post_init__(self) -> None:
        kept = tuple(name for name in dict.fromkeys(self.operators) if name != "none")
        object.__setattr__(self, "operators", kept)
        object.__setattr__(self, "multipliers", plain_multipliers(self.multipliers))
        if not kept or self.nodes < 1 or self.layers < 1:
            raise ValueError(f"{self.layers} layers of {self.nodes} nodes with the operators {list(kept)}: no genotype")
        for name, value, most in (("nodes", self.nodes, MOST_NODES), ("layers", self.layers, MOST_LAYERS)):
            if value > most:
                raise ValueError(f"{name}: {value}; at most {most}")
        # whatever else is impossible, the genotype says
        cell = tuple((Edge(0, name), Edge(1, name)) for name in kept)
        Genotype((cell,), (0,), self.multipliers, self.macro)

    @staticmethod
    def of(architecture: Any) -> "Encoding":
        """The genotypes of a study's ``architecture`` settings; ValueError naming the one that is impossible."""
        macro = Macro(**{field.name: getattr(architecture, field.name) for field in fields(Macro)})
        operators, multipliers = tuple(architecture.operators), tuple(architecture.multipliers)
        own = architecture
        return Encoding(operators, own.nodes, own.layers, own.tie_cells, multipliers, macro)

    @property
    def cells(self) -> int:
        """How many cells a genotype of the space holds."""
        return 1 if self.tie_cells else self.layers

    @property
    def size(self) -> int:
        """The number of genotypes."""
        nodes = (math.comb(node + 2, 2) * len(self.operators) ** 2 for node in range(self.nodes))
        return math.prod(nodes) ** self.cells * self._continuations[0][0]

    def build(self, choose: Choose) -> Genotype:
        """The genotype that comes of letting ``choose`` take every decision, in order."""
        cells = tuple(
            tuple(self._node(choose, f"cell{cell}.node{node}", node) for node in range(self.nodes))
            for cell in range(self.cells)
        )
        levels: list[int] = []
        for layer in range(self.layers):
            before = levels[-1] if levels else 0
            reached = self._reached(before)
            weights = [self._continuations[layer + 1][level] for level in reached]
            levels.append(int(_decide(choose, f"layer{layer}.after{before}", reached, weights)))
        return Genotype(cells, tuple(levels), self.multipliers, self.macro)

    def _node(self, choose: Choose, name: str, node: int) -> _Node:
        inputs = str(_decide(choose, f"{name}.inputs", [_pair(*pair) for pair in _pairs(node)]))
        first, second = (str(_decide(choose, f"{name}.{edge}", self.operators)) for edge in ("first", "second"))
        low, high = map(int, inputs.split("+"))
        return Edge(low, first), Edge(high, second)

    def decode(self, genes: Genes) -> Genotype:
        """The genotype of some genes; ValueError naming the gene that is missing, impossible, or of no use."""
        used: set[str] = set()
        genotype = self.build(functools.partial(_given, genes, used))
        if unused := sorted(genes.keys() - used):
            raise ValueError(f"{unused[0]}: no gene of {genotype}")
        return genotype

    def encode(self, genotype: Genotype) -> dict[str, str | int]:
        """The genes of a genotype; ValueError saying what of it lies outside the space."""
        self.check(genotype)
        said: dict[str, str | int] = {}
        for place, cell in enumerate(genotype.cells):
            for number, (first, second) in enumerate(cell):
                node = f"{PREFIX}cell{place}.node{number}"
                said[f"{node}.inputs"] = _pair(first.source, second.source)
                said |= {f"{node}.first": first.operator, f"{node}.second": second.operator}
        for layer, (before, level) in enumerate(itertools.pairwise((0, *genotype.levels))):
            said[f"{PREFIX}layer{layer}.after{before}"] = level
        genes: dict[str, str | int] = {}
        self.build(lambda gene: genes.setdefault(gene.name, said[gene.name]))
        return genes

    def check(self, genotype: Genotype) -> None:
        """ValueError saying what of a genotype lies outside the space."""
        sizes = (genotype.layers, genotype.nodes, len(genotype.cells))
        if sizes != (self.layers, self.nodes, self.cells):
            raise ValueError(
                "genotype: {} layers, {} nodes and {} cells, ".format(*sizes)
                + f"but the space has {self.layers}, {self.nodes} and {self.cells}"
            )
        for name in ("multipliers", "macro"):
            if getattr(genotype, name) != getattr(self, name):
                found, own = getattr(genotype, name), getattr(self, name)
                raise ValueError(f"genotype: {name} {found}, but the space has {own}")
        if foreign := {e.operator for cell in genotype.cells for node in cell for e in node} - {*self.operators}:
            raise ValueError(f"genotype: operator {sorted(foreign)[0]!r}; the space has {', '.join(self.operators)}")

    def sample(self, rng: Random, like: Genes | None = None) -> Genotype:
        """A genotype, each with the same probability: levels too, so that no path of widths is favoured.

        Genes that ``like`` has, be it of another space, are kept where they are possible; only the rest is drawn.
        """
        return self.build(functools.partial(_drawn, rng, like or {}))

    def sample_distinct(
        self,
        rng: Random,
        count: int,
        accept: Callable[[Genotype], bool] = lambda genotype: True,
        known: Collection[Genotype] = (),
    ) -> tuple[list[Genotype], int]:
        """Genotypes drawn uniformly among those that ``accept`` takes, all different and not ``known``; how many draws
        were rejected.

        Raises ValueError after a thousand rejections in a row.
        """
        seen, found, rejected, in_a_row = set(known), list[Genotype](), 0, 0
        while len(found) < count:
            genotype = self.sample(rng)
            if genotype not in seen and accept(genotype):
                found.append(genotype)
                seen.add(genotype)
                in_a_row = 0
                continue
            rejected, in_a_row = rejected + 1, in_a_row + 1
            if in_a_row == MOST_REJECTIONS:
                raise ValueError(
                    f"only {len(found)} of {count} genotypes found: the last {in_a_row} draws of the {self.size} "
                    "genotypes of this space were known or not accepted; widen the space, or ask for fewer"
                )
        return found, rejected

    def enumerate(self) -> Iterator[Genotype]:
        """Every genotype once; look at ``size`` before going through them."""
        kinds = list(itertools.product(self.operators, repeat=2))
        nodes = [
            [(Edge(a, first), Edge(b, second)) for a, b in _pairs(node) for first, second in kinds]
            for node in range(self.nodes)
        ]
        for cells in itertools.product(list(itertools.product(*nodes)), repeat=self.cells):
            for levels in self.paths():
                yield Genotype(cells, levels, self.multipliers, self.macro)

    def paths(self) -> Iterator[tuple[int, ...]]:
        """The levels of all layers, in every way that genotypes can have them."""
        return self._paths(0, self.layers)

    def neighbours(self, genotype: Genotype) -> list[Genotype]:
        """All genotypes that are one edit away: another operator or input of an edge, or a layer a level up or down."""
        self.check(genotype)
        found = []
        for place, cell in enumerate(genotype.cells):
            for number, node in enumerate(cell):
                for edited in self._edited(number, node):
                    changed: Cell = (*cell[:number], edited, *cell[number + 1 :])
                    cells = (*genotype.cells[:place], changed, *genotype.cells[place + 1 :])
                    found.append(replace(genotype, cells=cells))
        for layer, level in enumerate(genotype.levels):
            for other in (level - 1, level + 1):
                levels = (*genotype.levels[:layer], other, *genotype.levels[layer + 1 :])
                if all(b in self._reached(a) for a, b in itertools.pairwise((0, *levels))):
                    found.append(replace(genotype, levels=levels))
        return found

    def mutate(self, genotype: Genotype, rng: Random) -> Genotype:
        """One of the neighbours, each with the same probability; ValueError where the space holds no other genotype."""
        if self.size == 1:
            raise ValueError("the space holds one genotype, which cannot be mutated")
        return rng.choice(self.neighbours(genotype))

    def crossover(self, one: Genotype, other: Genotype, rng: Random) -> Genotype:
        """A genotype with every node from one of two, and the levels of one up to a layer where the other can go on."""
        self.check(one)
        self.check(other)
        cells = tuple(
            tuple(rng.choice(nodes) for nodes in zip(a, b, strict=True))
            for a, b in zip(one.cells, other.cells, strict=True)
        )
        first, second = rng.sample([one.levels, other.levels], 2)
        joints = [at for at in range(1, self.layers) if second[at] in self._reached(first[at - 1])]
        joint = rng.choice([0, *joints, self.layers])
        return replace(one, cells=cells, levels=first[:joint] + second[joint:])

    def distance(self, one: Genotype, other: Genotype) -> int:
        """The least number of edits that make one of the other, edits being those of ``neighbours``."""
        self.check(one)
        self.check(other)
        nodes = (
            min(_edits(a, b), _edits(a, b[::-1]))
            for cell, goal in zip(one.cells, other.cells, strict=True)
            for a, b in zip(cell, goal, strict=True)
        )
        return sum(nodes) + sum(abs(a - b) for a, b in zip(one.levels, other.levels, strict=True))

    def _edited(self, number: int, node: _Node) -> Iterator[_Node]:
        for edge, beside in (node, node[::-1]):
            for operator in self.operators:
                if operator != edge.operator:
                    yield Edge(edge.source, operator), beside
            for source in range(number + 2):
                if source not in (edge.source, beside.source):
                    yield Edge(source, edge.operator), beside

    def _reached(self, level: int) -> list[int]:
        """The levels that a layer after one of ``level`` can have."""
        return [next_one for next_one in (level - 1, level, level + 1) if 0 <= next_one < len(self.multipliers)]

    @functools.cached_property
    def _continuations(self) -> list[list[int]]:
        """``[layer][level]``: in how many ways the layers from ``layer`` on can follow a layer of that level."""
        counts = [[1] * len(self.multipliers)]
        for _ in range(self.layers):
            counts.append([sum(counts[-1][there] for there in self._reached(at)) for at in range(len(counts[0]))])
        return counts[::-1]

    def _paths(self, before: int, layers: int) -> Iterator[tuple[int, ...]]:
        if layers == 0:
            yield ()
            return
        for level in self._reached(before):
            yield from ((level, *rest) for rest in self._paths(level, layers - 1))


def _decide(choose: Choose, name: str, choices: Sequence[str | int], weights: Sequence[int] | None = None) -> str | int:
    if len(choices) == 1:
        return choices[0]
    return choose(Gene(f"{PREFIX}{name}", tuple(choices), tuple(weights or [1] * len(choices))))


def _given(genes: Genes, used: set[str], gene: Gene) -> str | int:
    used.add(gene.name)
    possible = ", ".join(map(str, gene.choices))
    if gene.name not in genes:
        raise ValueError(f"{gene.name}: missing; possible: {possible}")
    if genes[gene.name] not in gene.choices:
        raise ValueError(f"{gene.name}: {genes[gene.name]!r}; possible: {possible}")
    return genes[gene.name]


def _drawn(rng: Random, like: Genes, gene: Gene) -> str | int:
    if like.get(gene.name) in gene.choices:
        return like[gene.name]
    # whole numbers, because there may be more genotypes than a float can count
    drawn = rng.randrange(sum(gene.weights))
    bounds = itertools.accumulate(gene.weights)
    return next(choice for choice, bound in zip(gene.choices, bounds, strict=True) if drawn < bound)


def _pairs(node: int) -> Iterator[tuple[int, int]]:
    return itertools.combinations(range(node + 2), 2)


def _pair(low: int, high: int) -> str:
    return f"{low}+{high}"


def _edits(node: _Node, goal: _Node) -> int:
    return sum((a.source != b.source) + (a.operator != b.operator) for a, b in zip(node, goal, strict=True))
