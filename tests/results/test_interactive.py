"""The figures that answer to the pointer: which there are, what they hold, and why others are left out."""

import sys
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from report_cases import SPACE, Page, make_study

from irnas_ray.results import interactive
from irnas_ray.results.report import analyze
from irnas_ray.results.study_results import StudyResults, read_study
from irnas_ray.settings.commands import AnalyzeConfig

ONE_OBJECTIVE = [
    *("History", "Importances", "Slice", "Parallel coordinates", "Contours", "Rungs", "Timeline"),
    "Scores of all trials",
]


def of_trials(*trials: FrozenTrial, objectives: tuple[str, ...] = ("score",)) -> StudyResults:
    config = {"tune": {"objectives": list(objectives)}}
    return StudyResults(Path("some"), "some", "toy", config, {}, [], list(trials), None)


def one(number: int, state: TrialState = TrialState.COMPLETE, values: Any = None, **more: Any) -> FrozenTrial:
    params = {"architecture.nodes": 3 + number % 3, "search.arch_lr": 0.01, "search.ssim_weight": number / 99}
    return create_trial(state=state, params=params, distributions=SPACE, values=values, **more)


def test_all_figures_of_a_study_and_another_beside_it(tmp_path: Path) -> None:
    first, second = (read_study(make_study(tmp_path / name, name=name)) for name in ("first", "second"))
    reporting = create_trial(state=TrialState.PRUNED, params={}, distributions={}, intermediate_values={1: 20.0})
    first.configurations.append(reporting)
    found = interactive.draw(first, second)
    assert found.missing == [] and [heading for heading, _, _ in found.drawn] == ONE_OBJECTIVE
    figures = {heading: figure for heading, _, figure in found.drawn}
    assert [curve.name for curve in figures["Scores of all trials"].data] == ["first", "second"]
    # trials keep the numbers that they have everywhere
    completed = [trial.number for trial in first.configurations if trial.state == TrialState.COMPLETE]
    assert list(figures["History"].data[0].x) == completed
    assert figures["Importances"].data[0].y[-1] == "search.ssim_weight"


def test_what_cannot_be_drawn_is_said_in_a_line() -> None:
    nothing = interactive.draw(of_trials())
    assert nothing.drawn == [] and len(nothing.missing) == len(ONE_OBJECTIVE)
    assert nothing.missing[0] == "History: no trial completed"
    single = interactive.draw(of_trials(one(0, values=[25.0])))
    assert [heading for heading, _, _ in single.drawn] == ["History", "Timeline", "Scores of all trials"]
    assert any("at least 8 completed" in line for line in single.missing) and all("\n" not in x for x in single.missing)


def test_of_several_objectives_the_score_is_shown_and_the_front() -> None:
    trials = [one(n, values=[20.0 + n, 1000.0 * n], user_attrs={"reports": {"1": [19.0 + n, 9.0]}}) for n in range(4)]
    results = of_trials(*trials, objectives=("score", "parameters"))
    found = interactive.draw(results)
    figures = {heading: figure for heading, _, figure in found.drawn}
    assert list(figures["History"].data[0].y) == [20.0, 21.0, 22.0, 23.0]
    assert [list(line.y) for line in figures["Rungs"].data] == [[19.0], [20.0], [21.0], [22.0]]
    assert figures["Pareto front"].layout.yaxis.title.text == results.objectives[1].label
    four = ("score", "parameters", "multiply_adds", "latency")
    more = [one(n, values=[20.0 + n, 1.0, 2.0, 3.0]) for n in range(2)]
    assert interactive.draw(of_trials(*more, objectives=four)).missing[-1].startswith("Pareto front: it is drawn for")


def test_the_command_writes_one_page_that_loads_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, other = make_study(tmp_path / "small"), make_study(tmp_path / "other", name="other")
    analyze(AnalyzeConfig(str(folder), against=str(other)))
    said = capsys.readouterr().out
    assert "saved " + str(folder / "analysis/interactive.html") in said
    assert "not in interactive.html: Rungs: no trial reported on the way" in said
    text = (folder / "analysis/interactive.html").read_text()
    page = Page(text)
    assert page.open == [] and not page.sources and text.count("plotly.js v") == 1
    assert all(f"<h2>{heading}</h2>" in text for heading in ONE_OBJECTIVE if heading != "Rungs")
    with pytest.raises(ValueError, match="no config.yaml"):
        analyze(AnalyzeConfig(str(folder), against=str(tmp_path)))


def test_without_plotly_the_pictures_are_saved_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    folder = make_study(tmp_path / "small")
    analyze(AnalyzeConfig(str(folder)))
    assert "pip install 'irnas_ray[plots]'" in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "analysis").iterdir()) == [
        "genotype.png",
        "history.png",
        "importances.png",
    ]
