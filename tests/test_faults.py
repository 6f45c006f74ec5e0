"""Trials that meet with faults: each ends as it would have ended undisturbed, or says why it cannot; none is lost."""

import math

import fault_cases
import pytest
from fault_cases import FOUND, Outcomes, make_data
from ray import cloudpickle

from irnas_ray.trial import SCORE

# the tests' folder is on no worker's path
cloudpickle.register_pickle_by_value(fault_cases)


@pytest.fixture(scope="module")
def outcomes(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    faults = ["none", "diverges", "memory", "damaged", "all damaged"]
    return Outcomes(faults, make_data(tmp_path_factory.mktemp("images")), tmp_path_factory.mktemp("faults"))


def test_no_trial_is_lost_or_counted_twice(outcomes: Outcomes) -> None:
    assert len(outcomes.results) == 5
    assert all(result.error is None for result in outcomes.results.values())
    assert outcomes.epochs("none") == [1, 2, 3, 4, 5]
    assert [report["finished"] for report in outcomes.saboteur.reports["none"]] == [False] * 4 + [True]


def test_a_diverged_trial_says_so_and_is_not_started_again(outcomes: Outcomes) -> None:
    (report,) = outcomes.saboteur.reports["diverges"]
    assert math.isnan(report[SCORE]) and not report["finished"]
    assert "the loss became nan (weights)" in report["error"] and "search.weight_lr" in report["error"]
    assert f"failed: {report['error']}" in outcomes.said("diverges")
    assert "stopped early" not in outcomes.said("diverges")


def test_a_trial_that_runs_out_of_memory_goes_on_in_parts_and_says_so(outcomes: Outcomes) -> None:
    reports = outcomes.saboteur.reports["memory"]
    assert outcomes.epochs("memory") == [1, 2, 3, 4, 5] and reports[-1]["finished"]
    assert {report["micro_batch"] for report in reports} == {2}
    assert outcomes.said("memory").count("4 images do not fit into memory: each batch of them goes in parts of 2") == 1
    assert all("micro_batch" not in report for report in outcomes.saboteur.reports["none"])


HALF = "checkpoint_000002 cannot be read (is truncated, damaged, or no file of irnas_ray)"


@pytest.mark.parametrize(
    ("fault", "epochs", "said"),
    [
        ("damaged", [1, 2, 3, 3, 4, 5], f"{HALF}; goes on from checkpoint_000001 instead"),
        ("all damaged", [1, 2, 3, 1, 2, 3, 4, 5], "no other checkpoint is left, begins anew"),
    ],
)
def test_damaged_checkpoints_cost_what_they_held(outcomes: Outcomes, fault: str, epochs: list[int], said: str) -> None:
    assert outcomes.epochs(fault) == epochs
    assert {name: outcomes.last(fault)[name] for name in FOUND} == {name: outcomes.last("none")[name] for name in FOUND}
    assert outcomes.said(fault).count(said) == 1
