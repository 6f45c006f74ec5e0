"""Successive halving against brute force: dominance, decisions, and what happens in any order of events."""

import itertools
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irnas_ray.hpo.rungs import Rungs, Verdict, dominates, goes_on, milestones

GO_ON, WAIT, STOP = Verdict.GO_ON, Verdict.WAIT, Verdict.STOP
VALUES = st.lists(st.tuples(*[st.integers(0, 4).map(float)] * 2), max_size=9)


def test_milestones_grow_by_the_factor_and_end_before_the_end() -> None:
    assert milestones(25, 3, 100) == [25, 75]
    assert milestones(1, 2, 8) == [1, 2, 4]
    assert milestones(1, 2, 9) == [1, 2, 4, 8]
    assert milestones(5, 3, 5) == []


@given(VALUES, st.tuples(st.booleans(), st.booleans()))
def test_dominance_is_a_strict_order_that_negation_turns_round(points: list, maximise: tuple[bool, bool]) -> None:
    for a, b in itertools.product(points, repeat=2):
        better = [x > y if up else x < y for x, y, up in zip(a, b, maximise, strict=True)]
        worse = [x < y if up else x > y for x, y, up in zip(a, b, maximise, strict=True)]
        assert dominates(a, b, maximise) == (any(better) and not any(worse))
        assert not (dominates(a, b, maximise) and dominates(b, a, maximise))
        assert dominates(a, b, maximise) == dominates(b, a, [not up for up in maximise])


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12), st.integers(2, 4))
def test_with_one_objective_the_best_of_each_factor_go_on(scores: list[int], factor: int) -> None:
    """Of n configurations those whose rank is under n / factor, counted with exact fractions; the best always does."""
    for place, score in enumerate(scores):
        others = [(float(other),) for i, other in enumerate(scores) if i != place]
        rank = sum(other > score for other in scores)
        expected = rank == 0 or rank < Fraction(len(scores), factor)
        assert goes_on((float(score),), others, factor, (True,)) == expected


@given(VALUES.filter(bool), st.integers(2, 4))
def test_the_pareto_front_always_goes_on(points: list, factor: int) -> None:
    for place, point in enumerate(points):
        others = points[:place] + points[place + 1 :]
        if not any(dominates(other, point, (True, False)) for other in others):
            assert goes_on(point, others, factor, (True, False))


def test_one_seed_for_each_configuration_never_waits() -> None:
    """The hand-made run of asynchronous successive halving: factor 2, rungs at 1 and 2."""
    rungs = Rungs([1, 2], 2, [True])
    for configuration in range(4):
        rungs.enter(configuration, [configuration])
    assert rungs.report(0, 0, 1, [1.0]) == GO_ON
    assert rungs.report(1, 1, 1, [0.5]) == STOP
    assert rungs.report(2, 2, 1, [2.0]) == GO_ON
    # of four, two go on: the one above it and itself
    assert rungs.report(3, 3, 1, [1.5]) == GO_ON
    assert rungs.report(0, 0, 2, [1.0]) == GO_ON
    assert rungs.report(3, 3, 2, [0.9]) == STOP


def test_neither_a_lucky_nor_an_unlucky_seed_decides() -> None:
    rungs = Rungs([2], 2, [True])
    rungs.enter(0, [0, 1])
    rungs.enter(1, [2, 3])
    rungs.enter(2, [4, 5])
    assert rungs.report(0, 0, 1, [9.0]) == GO_ON
    assert rungs.report(0, 0, 2, [10.0]) == WAIT
    assert rungs.report(0, 1, 2, [20.0]) == GO_ON
    assert rungs.verdict(0, 0, 2) == GO_ON
    # alone it would be the best of all, with its sibling it is not
    assert rungs.report(1, 2, 2, [25.0]) == WAIT
    assert rungs.report(1, 3, 2, [1.0]) == STOP
    assert rungs.verdict(1, 2, 2) == STOP
    # alone it would be the worst
    assert rungs.report(2, 4, 2, [2.0]) == WAIT
    assert rungs.report(2, 5, 2, [40.0]) == GO_ON
    assert rungs.verdict(2, 4, 2) == GO_ON


def test_failed_seeds_do_not_count_and_are_not_waited_for() -> None:
    rungs = Rungs([1], 2, [True])
    rungs.enter(0, [0])
    rungs.report(0, 0, 1, [10.0])
    rungs.enter(1, [1, 2, 3])
    assert rungs.report(1, 1, 1, [4.0]) == WAIT
    assert rungs.report(1, 2, 1, [30.0]) == WAIT
    rungs.end(1, 2, failed=True)
    assert rungs.verdict(1, 1, 1) == WAIT
    rungs.end(1, 3, failed=True)
    assert rungs.verdict(1, 1, 1) == STOP
    rungs.enter(2, [4, 5])
    rungs.end(2, 4, failed=True)
    rungs.end(2, 5, failed=True)
    assert rungs.standings(2) == {}


def test_a_seed_that_is_ahead_is_not_waited_for_and_one_set_back_runs_to_its_rung_again() -> None:
    rungs = Rungs([1, 3], 3, [True])
    rungs.enter(0, [0, 1])
    assert rungs.report(0, 0, 4, [5.0]) == WAIT
    assert rungs.report(0, 1, 1, [5.0]) == GO_ON
    assert rungs.verdict(0, 0, 2) == GO_ON
    assert rungs.verdict(0, 0, 4) == WAIT


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_any_order_of_events_ends_and_each_decision_is_that_of_brute_force(
    seed: int, replicates: int, objectives: int, restarts: bool
) -> None:
    """Random configurations run in random order, some die, and the state is saved and read between two events.

    Nothing waits for ever, siblings always agree, and each decision equals one worked out from the event's history.
    """
    generator = random.Random(seed)
    maximise = [generator.random() < 0.5 for _ in range(objectives)]
    rungs = Rungs([1, 2, 4], 2, maximise)
    seeds = {number: list(range(number * replicates, (number + 1) * replicates)) for number in range(5)}
    epochs = dict.fromkeys(itertools.chain(*seeds.values()), 0)
    dead: set[int] = set()
    decided: dict[int, list[tuple[tuple[float, ...], bool]]] = {1: [], 2: [], 4: []}
    reported: dict[tuple[int, int], tuple[float, ...]] = {}
    for number, own in seeds.items():
        rungs.enter(number, own)

    def able() -> list[tuple[int, int]]:
        return [
            (number, s)
            for number, own in seeds.items()
            for s in own
            if s not in dead and epochs[s] < 5 and rungs.verdict(number, s, epochs[s]) == GO_ON
        ]

    while runners := able():
        number, runner = generator.choice(runners)
        before = {m: rungs.standings(number).get(str(m), {}).get("goes on") for m in decided}
        if generator.random() < 0.1:
            dead.add(runner)
            rungs.end(number, runner, failed=True)
        else:
            epochs[runner] += 1
            reported[runner, epochs[runner]] = tuple(generator.randint(0, 5) / 1.0 for _ in range(objectives))
            verdict = rungs.report(number, runner, epochs[runner], reported[runner, epochs[runner]])
            assert verdict == rungs.verdict(number, runner, epochs[runner])
        for milestone in decided:
            standing = rungs.standings(number).get(str(milestone), {})
            if standing.get("goes on") is not None and before[milestone] is None:
                there = [s for s in seeds[number] if s not in dead and epochs[s] >= milestone]
                assert {s for s in seeds[number] if s not in dead} == set(there)
                rows = [reported[s, milestone] for s in there]
                mean = tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
                worse_than = sum(
                    all((a >= b) if up else (a <= b) for a, b, up in zip(other, mean, maximise, strict=True))
                    and other != mean
                    for other, _ in decided[milestone]
                )
                expected = worse_than < max(1, Fraction(len(decided[milestone]) + 1, 2))
                assert standing["goes on"] == expected
                assert standing["mean"] == pytest.approx(list(mean))
                decided[milestone].append((mean, expected))
        if restarts:
            saved = {n: rungs.standings(n) for n in seeds}
            rungs = Rungs([1, 2, 4], 2, maximise)
            for n, own in seeds.items():
                rungs.enter(n, [s for s in own if s not in dead], saved[n])
    for number, own in seeds.items():
        verdicts = {rungs.verdict(number, s, epochs[s]) for s in own if s not in dead}
        assert len(verdicts) <= 1 and WAIT not in verdicts
