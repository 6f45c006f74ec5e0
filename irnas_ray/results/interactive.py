"""A study's course as figures of ``optuna.visualization``, which answer to the pointer, on one offline page."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from irnas_ray.hpo.objectives import SCORE
from irnas_ray.results.html_page import TEMPLATES
from irnas_ray.results.study_results import StudyResults, importances, ranked_study

#: Most parameters in a figure of each and of pairs of them; of more, those that matter most.
SINGLE, PAIRS = 10, 4
#: The score as axes call it.
LABEL = "score (dB)"


@dataclass
class Figures:
    """What could be drawn, each with a heading and what it shows, and one line for each figure that could not."""

    drawn: list[tuple[str, str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def draw(results: StudyResults, against: StudyResults | None = None) -> Figures:
    """All figures that the study has data for; ``against`` is another study, whose scores are compared.

    ImportError unless plotly is installed.
    """
    from optuna import visualization

    found = Figures()
    with _quiet():
        study, full = _scores(results), _in_memory(results, results.configurations)
        names = _parameters(results)
        studies = [study] if against is None else [study, _scores(against)]
        few, pairs = names[:SINGLE], names[:PAIRS]
        completed = _need(any(trial.state == TrialState.COMPLETE for trial in study.trials), "no trial completed")
        varied = [*completed, *_need(names, "no parameter varied")]
        several = [*completed, *_need(len(names) > 1, "fewer than two parameters varied")]
        drawn: list[tuple[str, str, list[str], Callable[[], Any]]] = [
            ("History", "The score of each trial and the best so far.", completed,
             partial(visualization.plot_optimization_history, study, target_name=LABEL)),
            ("Importances", "How much each parameter decides whether a configuration is among the best (PED-ANOVA).",
             [], partial(_importances, results)),
            ("Slice", "The score over each parameter.", varied,
             partial(visualization.plot_slice, study, params=few, target_name=LABEL)),
            ("Parallel coordinates", "Each line is a configuration.", varied,
             partial(visualization.plot_parallel_coordinate, study, params=few, target_name=LABEL)),
            ("Contours", "The score over pairs of parameters.", several,
             lambda: visualization.plot_contour(study, params=pairs, target_name=LABEL).update_layout(
                 height=max(450, 260 * len(pairs)))),
            ("Rungs", "What the trials reported on the way, where they are compared and stopped.",
             _need(any(trial.intermediate_values for trial in study.trials), "no trial reported on the way"),
             lambda: visualization.plot_intermediate_values(study).update_layout(
                 xaxis_title="epoch", yaxis_title=LABEL)),
            ("Timeline", "When each trial ran, and how it ended.", _need(study.trials, "no trial was begun"),
             partial(visualization.plot_timeline, study)),
            ("Scores of all trials", "The share of the completed trials whose score is at most so high.", completed,
             partial(visualization.plot_edf, studies, target_name=LABEL)),
        ]  # fmt: skip
        if len(results.objectives) > 1:
            labels = [objective.label for objective in results.objectives]
            drawn.append(
                ("Pareto front", "All completed trials; those on the front are beaten by no other in all objectives.",
                 [*completed, *_need(len(labels) <= 3, "it is drawn for three objectives at most")],
                 partial(visualization.plot_pareto_front, full, target_names=labels))
            )  # fmt: skip
        for heading, meaning, reasons, make in drawn:
            _add(found, heading, meaning, reasons, make)
    return found


def page(results: StudyResults, found: Figures, against: StudyResults | None = None) -> str:
    """The figures as HTML text that holds all it needs, plotly.js too."""
    from plotly.offline import get_plotlyjs

    figures = [
        (heading, meaning, figure.to_html(full_html=False, include_plotlyjs=False, config={"responsive": True}))
        for heading, meaning, figure in found.drawn
    ]
    return TEMPLATES.get_template("interactive.html.jinja").render(
        results=results, against=against, figures=figures, missing=found.missing, library=get_plotlyjs()
    )


def _add(found: Figures, heading: str, meaning: str, reasons: list[str], make: Callable[[], Any]) -> None:
    try:
        if reasons:
            raise ValueError(reasons[0])
        figure = make()
    except Exception as error:  # what a study of an unforeseen kind makes a library raise must not cost the others
        found.missing.append(f"{heading}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        return
    figure.update_layout(title=None, template="plotly_white", margin={"t": 30}, font={"size": 13})
    found.drawn.append((heading, meaning, figure))


def _need(condition: object, reason: str) -> list[str]:
    return [] if condition else [reason]


def _importances(results: StudyResults) -> Any:
    from optuna import visualization

    study, evaluator = ranked_study(results.configurations, results.objectives)
    return visualization.plot_param_importances(study, evaluator=evaluator, target_name=LABEL)


def _parameters(results: StudyResults) -> list[str]:
    """The parameters that all completed trials have and that varied, the most important ones first."""
    completed = [trial for trial in results.configurations if trial.state == TrialState.COMPLETE]
    common = [name for name in (completed[0].params if completed else {}) if all(name in t.params for t in completed)]
    varied = [name for name in common if len({str(trial.params[name]) for trial in completed}) > 1]
    try:
        order = list(importances(results.configurations, results.objectives))
    except ValueError:
        return varied
    return sorted(varied, key=lambda name: order.index(name) if name in order else len(order))


def _scores(results: StudyResults) -> optuna.Study:
    """The study with the score as its only objective, whatever it has beside that."""
    metrics = [objective.metric for objective in results.objectives]
    if len(metrics) == 1:
        return _in_memory(results, results.configurations)
    place, trials = metrics.index(SCORE), []
    for trial in results.configurations:
        alone = copy.copy(trial)
        alone.values = None if trial.values is None else [trial.values[place]]
        reports = trial.user_attrs.get("reports", {})
        alone.intermediate_values = {int(epoch): values[place] for epoch, values in reports.items()}
        trials.append(alone)
    return _in_memory(results, trials, single=True)


def _in_memory(results: StudyResults, trials: list[FrozenTrial], single: bool = False) -> optuna.Study:
    # all of them, so that they keep their numbers
    directions = [objective.direction for objective in results.objectives]
    study = optuna.create_study(study_name=results.name, directions=["maximize"] if single else directions)
    study.add_trials(trials)
    return study


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from telling of what is experimental and empty; that is said in one line of our own."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
