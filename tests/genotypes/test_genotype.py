"""Genotypes as values: what goes to JSON comes back, equal means equal digest, and bad files name the field."""

import errno
import json
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irnas_ray.genotypes.cell import OPERATORS, Cell, Edge
from irnas_ray.genotypes.genotype import FORMAT, MOST_BYTES, Genotype
from irnas_ray.genotypes.macro import PAPER

NAMES = [name for name in OPERATORS if name != "none"]
CELL: Cell = ((Edge(0, "conv"), Edge(1, "def")), (Edge(2, "skip"), Edge(0, "sep")))


@st.composite
def cells(draw: st.DrawFn, nodes: int) -> Cell:
    made = []
    for node in range(nodes):
        first, second = draw(st.lists(st.integers(0, node + 1), min_size=2, max_size=2, unique=True))
        made.append((Edge(first, draw(st.sampled_from(NAMES))), Edge(second, draw(st.sampled_from(NAMES)))))
    return tuple(made)


@st.composite
def genotypes(draw: st.DrawFn) -> Genotype:
    multipliers = draw(st.lists(st.floats(0.1, 100), min_size=1, max_size=4))
    levels = [0]
    for _ in range(draw(st.integers(1, 5))):
        levels.append(draw(st.integers(max(0, levels[-1] - 1), min(len(multipliers) - 1, levels[-1] + 1))))
    nodes, count = draw(st.integers(1, 4)), draw(st.sampled_from([1, len(levels) - 1]))
    return Genotype(tuple(draw(cells(nodes)) for _ in range(count)), tuple(levels[1:]), tuple(multipliers))


@given(genotypes(), st.sampled_from([None, 1, 4]))
@settings(max_examples=60, deadline=None)
def test_json_round_trip(genotype, indent):
    again = Genotype.from_json(genotype.to_json(indent))
    assert again == genotype and again.digest == genotype.digest and hash(again) == hash(genotype)


@given(genotypes())
@settings(max_examples=40, deadline=None)
def test_order_of_edges_means_nothing(genotype):
    swapped = Genotype(
        tuple(tuple((second, first) for first, second in cell) for cell in genotype.cells),
        genotype.levels,
        genotype.multipliers,
    )
    assert swapped == genotype and swapped.digest == genotype.digest and str(swapped) == str(genotype)


@given(genotypes(), genotypes())
@settings(max_examples=60, deadline=None)
def test_digests_are_equal_exactly_for_equal_genotypes(one, two):
    assert (one.digest == two.digest) == (one == two)


def test_every_single_change_changes_the_digest():
    base = Genotype((CELL,), (0, 1))
    others = [
        Genotype((CELL,), (0, 0)),
        Genotype((CELL,), (0, 1, 1)),
        Genotype((CELL, CELL), (0, 1)),
        Genotype((CELL,), (0, 1), (1, 2)),
        Genotype((CELL,), (0, 1), (1, 2, 3)),
        Genotype((((Edge(0, "dil"), CELL[0][1]), CELL[1]),), (0, 1)),
        Genotype(((CELL[0], (Edge(1, "skip"), Edge(0, "sep"))),), (0, 1)),
        Genotype((CELL[:1],), (0, 1)),
    ]
    assert len({genotype.digest for genotype in [base, *others]}) == len(others) + 1
    assert len(base.digest) == 12 and int(base.digest, 16) >= 0


def test_whole_multipliers_are_numbers_like_others():
    assert Genotype((CELL,), (0,), (1, 2, 4)).digest == Genotype((CELL,), (0,), (1.0, 2.0, 4.0)).digest


def test_cells_of_layers():
    tied, untied = Genotype((CELL,), (0, 1)), Genotype((CELL, CELL[:1] + ((Edge(0, "dil"), Edge(1, "dil")),)), (0, 1))
    assert tied.cell(0) == tied.cell(1) == tied.cells[0]
    assert [untied.cell(0), untied.cell(1)] == list(untied.cells)
    assert (tied.layers, tied.nodes, tied.multipliers) == (2, 2, (1.0, 2.0, 4.0))


def test_text_names_every_edge():
    assert str(Genotype((CELL,), (0, 1))) == "n0 conv<-0 def<-1 | n1 sep<-0 skip<-2; levels 0-1"


def test_file_round_trip(tmp_path):
    path = tmp_path / "new" / "genotype.json"
    genotype = Genotype((CELL,), (0, 1))
    genotype.save(path)
    assert Genotype.load(path) == Genotype.load(str(path)) == genotype
    Genotype((CELL,), (0,)).save(path)
    assert Genotype.load(path).levels == (0,)
    assert [entry.name for entry in path.parent.iterdir()] == ["genotype.json"]


def good() -> dict[str, Any]:
    return json.loads(Genotype((CELL,), (0, 1)).to_json())


def with_node(node: int, value: Any) -> dict[str, Any]:
    changed = good()
    changed["cells"][0][node] = value
    return changed


DEEP = "[" * 100_000
BAD = {
    "format missing": ({k: v for k, v in good().items() if k != "format"}, "format"),
    "other format": (good() | {"format": "darts"}, "format"),
    "a list": ([1, 2], "format"),
    "null": (None, "format"),
    "version missing": ({k: v for k, v in good().items() if k != "version"}, "version"),
    "later version": (good() | {"version": 3}, "version: 3"),
    "version of another type": (good() | {"version": True}, "version: True"),
    **{
        f"{field} missing": ({k: v for k, v in good().items() if k != field}, f"{field}: Field required")
        for field in ("cells", "levels", "multipliers")
    },
    **{
        f"{field} a number": (good() | {field: 3}, f"{field}: .* array, not 3")
        for field in ("cells", "levels", "multipliers")
    },
    **{f"{field} empty": (good() | {field: []}, f"{field}: ") for field in ("cells", "levels", "multipliers")},
    "cell no list": (good() | {"cells": ["conv"]}, r"cells\[0\]: .* array, not 'conv'"),
    "cell without nodes": (good() | {"cells": [[]]}, r"cells\[0\]: .*nodes"),
    "three cells for two layers": (good() | {"cells": good()["cells"] * 3}, "cells: 3 for 2"),
    "cells of different sizes": (good() | {"cells": [good()["cells"][0], good()["cells"][0][:1]]}, "cells: .*same"),
    "node a number": (with_node(1, 3), r"cells\[0\]\[1\]: .* array, not 3"),
    "node with one edge": (with_node(1, [["conv", 0]]), r"cells\[0\]\[1\]\[1\]: Field required"),
    "node with three edges": (with_node(1, [["conv", 0]] * 3), r"cells\[0\]\[1\]: .* at most 2"),
    "edge of three": (with_node(0, [["conv", 0, 1], ["conv", 1]]), r"cells\[0\]\[0\]\[0\]: .* at most 2"),
    "unknown operator": (with_node(1, [["pool", 0], ["conv", 1]]), r"cells\[0\]\[1\]: unknown operator 'pool'.*conv"),
    "none": (with_node(1, [["none", 0], ["conv", 1]]), r"cells\[0\]\[1\]: unknown operator 'none'"),
    "operator a number": (with_node(1, [[4, 0], ["conv", 1]]), r"cells\[0\]\[1\].*: .* string, not 4"),
    "same input twice": (with_node(1, [["conv", 1], ["sep", 1]]), r"cells\[0\]\[1\]: .*different"),
    "input of a later node": (with_node(1, [["conv", 3], ["sep", 1]]), r"cells\[0\]\[1\]: input 3.*0 to 2"),
    "negative input": (with_node(1, [["conv", -1], ["sep", 1]]), r"cells\[0\]\[1\]: input -1"),
    "input a fraction": (with_node(1, [["conv", 0.5], ["sep", 1]]), r"cells\[0\]\[1\].*: .* integer, not 0.5"),
    "input a name": (with_node(1, [["conv", "1"], ["sep", 1]]), r"cells\[0\]\[1\].*: .* integer, not '1'"),
    "input a truth": (with_node(1, [["conv", True], ["sep", 0]]), r"cells\[0\]\[1\].*: .* integer, not True"),
    "jump of levels": (good() | {"levels": [0, 2]}, r"levels\[1\]: from level 0 to 2"),
    "jump from the stem": (good() | {"levels": [2, 2]}, r"levels\[0\]: from level 0 to 2"),
    "level out of range": (good() | {"levels": [1, 2, 3]}, r"levels\[2\]: 3 is not"),
    "negative level": (good() | {"levels": [0, -1]}, r"levels\[1\]: -1"),
    "level a fraction": (good() | {"levels": [0, 0.5]}, r"levels\[1\]: .* integer, not 0.5"),
    "level null": (good() | {"levels": [None]}, r"levels\[0\]: .* integer, not None"),
    "multiplier a name": (good() | {"multipliers": [1, "2"]}, r"multipliers\[1\]: .* number, not '2'"),
    "multiplier zero": (good() | {"multipliers": [1, 0]}, "multipliers: .*positive"),
    "multiplier infinite": (good() | {"multipliers": [1, float("inf")]}, "multipliers: .*positive"),
    "multiplier not a number": (good() | {"multipliers": [1, float("nan")]}, "multipliers: .*positive"),
    "multiplier too large": (good() | {"multipliers": [1, 10**400]}, "multipliers: .*positive"),
}
for name in ("macros", "unshuffle", "width"):
    BAD[f"{name} at the top"] = (good() | {name: 4}, f"{name}: there is no such field; possible: .*levels, multipliers")
BAD["version 2 with a misspelt macro"] = (
    good() | {"version": 2, "macros": {"unshuffle": 4}},
    "macros: .*possible: .*macro",
)
BAD["version 2 without macro"] = (good() | {"version": 2}, "macro: missing")
BAD["version 2 with macro null"] = (good() | {"version": 2, "macro": None}, "macro: ")
BAD["multiplier of 300 digits"] = (good() | {"multipliers": [1, 1e300]}, "multipliers: 1e.300; .*at most 1000000")
BAD_TEXT = {name: (json.dumps(value), words) for name, (value, words) in BAD.items()} | {
    "truncated": (Genotype((CELL,), (0, 1)).to_json()[:-20], "not JSON"),
    "empty": ("", "not JSON"),
    "prose": ("n0 conv<-0 conv<-1", "not JSON"),
    "nested too deeply": (DEEP, "not JSON"),
}


@pytest.mark.parametrize("text,words", BAD_TEXT.values(), ids=BAD_TEXT.keys())
def test_bad_text_names_the_field(text, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        Genotype.from_json(text)
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s)bad.json.*{words}"):
        Genotype.load(path)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\xff\xfe", b"\x80\x02}q\x00.", bytes(range(256))])
def test_binary_file(content, tmp_path):
    path = tmp_path / "network.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="network.pt"):
        Genotype.load(path)


def test_no_file(tmp_path):
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(ValueError, match=f"genotype file {path}"):
            Genotype.load(path)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=12))
@settings(max_examples=150, deadline=None)
def test_any_other_value_in_a_field_is_a_value_error(value):
    for field in ("cells", "levels", "multipliers", "version", "format"):
        try:
            genotype = Genotype.from_json(json.dumps(good() | {field: value}))
        except ValueError:
            continue
        assert Genotype.from_json(genotype.to_json()) == genotype  # the value happened to be a good one


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "genotype.json"
    Genotype((CELL,), (0, 1)).save(path)

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"cannot write .*genotype.json \(disk full\); the old file is kept"):
        Genotype((CELL,), (0,)).save(path)
    assert Genotype.load(path).levels == (0, 1) and list(tmp_path.iterdir()) == [path]


def test_every_legal_name_can_be_written(tmp_path):
    path = tmp_path / ("a" * 255)
    Genotype((CELL,), (0, 1)).save(path)
    assert Genotype.load(path).levels == (0, 1) and list(tmp_path.iterdir()) == [path]


NODE = (Edge(0, "conv"), Edge(1, "skip"))


def unchecked(kind: type, **values: Any) -> Any:
    """A value of a frozen class; the tests' own type checks would refuse a call with what a user may pass."""
    made = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def edge(source: Any, operator: Any) -> Edge:
    return unchecked(Edge, source=source, operator=operator)


#: Arguments that no file could give back, and what is said of them.
UNWRITABLE: list[tuple[dict[str, Any], str]] = [
    ({"levels": (0.0, 1.0)}, r"levels\[0\]: 0.0 is not a whole number"),
    ({"levels": (False,)}, r"levels\[0\]: False is not a whole number"),
    ({"levels": 2}, "levels: 2; a list is needed"),
    ({"cells": None}, "cells: None; a list is needed"),
    ({"cells": (3,)}, r"cells\[0\]: 3; a list is needed"),
    ({"cells": ((3,),)}, r"cells\[0\]\[0\]: 3; a list is needed"),
    ({"cells": (((edge(0.0, "conv"), NODE[1]),),)}, r"cells\[0\]\[0\]: input 0.0 is not a whole number"),
    ({"cells": (((("conv", 0), ("skip", 1)),),)}, r"cells\[0\]\[0\]: \('conv', 0\) is no edge; give Edge"),
    ({"cells": (((Edge(0, "conv"), None),),)}, r"cells\[0\]\[0\]: None is no edge"),
    ({"cells": (((edge(0, 5), NODE[1]),),)}, r"cells\[0\]\[0\]: unknown operator 5"),
    ({"multipliers": ("1", "2")}, "multipliers: '1'; a positive number"),
    ({"multipliers": (True, 2)}, "multipliers: True; a positive number"),
    ({"multipliers": (1, None)}, "multipliers: None; a positive number"),
    ({"multipliers": (1, 10**400)}, "multipliers: 1000.*; a positive number, at most 1000000"),
    ({"multipliers": 3}, "multipliers: 3; a list is needed"),
    ({"macro": {"unshuffle": 2}}, "macro: {'unshuffle': 2} is no Macro; give Macro"),
    ({"macro": None}, "macro: None is no Macro"),
]


@pytest.mark.parametrize(("change", "words"), UNWRITABLE, ids=str)
def test_what_no_file_could_give_back_is_refused(change: dict[str, Any], words: str) -> None:
    values = {"cells": ((NODE,),), "levels": (0, 1), "multipliers": (1, 2), "macro": PAPER} | change
    with pytest.raises(ValueError, match=words):
        unchecked(Genotype, **values).__post_init__()


def test_numbers_of_numpy_are_those_of_python() -> None:
    edges = (edge(np.int64(0), np.str_("conv")), edge(np.int64(1), "skip"))
    numbers = {"levels": np.arange(2), "multipliers": np.float32([1, 2])}
    genotype = unchecked(Genotype, cells=((edges,),), macro=PAPER, **numbers)
    genotype.__post_init__()
    assert genotype == Genotype(((NODE,),), (0, 1), (1, 2)) == Genotype.from_json(genotype.to_json())


def test_the_format_is_named_in_the_file():
    assert good()["format"] == FORMAT and good()["version"] == 1


@pytest.mark.parametrize(("nodes", "layers"), [(10_000, 1), (101, 1), (1, 10_000), (1, 101)])
def test_a_genotype_of_thousands_of_nodes_or_layers_is_refused(nodes, layers):
    edges = [["conv", 0], ["skip", 1]]
    value = {"format": "irnas_ray.genotype", "version": 1, "multipliers": [1]}
    text = json.dumps(value | {"cells": [[edges] * nodes], "levels": [0] * layers})
    with pytest.raises(ValueError, match=f"{max(nodes, layers)} (nodes|layers); at most 100"):
        Genotype.from_json(text)


def test_a_file_that_is_no_genotype_is_not_read_whole(tmp_path):
    (tmp_path / "large.json").write_bytes(b"[" * (MOST_BYTES + 2))
    with pytest.raises(ValueError, match=f"large.json: genotype: a text of {MOST_BYTES + 1} characters; at most"):
        Genotype.load(tmp_path / "large.json")
