"""Tables and intervals: numbers that mean different things are never put side by side, and chance is told apart."""

import csv
import dataclasses
import math

import numpy as np
import pytest
from evaluation_cases import evaluation

from irnas_ray.evaluation.comparison import COLUMNS, compare, comparison_table, gains, interval_table, mean_interval
from irnas_ray.evaluation.comparison import write_comparison as write

#: Values of images: ways of drawing them, their true mean, and the least share of 95 % intervals that hold it at 5, 10,
#: 20 and 200 images. PSNRs of BSD500's test images, white noise of level 25 or 50 smoothed by a Gaussian, have a
#: deviation of 2.7 or 2.0 dB and a skewness of 0.1 or -0.2.
DRAWN = {
    "normal": (lambda rng, shape: rng.normal(27, 2.5, shape), 27.0, (0.94, 0.94, 0.94, 0.94)),
    "skewness 1": (lambda rng, shape: 22 + rng.gamma(4, 1.25, shape), 27.0, (0.92, 0.925, 0.93, 0.94)),
    "skewness 1.4": (lambda rng, shape: 22 + rng.gamma(2, 2.5, shape), 27.0, (0.90, 0.91, 0.92, 0.94)),
}


@pytest.mark.parametrize("name", DRAWN)
def test_intervals_hold_the_mean_as_often_as_they_say(name):
    """The percentile bootstrap does so in 84 % of normal samples of 5 images, and in 90 % of 10."""
    draw, mean, least = DRAWN[name]
    rng = np.random.default_rng(0)
    for images, share in zip((5, 10, 20, 200), least, strict=True):
        found = [mean_interval(sample) for sample in draw(rng, (4000, images)).tolist()]
        held = np.mean([low <= mean <= high for low, high in found])
        assert share <= held <= 0.96, images


def test_an_interval_is_students():
    """Table of Student 1908: 97.5 % points 2.776 for 4 degrees of freedom, 2.571 for 5."""
    assert mean_interval([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((3 - 2.776 / 2**0.5, 3 + 2.776 / 2**0.5), abs=1e-3)
    values = [20.1, 23.0, 24.4, 25.2, 27.9, 30.3]
    half = 2.571 * np.std(values, ddof=1) / math.sqrt(6)
    assert mean_interval(values) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=1e-3)


def test_an_interval_comes_near_the_normal_one_for_many_images():
    values = np.random.default_rng(0).normal(25, 2, 400)
    low, high = mean_interval(list(values))
    error = values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.02 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.02 * error)


FEW = [[], [25.0], [25.0, 26.0, 24.0, 27.0], [*range(20, 29), math.inf], [*range(20, 29), math.nan]]


@pytest.mark.parametrize("values", FEW)
def test_what_has_no_interval_gets_none(values):
    assert mean_interval(values) is None


def test_equal_images_have_an_interval_of_no_width():
    assert mean_interval([25.0] * 5) == (25.0, 25.0)


def test_no_interval_of_ssim_goes_beyond_one():
    (row,) = compare([evaluation("m", [39.9, 39.8, 39.9, 34.0, 39.9])])
    assert row["ssim_high"] == 1.0 and row["psnr_high"] > 40


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
    ours = [25.0, 27.0, 26.0, 26.0, 26.0]
    rows = compare([evaluation("a", ours), evaluation("b", [24.0, 25.0, 24.5, 24.5, 24.5])], "b")
    lines = interval_table(rows).splitlines()
    assert (
        lines[0] == "Protocol `bsd200-gray-full`, sigma 50, 5 images, SSIM cropped; [95 % t interval, from 5 images on]"
    )
    assert lines[2] == "| method | PSNR (dB) | SSIM | gain over b (dB) | seconds per image |"
    # deviations sqrt(1 / 2), that over 40, and half of it for the gain, each times 2.776 / sqrt(5)
    ours = "26.00 [25.12, 26.88] | 0.6500 [0.6281, 0.6719] | +1.50 [+1.06, +1.94]"
    assert lines[4] == f"| a | {ours} | 0.100 |"
    assert lines[5].split("|")[4].strip() == "–"
    write(rows, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["protocol"] for row in read] == ["bsd200-gray-full"] * 2
    assert float(read[0]["psnr_gain_high"]) == pytest.approx(1.939, abs=1e-3) and read[1]["psnr_gain"] == ""


def test_few_images_have_dashes_for_intervals(tmp_path):
    rows = compare([evaluation("a", [25.0, 27.0, 26.0, 26.0]), evaluation("b", [24.0] * 4)], "b")
    assert tuple(rows[0]) == COLUMNS and rows[0]["psnr_low"] is rows[0]["ssim_high"] is rows[0]["psnr_gain_low"] is None
    assert "| a | 26.00 [–] | 0.6500 [–] | +2.00 [–] | 0.100 |" in interval_table(rows)
    write(rows, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["psnr"], first["psnr_low"], first["psnr_gain_high"]) == ("26.0", "", "")


def test_a_perfect_method_and_an_unknown_time_are_shown():
    perfect = evaluation("copy", math.inf)
    perfect.scores[0] = type(perfect.scores[0])("a", math.inf, 1.0, math.nan)
    table = interval_table(compare([perfect, evaluation("m", 25.0)]))
    assert "| copy | inf | 1.0000 [–] | – |" in table and "| m | 25.00 [–] | 0.6250 [–] | 0.100 |" in table


def test_table_names_its_protocol_and_ranks():
    lines = comparison_table([evaluation("worse"), evaluation("better", 26.125)]).splitlines()
    assert lines[0] == "Protocol `bsd200-gray-full`, sigma 50, 1 images, SSIM cropped"
    assert lines[4] == "| better | 26.12 | 0.6531 | 0.100 |" and lines[5].startswith("| worse | 25.00")


MIXED = [{"protocol": "bsd200-gray-half"}, {"sigma": 30.0}, {"sigma": None}, {"names": "b"}, {"psnr": [25.0, 25.0]}]


@pytest.mark.parametrize("other", MIXED)
def test_what_means_different_things_is_not_compared(other):
    one, two = evaluation("one"), evaluation("two", **other)
    for refuse in (comparison_table, compare, lambda both: gains(*both)):
        with pytest.raises(ValueError, match="cannot compare one .*two"):
            refuse([one, two])


def test_ssims_of_two_borders_are_told_apart():
    padded = dataclasses.replace(evaluation("two"), ssim_border="zero_padded")
    for refuse in (comparison_table, compare, lambda both: gains(*both)):
        with pytest.raises(ValueError, match="one .ssim_border cropped. with two .ssim_border zero_padded"):
            refuse([evaluation("one"), padded])
    for table in (comparison_table([padded]), interval_table(compare([padded]))):
        assert "1 images, SSIM zero-padded" in table


def test_images_are_one_however_accents_are_stored():
    """As scores of a machine with macOS beside those of another."""
    here = evaluation("here", [25.0, 24.0], names=["caf\u00e9", "b"])
    there = evaluation("there", [23.0, 20.0], names=["b", "cafe\u0301"])
    assert gains(here, there) == [5.0, 1.0] and len(compare([here, there], "there")) == 2


def test_other_comparisons_without_sense_are_refused():
    with pytest.raises(ValueError, match="no evaluations"):
        comparison_table([])
    with pytest.raises(ValueError, match="two methods are called m"):
        compare([evaluation(), evaluation()])
    with pytest.raises(ValueError, match="no method is called x; there are m"):
        compare([evaluation()], "x")
