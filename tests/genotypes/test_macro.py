"""Macro choices, and the genotypes that carry them."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import irnas_ray as ir
from irnas_ray.genotypes.macro import HEADS, NORMALISATIONS, PAPER, UNSHUFFLES

CELL = ((ir.genotypes.Edge(0, "conv"), ir.genotypes.Edge(1, "gate")),)


def every_macro() -> list[ir.Macro]:
    choices = (UNSHUFFLES, NORMALISATIONS, (True, False), (True, False), HEADS, (True, False))
    return [ir.Macro(*combination) for combination in itertools.product(*choices)]


def test_every_choice_survives_json_and_digests_differ() -> None:
    genotypes = [ir.Genotype((CELL,), (0, 1), macro=macro) for macro in every_macro()]
    assert [ir.Genotype.from_json(genotype.to_json()) for genotype in genotypes] == genotypes
    assert len({genotype.digest for genotype in genotypes}) == len(genotypes) == 4 * 2 * 2 * 2 * 3 * 2
    assert len({str(genotype) for genotype in genotypes}) == len(genotypes)


def test_the_papers_network_is_written_as_ever() -> None:
    """Digests name trainings of older studies, so they must not change."""
    written = json.loads(ir.Genotype((CELL,), (0, 1)).to_json())
    assert written["version"] == 1 and "macro" not in written
    assert ir.load_genotype("irnas_denoise").digest == "2a15f345445c"


@pytest.mark.parametrize(
    "change,message",
    [
        ({"unshuffle": 5}, r"macro.unshuffle: 5; possible: 1, 2, 3, 4$"),
        ({"unshuffle": True}, r"macro.unshuffle"),
        ({"normalisation": "group"}, r"macro.normalisation: 'group'; possible: batch, none$"),
        ({"head": "deep"}, r"macro.head: 'deep'; possible: separable, plain, linear$"),
        ({"aspp": "yes"}, r"macro.aspp"),
        ({"unshufle": 4}, r"macro.unshufle: there is no such choice; possible: unshuffle, normalisation"),
    ],
)
def test_an_impossible_choice_is_named(tmp_path: Path, change: dict, message: str) -> None:
    value = json.loads(ir.Genotype((CELL,), (0,), macro=ir.Macro(unshuffle=2)).to_json())
    value["macro"] |= change
    (tmp_path / "genotype.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=f"genotype.json: .*{message}"):
        ir.Genotype.load(tmp_path / "genotype.json")


@pytest.mark.parametrize("change", [{"lower_level": "no"}, {"aspp": 1}, {"low_level": 0.0}, {"unshuffle": 2.0}])
def test_a_choice_of_another_type_is_refused(change: dict[str, Any]) -> None:
    """What could not be read back, and would be another network than it looks like."""
    macro = ir.Macro()
    ((name, value),) = change.items()
    # the tests' own type checks would refuse it in a call
    object.__setattr__(macro, name, value)
    with pytest.raises(ValueError, match=f"^{name}: {value!r}; possible: "):
        macro.__post_init__()


def test_a_macro_in_a_file_of_version_1_is_refused() -> None:
    value = json.loads(ir.Genotype((CELL,), (0,), macro=ir.Macro(unshuffle=2)).to_json()) | {"version": 1}
    with pytest.raises(ValueError, match='macro: unknown in version 1; a file that has it must say "version": 2'):
        ir.Genotype.from_json(json.dumps(value))


@pytest.mark.parametrize("layers,lower", [(1, [0]), (2, [0, 1]), (3, [1]), (4, [1, 2]), (6, [2, 3])])
def test_the_middle_third_is_lower(layers: int, lower: list[int]) -> None:
    assert list(ir.Macro(lower_level=True).lower_layers(layers)) == lower
    assert not PAPER.lower_layers(layers)
