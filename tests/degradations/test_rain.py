"""Rain: streaks drawn one by one give the same picture, and every setting does what it says."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from irnas_ray.degradations.rain import RainDraws, RainStreaks
from irnas_ray.settings.degradations import Rain


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gray(count: int = 2, height: int = 40, width: int = 36) -> torch.Tensor:
    return torch.full((count, 1, height, width), 0.3)


def plain_streaks(rain: RainStreaks, draws: RainDraws, image: int, layer: int, height: int, width: int) -> torch.Tensor:
    """Every streak added by itself."""
    covered = torch.zeros(height, width, dtype=torch.float64)
    density, length, angle, breadth = (
        x[image, layer].item() for x in (draws.density, draws.length, draws.angle, draws.width)
    )
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = draws.places[image, layer]
    for row, column in (places < density).nonzero().tolist():
        down, right = y - (row - rain.reach), x - (column - rain.reach)
        along = right * math.sin(math.radians(angle)) + down * math.cos(math.radians(angle))
        across = right * math.cos(math.radians(angle)) - down * math.sin(math.radians(angle))
        profile = torch.exp(-4 * math.log(2) * (across / breadth) ** 2) * (length / 2 + 0.5 - along.abs()).clamp(0, 1)
        inside = (down.abs() <= rain.reach) & (right.abs() <= rain.reach)
        covered += profile * inside * (0.5 + 0.5 * places[row, column].item() / density)
    return covered.clamp(0, 1)


def test_streaks_are_the_sum_of_single_streaks():
    rain = RainStreaks(Rain(layers=2, angle=[-60, 60]))
    draws = rain.draw(gray(), generator(1))
    streaks = rain.streaks(draws)
    for image in range(2):
        for layer in range(2):
            expected = plain_streaks(rain, draws, image, layer, 40, 36)
            torch.testing.assert_close(streaks[image, layer].double(), expected, atol=2e-5, rtol=0)
    assert streaks.max() > 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_streaks_cover_the_image_with_their_opacity_and_light(channels):
    clean = torch.rand(2, channels, 30, 31, generator=generator(9))
    rain = RainStreaks(Rain(layers=1))
    draws = rain.draw(clean, generator(2))
    share = draws.opacity.view(2, 1, 1, 1) * rain.streaks(draws)
    expected = (1 - share) * clean + share * draws.brightness.view(2, 1, 1, 1)
    torch.testing.assert_close(rain.apply(clean, draws), expected)
    assert torch.equal(rain(clean, generator(2)), rain.apply(clean, draws))
    assert not torch.equal(rain(clean, generator(3)), rain.apply(clean, draws))
    assert torch.equal(RainStreaks(Rain(opacity=[0, 0]))(clean, generator()), clean)


def test_direction_length_width_and_density_are_those_asked_for():
    settings = Rain(layers=1, density=[1e-9, 1e-9], length=[21, 21], angle=[30, 30], width=[2, 2])
    rain = RainStreaks(settings)
    draws = rain.draw(torch.zeros(1, 1, 41, 41), generator())
    middle = 20 + rain.reach
    draws.places.fill_(1)
    draws.places[0, 0, middle, middle] = 0.999999e-9
    streak = rain.streaks(draws)[0, 0].double()
    y, x = torch.meshgrid(torch.arange(41) - 20, torch.arange(41) - 20, indexing="ij")
    spread = torch.stack([(streak * a * b).sum() / streak.sum() for a, b in ((x, x), (x, y), (y, y))])
    # the principal axis leans by the angle to the right on the way down
    leaning = 0.5 * math.degrees(math.atan2(2 * spread[1], spread[2] - spread[0]))
    assert leaning == pytest.approx(30, abs=0.5)
    along = x * 0.5 + y * math.sqrt(3) / 2
    across = x * math.sqrt(3) / 2 - y * 0.5
    assert streak[20, 20].item() == pytest.approx(1, abs=1e-4)
    assert along[streak > 0.5].abs().max().item() == pytest.approx(10.5, abs=1)
    assert (streak[(along.abs() < 8) & (across.abs() < 0.9)] > 0.5).all()
    assert (streak[(across.abs() > 1.1)] < 0.5).all()
    count = (
        RainStreaks(Rain(density=[0.01, 0.01])).draw(torch.zeros(1, 1, 300, 300), generator()).places < 0.01
    ).double()
    assert count.mean().item() == pytest.approx(0.01, rel=0.05)


def test_an_image_does_not_depend_on_its_batch():
    clean = torch.rand(3, 3, 25, 40, generator=generator(4))
    rain = RainStreaks(Rain())
    draws = rain.draw(clean, generator(5))
    together = rain.apply(clean, draws)
    for index in range(3):
        own = {f.name: getattr(draws, f.name)[index : index + 1] for f in dataclasses.fields(draws)}
        alone = rain.apply(clean[index : index + 1], RainDraws(**own))[0]
        torch.testing.assert_close(alone, together[index], atol=1e-6, rtol=0)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"layers": 0}, "rain.layers"),
    ({"density": [0.1, 1.5]}, "rain.density"),
    ({"length": [0, 3]}, "rain.length"),
    ({"width": [3, 2]}, "rain.width"),
    ({"opacity": [0.5, 1.2]}, "rain.opacity: .* between 0 and 1"),
    ({"brightness": [-0.1, 1]}, "rain.brightness"),
    ({"angle": [math.inf, math.inf]}, "rain.angle"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_impossible_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        RainStreaks(Rain(**values))
