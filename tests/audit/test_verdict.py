"""The verdict: right in worlds whose answer is known, and in words that no number contradicts."""

import doctest
import io
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from audit_cases import World

import irnas_ray as ir
from irnas_ray.audit.verdict import WORTH, judge

AUDITS, DRAWS = 50, 1000


def verdicts(effect: float, seeds: float, trainings: int = 2) -> Counter:
    worlds = (World(effect, seeds, seed=n) for n in range(AUDITS))
    return Counter(judge(world.scores(trainings=trainings), DRAWS).verdict for world in worlds)


def test_a_search_that_finds_the_better_operator_is_said_to_beat_random():
    assert verdicts(effect=1.0, seeds=0.04)["beats random"] >= 0.9 * AUDITS


@pytest.mark.parametrize("seeds", [0.04, 0.15])
def test_where_all_operators_are_equal_no_search_is_said_to_beat_random(seeds):
    assert verdicts(effect=0.0, seeds=seeds)["beats random"] <= 0.05 * AUDITS


def test_where_seeds_drown_everything_the_space_is_said_to_be_too_narrow():
    # of twenty networks with two seeds each the ICC itself has a standard error of 0.22; with three, of 0.13
    assert verdicts(effect=0.05, seeds=0.3, trainings=3)["the space is too narrow"] >= 0.9 * AUDITS


def scores(gain: float, runs: int = 5, spread: float = 0.03, architecture: float = 0.2, seed: int = 0) -> dict:
    """Scores with a gain, of runs that differ by ``spread`` dB and uniform networks that differ by ``architecture``."""
    rng = np.random.default_rng(seed)
    images = rng.normal(25, 2, 10)
    searched, random = spread * rng.normal(size=(2, runs, 2, 1))
    # the sample's own means, so that the difference is the gain and nothing else
    searched, random = searched - searched.mean(), random - random.mean()
    uniform = architecture * np.linspace(-1, 1, 12)[:, None, None] + 0.03 * rng.normal(size=(12, 2, 1))
    return {"searched": images + gain + searched, "random": images + random, "uniform": images + uniform}


@pytest.mark.parametrize(
    ("gain", "architecture", "spread", "verdict", "sentence"),
    [
        (0.2, 0.2, 0.03, "beats random", "beats random: +0.200 dB, 95 % interval +0.1"),
        (0.2, 0.0, 0.03, "beats random", "the space looks too narrow (ICC = "),
        (WORTH, 0.2, 0.0, "beats random", "beats random: +0.050 dB"),
        (0.04, 0.2, 0.01, "no evidence", "no evidence: a gain, but below 0.05 dB: +0.040 dB"),
        (0.03, 0.2, 0.05, "no evidence", "no evidence: +0.030 dB, 95 % interval -0.0"),
        (-0.2, 0.2, 0.03, "worse", "worse: -0.200 dB"),
        (-0.2, 0.0, 0.03, "the space is too narrow", "a measured loss: -0.200 dB"),
        (0.0, 0.0, 0.03, "the space is too narrow", "the space is too narrow for any search: ICC = "),
    ],
)
def test_each_verdict_follows_from_the_numbers_beside_it(gain, architecture, spread, verdict, sentence):
    judged = judge(scores(gain, 6, spread, architecture), DRAWS)
    assert judged.verdict == verdict
    assert sentence in judged.sentence and judged.sentence.startswith(verdict)
    assert judged.delta == pytest.approx(gain, abs=1e-9)
    low, high = judged.interval
    assert low <= judged.delta + 1e-9 and judged.delta <= high + 1e-9
    assert (judged.icc < 0.3) == (architecture == 0)
    assert f"{judged.delta:+.3f}" in judged.table and f"{judged.icc:.2f}" in judged.table
    assert str(judged) == f"{judged.sentence}\n\n{judged.table}"


@pytest.mark.parametrize("runs", [1, 2, 3, 4])
def test_too_few_runs_show_nothing_and_print_no_number_that_looks_like_proof(runs):
    judged = judge(scores(1.0, runs, spread=0.001), DRAWS)
    assert judged.verdict == "no evidence"
    assert judged.sentence.startswith(f"no evidence: R = {runs} can show nothing; ")
    assert "at least 5 of each are needed" in judged.sentence
    assert judged.interval == (-math.inf, math.inf)
    row = next(line for line in judged.table.splitlines() if line.startswith("| p "))
    assert "| – |" in row and "hierarchical" in judged.table


def test_two_runs_against_two_cannot_reach_a_p_below_a_third():
    judged = judge(scores(1.0, 2), DRAWS)
    assert judged.p_value == pytest.approx(1 / 3)
    assert "the smallest p of 2 against 2 runs is 0.33" in judged.sentence


def test_with_one_seed_no_space_is_called_narrow_and_it_is_said_why():
    one = {key: values[:, :1] for key, values in scores(0.0, architecture=0.0).items()}
    judged = judge(one, DRAWS)
    assert judged.verdict == "no evidence" and math.isnan(judged.icc)
    assert "whether the space is too narrow is not known: ICC cannot be estimated" in judged.sentence


def test_the_percentile_among_uniform_networks_counts_ties_half():
    base = np.full((5, 2, 3), 25.0)
    uniform = np.stack([np.full((2, 3), value) for value in (24.0, 24.5, 25.0, 26.0)])
    judged = judge({"searched": base, "random": base, "uniform": uniform}, DRAWS)
    assert judged.percentile == 100 * 2.5 / 4
    low, high = judged.percentile_interval
    assert 0 < low < judged.percentile < high < 100


def test_runs_and_seeds_of_the_arms_may_differ_in_number():
    made = scores(0.2, 7)
    judged = judge({**made, "searched": made["searched"][:5, :1].tolist()}, DRAWS)
    assert judged.counts == (5, 7, 12) and judged.verdict == "beats random"


def test_the_same_scores_give_the_same_judgement():
    assert judge(scores(0.1), DRAWS) == judge(scores(0.1), DRAWS)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("random", None, r'"random" is missing; give PSNR of shape \(runs, training seeds, images\)'),
        ("uniform", None, '"uniform" is missing'),
        ("searched", np.zeros((5, 10)), r'scores\["searched"\]: shape \(5, 10\); give PSNR of shape \(runs'),
        ("uniform", np.zeros((0, 2, 10)), r'scores\["uniform"\]: shape \(0, 2, 10\); .*\(networks'),
        ("random", [[[25.0] * 10], [[25.0] * 9]], r'scores\["random"\]: no array of numbers'),
        ("random", "none", r'scores\["random"\]'),
        ("uniform", np.full((3, 2, 9), 25.0), r'scores\["uniform"\]: 9 images, but scores\["searched"\] has 10'),
        ("random", np.where(np.arange(100).reshape(5, 2, 10) == 47, np.nan, 25), r'"random"\]\[2, 0, 7\]: nan'),
        ("searched", np.full((5, 2, 10), np.inf), r'scores\["searched"\]\[0, 0, 0\]: inf'),
    ],
)
def test_bad_scores_are_refused_by_their_key(key, value, message):
    made = {**scores(0.1), key: value}
    if value is None:
        del made[key]
    with pytest.raises(ValueError, match=message):
        judge(made, DRAWS)


def test_so_few_draws_are_refused():
    with pytest.raises(ValueError, match="draws: 10;"):
        judge(scores(0.1), draws=10)


def test_judging_needs_no_ray_and_no_torch():
    program = (
        "import sys\nfor name in ('ray', 'torch', 'optuna', 'hydra'): sys.modules[name] = None\n"
        "import numpy as np, irnas_ray as ir\nvalues = np.ones((2, 2, 3))\n"
        "print(ir.audit.judge({'searched': values, 'random': values, 'uniform': values}).verdict)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=400)
    assert done.stdout == "no evidence\n", done.stderr


@pytest.mark.parametrize("name", ["judge", "intraclass_correlation", "rank_correlation", "best_so_far"])
def test_the_example_in_a_docstring_is_right(name):
    text = getattr(ir.audit, name).__doc__
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    said = io.StringIO()
    assert example.examples
    doctest.DocTestRunner().run(example, out=said.write)
    assert not said.getvalue(), said.getvalue()
