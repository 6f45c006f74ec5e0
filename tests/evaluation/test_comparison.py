"""Tables and intervals: numbers that mean different things are never put side by side, and chance is told apart."""

import csv
import itertools
import math

import numpy as np
import pytest
from evaluation_cases import evaluation

from irnas_ray.evaluation.comparison import COLUMNS, compare, comparison_table, gains, interval_table, mean_interval
from irnas_ray.evaluation.comparison import write_comparison as write


def test_an_interval_holds_the_middle_95_percent_of_all_resamples():
    """Against every way of drawing six of six images, from which 10,000 draws differ by chance only."""
    values = [20.1, 23.0, 24.4, 25.2, 27.9, 30.3]
    means = np.array(list(itertools.product(values, repeat=6))).mean(axis=1)
    assert mean_interval(values) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.12)
    assert mean_interval([3.0, 5.0]) == (3.0, 5.0)


def test_an_interval_comes_near_the_normal_one_for_many_images():
    values = np.random.default_rng(0).normal(25, 2, 400)
    low, high = mean_interval(list(values))
    error = values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_an_interval_is_seeded_and_not_changed_by_how_many_are_drawn_at_a_time(monkeypatch):
    values = list(np.random.default_rng(1).normal(25, 2, 20))
    interval = mean_interval(values)
    assert interval == mean_interval(values) != mean_interval(values, seed=1)
    monkeypatch.setattr("irnas_ray.evaluation.comparison._AT_A_TIME", 700)
    assert mean_interval(values) == interval


@pytest.mark.parametrize("values", [[], [25.0], [25.0, math.inf], [25.0, math.nan]])
def test_what_has_no_interval_gets_none(values):
    assert mean_interval(values) is None


def test_equal_images_have_an_interval_of_no_width():
    assert mean_interval([25.0] * 5) == (25.0, 25.0)


def test_gains_are_paired_by_image_and_not_by_place():
    ours = evaluation("ours", [25.0, 30.0, 20.0], names="abc")
    other = evaluation("other", [29.5, 24.0, 19.0], names="bac")
    assert gains(ours, other) == [1.0, 0.5, 1.0]
    assert gains(ours, other, "ssim") == pytest.approx([1 / 40, 0.5 / 40, 1 / 40])


def test_a_comparison_tells_a_sure_gain_from_a_wide_mean():
    """The images differ by 10 dB, the methods by about 0.5: the means overlap, the paired gain does not."""
    rng = np.random.default_rng(0)
    base = rng.uniform(20, 30, 10)
    ours = base + 0.5 + rng.normal(0, 0.05, 10)
    rows = compare([evaluation("theirs", list(base)), evaluation("ours", list(ours))], reference="theirs")
    first, second = rows
    assert [row["method"] for row in rows] == ["ours", "theirs"] and tuple(first) == COLUMNS
    assert first["psnr_low"] < second["psnr"] < first["psnr_high"]
    assert 0.4 < first["psnr_gain_low"] < first["psnr_gain"] < first["psnr_gain_high"] < 0.6
    assert first["psnr_gain"] == pytest.approx(np.mean(ours - base))
    assert (first["psnr_gain_low"], first["psnr_gain_high"]) == mean_interval(list(ours - base))
    assert (first["reference"], second["reference"], second["psnr_gain"]) == ("theirs", None, None)


def test_a_comparison_is_written_and_shown(tmp_path):
    rows = compare([evaluation("a", [25.0, 27.0]), evaluation("b", [24.0, 25.0])], "b")
    lines = interval_table(rows).splitlines()
    assert lines[0] == "Protocol `bsd200-gray-full`, sigma 50, 2 images; [95 % bootstrap interval]"
    assert lines[2] == "| method | PSNR (dB) | SSIM | gain over b (dB) | seconds per image |"
    ours = "26.00 [25.00, 27.00] | 0.6500 [0.6250, 0.6750] | +1.50 [+1.00, +2.00]"
    assert lines[4] == f"| a | {ours} | 0.100 |"
    assert lines[5].split("|")[4].strip() == "–"
    write(rows, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["protocol"] for row in read] == ["bsd200-gray-full"] * 2
    assert float(read[0]["psnr_gain_high"]) == 2.0 and read[1]["psnr_gain"] == ""


def test_a_perfect_method_and_an_unknown_time_are_shown():
    perfect = evaluation("copy", math.inf)
    perfect.scores[0] = type(perfect.scores[0])("a", math.inf, 1.0, math.nan)
    table = interval_table(compare([perfect, evaluation("m", 25.0)]))
    assert "| copy | inf | 1.0000 | – |" in table and "| m | 25.00 | 0.6250 | 0.100 |" in table


def test_table_names_its_protocol_and_ranks():
    lines = comparison_table([evaluation("worse"), evaluation("better", 26.125)]).splitlines()
    assert lines[0] == "Protocol `bsd200-gray-full`, sigma 50, 1 images"
    assert lines[4] == "| better | 26.12 | 0.6531 | 0.100 |" and lines[5].startswith("| worse | 25.00")


MIXED = [{"protocol": "bsd200-gray-half"}, {"sigma": 30.0}, {"sigma": None}, {"names": "b"}, {"psnr": [25.0, 25.0]}]


@pytest.mark.parametrize("other", MIXED)
def test_what_means_different_things_is_not_compared(other):
    one, two = evaluation("one"), evaluation("two", **other)
    for refuse in (comparison_table, compare, lambda both: gains(*both)):
        with pytest.raises(ValueError, match="cannot compare one .*two"):
            refuse([one, two])


def test_other_comparisons_without_sense_are_refused():
    with pytest.raises(ValueError, match="no evaluations"):
        comparison_table([])
    with pytest.raises(ValueError, match="two methods are called m"):
        compare([evaluation(), evaluation()])
    with pytest.raises(ValueError, match="no method is called x; there are m"):
        compare([evaluation()], "x")
