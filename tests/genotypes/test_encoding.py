"""The encoding of a space: genes and genotypes are one to one, sampling is uniform, edits reach everything."""

from collections import Counter, deque
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from irnas_ray.genotypes.cell import FURTHER_OPERATORS, OPERATORS
from irnas_ray.genotypes.encoding import Encoding
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.genotypes.macro import Macro

#: Spaces that brute force goes through: 96, 116, 64 and 36 genotypes.
SMALL = {
    "nodes": Encoding(("conv", "skip", "none"), nodes=2, layers=1, multipliers=(1, 2)),
    "levels": Encoding(("conv", "sep"), nodes=1, layers=4, multipliers=(1, 2, 4)),
    "cells": Encoding(("conv", "skip"), nodes=1, layers=2, tie_cells=False, multipliers=(1, 2)),
    "inputs": Encoding(("conv",), nodes=3, layers=1, multipliers=(1, 2)),
}


@st.composite
def encodings(draw: st.DrawFn) -> Encoding:
    names = draw(st.lists(st.sampled_from(OPERATORS[:5] + FURTHER_OPERATORS), min_size=1, max_size=5, unique=True))
    return Encoding(
        tuple(names),
        nodes=draw(st.integers(1, 5)),
        layers=draw(st.integers(1, 6)),
        tie_cells=draw(st.booleans()),
        multipliers=(1, 2, 4, 8)[: draw(st.integers(1, 4))],
        macro=Macro(unshuffle=draw(st.sampled_from([1, 2]))),
    )


@given(encodings(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_every_sample_is_valid_and_one_to_one_with_its_genes(encoding, rng):
    genotype = encoding.sample(rng)
    assert Genotype.from_json(genotype.to_json()) == genotype and genotype.macro == encoding.macro
    genes = encoding.encode(genotype)
    assert encoding.decode(genes) == genotype
    assert all(name.startswith("genotype.") for name in genes)


@given(encodings(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_children_stay_in_the_space(encoding, rng):
    one, other = encoding.sample(rng), encoding.sample(rng)
    child = encoding.crossover(one, other, rng)
    encoding.check(child)
    for a, b, both in zip(one.cells, other.cells, child.cells, strict=True):
        assert all(node in pair for node, pair in zip(both, zip(a, b, strict=True), strict=True))
    assert all(
        level in pair for level, pair in zip(child.levels, zip(one.levels, other.levels, strict=True), strict=True)
    )
    if encoding.size > 1:
        mutant = encoding.mutate(one, rng)
        encoding.check(mutant)
        assert encoding.distance(one, mutant) == 1


@pytest.mark.parametrize("name", SMALL)
def test_size_counts_what_is_enumerated(name):
    encoding = SMALL[name]
    everything = list(encoding.enumerate())
    assert len(everything) == len(set(everything)) == encoding.size
    genes = {tuple(sorted(encoding.encode(genotype).items())) for genotype in everything}
    assert len(genes) == encoding.size


@pytest.mark.parametrize("name", SMALL)
def test_samples_are_uniform(name):
    encoding, rng = SMALL[name], Random(1)
    counts = Counter(encoding.sample(rng) for _ in range(10 * encoding.size))
    assert chisquare([counts[genotype] for genotype in encoding.enumerate()]).pvalue > 1e-3


def test_choosing_genes_uniformly_would_favour_some_paths_of_widths():
    encoding, rng = SMALL["levels"], Random(1)
    counts = Counter(encoding.build(lambda gene: rng.choice(gene.choices)) for _ in range(10 * encoding.size))
    assert chisquare([counts[genotype] for genotype in encoding.enumerate()]).pvalue < 1e-3


@pytest.mark.parametrize("name", SMALL)
def test_distance_is_the_least_number_of_mutations_and_they_reach_every_genotype(name):
    encoding = SMALL[name]
    start = encoding.sample(Random(2))
    steps, queue = {start: 0}, deque([start])
    while queue:
        here = queue.popleft()
        neighbours = encoding.neighbours(here)
        assert len(set(neighbours)) == len(neighbours) and all(here in encoding.neighbours(n) for n in neighbours[:3])
        for neighbour in neighbours:
            if neighbour not in steps:
                steps[neighbour] = steps[here] + 1
                queue.append(neighbour)
    assert steps == {genotype: encoding.distance(start, genotype) for genotype in encoding.enumerate()}


def test_mutations_are_drawn_uniformly():
    encoding, rng = SMALL["nodes"], Random(3)
    genotype = encoding.sample(rng)
    counts = Counter(encoding.mutate(genotype, rng) for _ in range(2000))
    assert chisquare([counts[neighbour] for neighbour in encoding.neighbours(genotype)]).pvalue > 1e-3


def test_distinct_samples_are_distinct_and_count_what_was_rejected():
    encoding = SMALL["inputs"]
    everything = list(encoding.enumerate())
    found, rejected = encoding.sample_distinct(Random(0), encoding.size)
    assert set(found) == set(everything) and rejected > 0
    flat, _ = encoding.sample_distinct(Random(0), 3, accept=lambda genotype: genotype.levels == (0,), known=found[:5])
    assert all(genotype.levels == (0,) and genotype not in found[:5] for genotype in flat)
    with pytest.raises(ValueError, match=rf"only 1 of 2 genotypes found.*{encoding.size} genotypes of this space"):
        encoding.sample_distinct(Random(0), 2, known=everything[1:])


def test_what_is_outside_the_space_is_named():
    encoding = SMALL["levels"]
    genotype = encoding.sample(Random(0))
    genes = encoding.encode(genotype)
    first = next(iter(genes))
    with pytest.raises(ValueError, match=f"{first}: missing"):
        encoding.decode({name: value for name, value in genes.items() if name != first})
    with pytest.raises(ValueError, match=f"{first}: 'def'; possible: conv, sep"):
        encoding.decode(genes | {first: "def"})
    with pytest.raises(ValueError, match=r"genotype\.layer9\.after0: no gene of"):
        encoding.decode(genes | {"genotype.layer9.after0": 0})
    for other, what in (
        (Encoding(("conv", "def"), 1, 4), "operator 'sep'"),
        (Encoding(("conv", "sep"), 1, 3), "4 layers, 1 nodes"),
        (Encoding(("conv", "sep"), 1, 4, multipliers=(1,)), "multipliers"),
        (Encoding(("conv", "sep"), 1, 4, macro=Macro(unshuffle=2)), "macro"),
    ):
        with pytest.raises(ValueError, match=what):
            other.encode(max(encoding.enumerate(), key=lambda one: sum(e.operator == "sep" for e in one.cells[0][0])))
    with pytest.raises(ValueError, match="no genotype"):
        Encoding(("none",), 1, 1)
    with pytest.raises(ValueError, match="unknown operator 'magic'"):
        Encoding(("conv", "magic"), 1, 1)
    with pytest.raises(ValueError, match="holds one genotype"):
        Encoding(("conv",), 1, 1, multipliers=(1,)).mutate(
            Encoding(("conv",), 1, 1, multipliers=(1,)).sample(Random(0)), Random(0)
        )
