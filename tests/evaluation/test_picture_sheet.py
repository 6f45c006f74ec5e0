"""The picture sheet shows the right pixels in the right places."""

import numpy as np
import pytest
import torch
from evaluation_cases import camera
from PIL import Image

from irnas_ray.evaluation.baselines import degraded_input
from irnas_ray.evaluation.picture_sheet import (
    CAPTION,
    GAP,
    LINE,
    NARROWEST,
    Panel,
    SheetImages,
    draw_sheet,
    informative_part,
)
from irnas_ray.evaluation.protocols import get_protocol
from irnas_ray.evaluation.scores import evaluate, to_pixels


def _gray(sheet: Image.Image) -> np.ndarray:
    return np.asarray(sheet.convert("RGB"))[..., 0]


def test_the_informative_part_has_the_most_structure():
    """Against the sum over every window, slowly."""
    clean = torch.rand(3, 40, 70, generator=torch.Generator().manual_seed(0)) * 0.1
    clean[:, 12:30, 33:60] *= 8
    top, left, side = informative_part(clean)
    change = torch.zeros(40, 70)
    change[1:] += (clean[:, 1:] - clean[:, :-1]).abs().sum(0)
    change[:, 1:] += (clean[..., 1:] - clean[..., :-1]).abs().sum(0)
    windows = {(y, x): change[y : y + 16, x : x + 16].sum() for y in range(25) for x in range(55)}
    assert side == 16 and (top, left) == max(windows, key=windows.__getitem__)


@pytest.mark.parametrize(
    ("size", "side"), [((8, 30), 8), ((30, 40), 16), ((321, 481), 80), ((2000, 3000), 128), ((1, 1), 1)]
)
def test_the_informative_part_fits_the_image(size, side):
    top, left, found = informative_part(torch.zeros(1, *size))
    assert (top, left, found) == (0, 0, side)


def test_a_sheet_shows_whole_and_enlarged_pixels_where_they_belong():
    protocol = get_protocol("images-gray")
    clean, degraded = protocol.degrade(camera(size=(240, 300)).clean, "x", 50.0)
    sheet = draw_sheet("heading", [("x", [Panel("input", degraded, "14 dB"), Panel("clean", clean)])])
    side, zoom = 60, 5
    height = LINE + GAP + (LINE + 240 + GAP + side * zoom + CAPTION) + GAP
    assert sheet.size == (GAP + 300 + GAP + 300 + GAP, height)
    pixels = _gray(sheet)
    top = 2 * LINE + GAP
    y, x, found = informative_part(clean)
    assert found == side
    for panel, picture in enumerate((degraded, clean)):
        expected, left = to_pixels("x", picture), GAP + panel * (300 + GAP)
        whole = pixels[top : top + 240, left : left + 300]
        outside = np.ones((240, 300), bool)
        outside[y : y + side, x : x + side] = False
        np.testing.assert_array_equal(whole[outside], expected[outside])
        assert not np.array_equal(whole[y], expected[y])  # the frame around the part
        below = pixels[top + 240 + GAP :][: side * zoom, left : left + side * zoom]
        part = expected[y : y + side, x : x + side]
        np.testing.assert_array_equal(below, part.repeat(zoom, 0).repeat(zoom, 1))
        text = pixels[top + 240 + GAP + side * zoom :][:CAPTION, left : left + 200]
        assert text.min() < 100  # something is written
    assert (pixels[top + 240 + GAP + side * zoom + LINE :][:LINE, GAP : GAP + 200] < 100).any()


def test_large_images_are_reduced_and_small_ones_have_room_for_their_numbers():
    large = draw_sheet("", [("x", [Panel("clean", torch.rand(3, 600, 1024))])])
    assert large.size == (512 + 2 * GAP, LINE + GAP + LINE + 300 + GAP + 512 + CAPTION + GAP)
    small = draw_sheet("", [("x", [Panel("clean", torch.rand(1, 30, 20))])])
    assert small.size == (NARROWEST + 2 * GAP, LINE + GAP + LINE + 30 + GAP + 192 + CAPTION + GAP)


def test_a_sheet_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        draw_sheet("", [])
    with pytest.raises(ValueError, match="title: a is"):
        draw_sheet("title", [("title", [Panel("a", torch.rand(1, 20, 20)), Panel("clean", torch.rand(1, 20, 21))])])
    with pytest.raises(ValueError, match="sheet_images: -1"):
        SheetImages([], -1)


def test_images_are_spread_over_all_and_shown_with_their_numbers(tmp_path, monkeypatch):
    images = [camera(str(number), (24, 24 + number)) for number in range(10)]
    shown = SheetImages(images, 4)
    assert list(shown.images) == ["0", "3", "6", "9"]
    assert list(SheetImages(images[:2], 4).images) == ["0", "1"]
    protocol = get_protocol("images-gray")
    methods = {"degraded input": degraded_input, "half": lambda degraded: degraded * 0.5}
    results = [
        evaluate(method, images, protocol, 50.0, name, keep=shown.keeper(name)) for name, method in methods.items()
    ]
    drawn = []
    monkeypatch.setattr(
        "irnas_ray.evaluation.picture_sheet.draw_sheet", lambda *given: drawn.append(given) or Image.new("L", (1, 1))
    )
    shown.save(tmp_path / "sheet.png", protocol, 50.0, results)
    ((heading, rows),) = drawn
    assert "images-gray, sigma 50" in heading and [title for title, _ in rows] == ["0", "3", "6", "9"]
    # the degraded input is the first panel already
    assert [panel.title for panel in rows[1][1]] == ["input", "half", "clean"]
    assert rows[1][1][1].numbers == f"{results[1].scores[3].psnr:.2f} dB   {results[1].scores[3].ssim:.4f}"
    assert rows[1][1][0].numbers == f"{results[0].scores[3].psnr:.2f} dB   {results[0].scores[3].ssim:.4f}"
