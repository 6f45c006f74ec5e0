"""Drawings of genotypes: every operator there is has a colour of its own."""

from irnas_ray.genotypes.cell import FURTHER_OPERATORS, OPERATORS
from irnas_ray.results.genotype_drawing import COLORS


def test_every_operator_has_a_colour() -> None:
    operators = {*OPERATORS, *FURTHER_OPERATORS} - {"none"}
    assert COLORS.keys() == operators and len(set(COLORS.values())) == len(operators)
