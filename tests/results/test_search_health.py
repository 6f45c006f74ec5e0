"""What the report says of a search: its tables, its picture, and its warning."""

import json
from pathlib import Path
from typing import Any

import pytest

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.results.html_page import render
from irnas_ray.results.plots import png
from irnas_ray.results.search_health import decodings_table, health_table, plot_course
from irnas_ray.results.study_results import StudyResults
from irnas_ray.search.decodings import Decoding
from irnas_ray.search.health import Health
from irnas_ray.search.successive_halving import Trained
from irnas_ray.study.trial import MOST_POINTS, health_metrics

GENOTYPE = Genotype.from_json(
    '{"format": "irnas_ray.genotype", "version": 1, "cells": [[[["conv", 0], ["skip", 1]]]], "levels": [0, 1],'
    ' "multipliers": [1, 2]}'
)
HEALTH = Health(0.5, 0.25, 0.975, 0.5, 0.0125, 3, 4, {"conv": 0.4, "skip": 0.35, "none": 0.25}, [0.25, 0.5, 0.25])
TRAINED = [
    Trained(Decoding(GENOTYPE, "masking", 20.25), {10: 24.5, 30: 26.125}),
    Trained(Decoding(GENOTYPE, "sample", 21.5), {10: 24.0}),
]


def health_of(points: int = 3, health: Health = HEALTH, trained: Any = TRAINED) -> dict[str, Any]:
    """The health as it stands in a record."""
    history = [{"epoch": epoch, "psnr": 20.0, **health.course()} for epoch in range(1, points + 1)]
    return json.loads(str(health_metrics(health, history, trained)["health"]))


def test_the_table_says_what_was_found():
    rows = {row[0]: row[1:] for row in health_table(health_of()).rows}
    assert rows["skip among the kept edges"] == ["50%", "25% by chance"]
    assert rows["entropy of alpha"][0] == "0.975" and rows["entropy of beta"][0] == "0.500"
    assert rows["largest possible margin"][0] == "0.013" or rows["largest possible margin"][0] == "0.012"
    assert rows["ties"] == ["3", "of 4 decisions inside cells"]
    assert rows["rank correlation"][0] == "–"  # two decodings correlate with nothing
    assert "rank correlation" not in {row[0] for row in health_table(health_of(trained=())).rows}
    assert decodings_table(health_of()).rows == [
        [str(GENOTYPE), "masking", "20.25", "24.50 (10), 26.12 (30)"],
        [str(GENOTYPE), "sample", "21.50", "24.00 (10)"],
    ]


def test_paths_have_neither_entropies_nor_margins():
    paths = Health(0.5, 0.25, None, None, None, 0, 0, {"conv": 1.0}, [])
    health = health_of(health=paths, trained=())
    assert [row[0] for row in health_table(health).rows] == ["skip among the kept edges"]
    assert len(plot_course(health["history"]).axes) == 1
    assert health_metrics(paths, [], ()).keys() == {"skip_share", "health"} and health_metrics(None, []) == {}


@pytest.mark.parametrize("points", [1, 2, MOST_POINTS, MOST_POINTS + 1, 3 * MOST_POINTS + 5])
def test_a_long_course_is_thinned_and_ends_at_its_end(points):
    course = [entry["epoch"] for entry in health_of(points)["history"]]
    assert course[-1] == points and len(course) <= MOST_POINTS and course == sorted(set(course))
    assert points > MOST_POINTS or course == list(range(1, points + 1))


def test_the_picture_has_a_line_for_every_operator_and_move():
    figure = plot_course(health_of()["history"])
    names = [[line.get_label() for line in axes.lines] for axes in figure.axes]
    assert names == [["conv", "skip", "none"], ["half as wide", "as wide", "twice as wide"]]
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx([0.4] * 3)
    assert png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("known", [True, False, "not trained"])
def test_the_page_says_whether_the_search_decided_anything(tmp_path: Path, known: bool | str):
    record = {
        "id": "t1",
        "configuration": 0,
        "state": "COMPLETE",
        "config": {"seed": 1},
        "score": 26.0,
        "genotype": json.loads(GENOTYPE.to_json()),
        "margins": [],
        "error": None,
    }
    health = health_of(trained=TRAINED if known is True else ())
    records = [record | ({"health": health} if known else {})]
    page = render(StudyResults(tmp_path, "mine", "quickstart", {}, {}, records, [], "there is no Optuna study"))
    assert ("Has the search decided anything?" in page) == bool(known)
    assert ("<strong>This search cannot decide anything: its largest possible margin is 0.01" in page) == bool(known)
    assert ("after a short training (dB, steps)" in page) == (known is True)
