"""Budgets that must be equal, and what all has cost."""

import math

import pytest

from irnas_ray.audit.ledger import Cost, check_equal_budgets, ledger_table


def test_budgets_within_the_tolerance_pass():
    check_equal_budgets({"searched": [1e12, 1.01e12], "random": [0.995e12]}, "multiply-adds")
    check_equal_budgets({}, "steps")


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        (
            {"searched": [1000, 1000], "random": [1000, 1100]},
            "random, run 1 has 1100 steps, random, run 0 1000, and more than 2 %",
        ),
        (
            {"searched": [1000, 0], "random": [1000]},
            "searched, run 1: a budget of 0 steps; it must be a number above 0",
        ),
        ({"searched": [1000, math.nan]}, "searched, run 1: a budget of nan steps"),
    ],
)
def test_unequal_budgets_are_refused_by_their_runs(budgets, message):
    with pytest.raises(ValueError, match=message):
        check_equal_budgets(budgets, "steps")


def test_the_ledger_adds_up_and_sums_all_arms():
    run = Cost(trainings=3, steps=600, multiply_adds=2.5e12, seconds=60, judging_seconds=30)
    table = ledger_table({"evolution": [run, run], "controls": [Cost(0, 0, 0, 0, 45)]})
    assert table.rows == [
        ["evolution", "2", "6", "1,200", "5.000", "2 min", "60.0 s"],
        ["controls", "1", "0", "0", "0.000", "0.0 s", "45.0 s"],
        ["together", "3", "6", "1,200", "5.000", "2 min", "105.0 s"],
    ]
