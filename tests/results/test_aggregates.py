"""Configurations and Pareto fronts out of trials' records, against brute force and examples worked out by hand."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.objectives import objectives_of, pareto_front
from irnas_ray.results.aggregates import configurations_of, front_of
from irnas_ray.results.tables import front_table
from irnas_ray.settings.study import Final, StudyConfig, Tune
from irnas_ray.study.candidates import choose

ONE, TWO = objectives_of(["score"]), objectives_of(["score", "parameters"])


def several(count: int, *objectives: str) -> StudyConfig:
    """The settings of a study with as many finals and these objectives."""
    return StudyConfig(final=Final(count=count), tune=Tune(objectives=["score", *objectives]))


def genotype(level: int) -> Genotype:
    return Genotype((((Edge(0, "conv"), Edge(1, "skip")),),), (level, level, level, 0))


def record(number: int, seed: int, score: float | None, parameters: int = 1, state: str = "COMPLETE") -> dict[str, Any]:
    return {
        "id": f"t{seed}",
        "configuration": number,
        "state": state,
        "config": {"architecture.nodes": number, "seed": seed},
        "score": score,
        "parameters": parameters,
        "genotype": json.loads(genotype(seed % 2).to_json()),
    }


RECORDS = [
    record(0, 0, 30.0, 100),
    record(0, 1, 32.0, 120),
    record(1, 2, 29.0, 50),
    record(1, 3, None, 50, "FAIL"),
    record(2, 4, 28.0, 60),
    record(2, 5, 29.0, 60),
    record(3, 6, 99.0, 1, "PRUNED"),
    record(3, 7, 1.0, 1, "PRUNED"),
    record(4, 8, None, 1, "FAIL"),
]


def test_means_over_seeds() -> None:
    found = configurations_of(RECORDS, ONE)
    assert [(entry["number"], entry["state"], entry["mean"]) for entry in found] == [
        (0, "COMPLETE", 31.0),
        (1, "COMPLETE", 29.0),
        (2, "COMPLETE", 28.5),
        (3, "PRUNED", 50.0),
        (4, "FAIL", None),
    ]
    assert found[0]["standard_deviation"] == pytest.approx(2**0.5) and found[1]["standard_deviation"] is None
    assert found[0]["params"] == {"architecture.nodes": 0}
    assert (found[1]["seeds"], found[1]["trials"]) == ([2, 3], ["t2", "t3"])
    assert all("pareto" not in entry for entry in found)


def test_the_front_is_of_means_over_completed_configurations() -> None:
    found = configurations_of(RECORDS, TWO)
    assert [entry["pareto"] for entry in found] == [True, True, False, False, False]
    assert found[0]["means"] == {"score": 31.0, "parameters": 110.0}
    assert [entry["id"] for entry in front_of(RECORDS, TWO)] == ["t1", "t2"]
    rows = front_table(RECORDS, TWO).rows
    assert rows == [["0", "nodes=0", "31.00", "110", "2", "t1"], ["1", "nodes=1", "29.00", "50", "2", "t2"]]


def test_finals_are_chosen_from_the_front() -> None:
    """With one objective by score alone; with several only what no other configuration dominates, best score first."""
    assert [candidate.trial for candidate in choose(RECORDS, several(5))] == ["t1", "t0"]
    smaller = [*RECORDS, record(5, 10, 20.0, 10)]
    assert [candidate.trial for candidate in choose(smaller, several(5, "parameters"))] == ["t1", "t2"]
    assert [candidate.trial for candidate in choose(smaller, several(1, "parameters"))] == ["t1"]
    with pytest.raises(ValueError, match="no trial finished.*t6 PRUNED"):
        choose(RECORDS[6:], several(5, "parameters"))


@given(st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)), max_size=12))
def test_a_front_is_what_no_point_beats(points: list[tuple[float, float]]) -> None:
    front = pareto_front(points, (True, False))
    for place, (score, cost) in enumerate(points):
        beaten = any(s >= score and c <= cost and (s, c) != (score, cost) for s, c in points)
        assert (place in front) != beaten
    assert bool(front) == bool(points)


@pytest.mark.parametrize(
    "names, message",
    [
        (["score", "size"], "unknown 'size'; possible: score, parameters, multiply_adds, latency"),
        (["score", "score"], "twice"),
        (["parameters"], "score is missing"),
        ([], "score is missing"),
    ],
)
def test_impossible_objectives_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"tune.objectives: .*{message}"):
        objectives_of(names)
