"""The unprocessing model: curves that invert each other, noise of the model's variance, no change without noise."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from skimage import data

from irnas_ray.degradations.colors import luma601
from irnas_ray.degradations.unprocessing import (
    UnprocessingDraws,
    UnprocessingModel,
    inverse_gains,
    inverse_tone_curve,
    tone_curve,
)
from irnas_ray.settings.degradations import Unprocessing


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crops(count: int = 3, size: int = 32) -> torch.Tensor:
    picture = torch.from_numpy(data.coffee().transpose(2, 0, 1).copy()).float() / 255
    return torch.stack([picture[:, 60 * i : 60 * i + size, 200 : 200 + size] for i in range(count)])


def test_the_tone_curve_is_undone():
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(tone_curve(x), 3 * x**2 - 2 * x**3)
    torch.testing.assert_close(inverse_tone_curve(tone_curve(x)), x, atol=1e-7, rtol=0)
    assert inverse_tone_curve(x)[250].item() == pytest.approx(0.5 - math.sin(math.asin(0.5) / 3))


def test_gains_are_undone_but_white_stays_white():
    gains = torch.tensor([[2.0, 1.0, 1.6]])
    dark = torch.full((1, 3, 1, 1), 0.4)
    assert inverse_gains(dark, gains).flatten().tolist() == pytest.approx([0.5, 1, 0.625])
    assert inverse_gains(torch.ones(1, 3, 1, 1), gains).flatten().tolist() == pytest.approx([1, 1, 1])
    # halfway into the highlights a quarter of the way is gone
    assert inverse_gains(torch.full((1, 3, 1, 1), 0.95), gains)[0, 0].item() == pytest.approx(0.25 + 0.75 * 0.5)
    # a gain below 1 brightens everywhere
    assert inverse_gains(torch.ones(1, 3, 1, 1), 0.25 * gains).flatten().tolist() == pytest.approx([2, 4, 2.5])


@pytest.mark.parametrize("channels", [1, 3])
def test_without_noise_nothing_changes(channels):
    clean = crops()[:, :channels]
    model = UnprocessingModel(Unprocessing(mosaic=False, eight_bit=False))
    draws = model.draw(clean, generator())
    silent = dataclasses.replace(draws, noise=torch.zeros_like(draws.noise))
    torch.testing.assert_close(model.apply(clean, silent), clean, atol=2e-3, rtol=0)
    flat = torch.full((1, channels, 6, 7), 0.35)
    raw = UnprocessingModel(Unprocessing(eight_bit=False))
    draws = raw.draw(flat, generator())
    silent = dataclasses.replace(draws, noise=torch.zeros_like(draws.noise))
    torch.testing.assert_close(raw.apply(flat, silent), flat, atol=1e-5, rtol=0)


def test_noise_has_the_variance_of_the_model():
    """In linear light without gains: shot * signal + read."""
    settings = Unprocessing(mosaic=False, white_balance=False, tone_curve=False, gamma=1, eight_bit=False)
    settings.shot, settings.read_deviation = [0.004, 0.004], 0
    signal = torch.linspace(0.2, 0.7, 8)
    clean = signal.view(-1, 1, 1, 1).expand(-1, 3, 100, 100).contiguous()
    noise = UnprocessingModel(settings)(clean, generator()) - clean
    read = math.exp(2.18 * math.log(0.004) + 1.2)
    torch.testing.assert_close(noise.var(dim=(1, 2, 3)), 0.004 * signal + read, rtol=0.035, atol=0)
    assert noise.mean(dim=(1, 2, 3)).abs().max() < 0.002


def test_white_balance_raises_the_noise_of_what_was_darkened():
    """Gains g bring noise of variance (shot * signal / g + read) g^2 to a channel."""
    settings = Unprocessing(mosaic=False, tone_curve=False, gamma=1, eight_bit=False)
    clean = torch.full((1, 3, 200, 200), 0.4)
    model = UnprocessingModel(settings)
    draws = model.draw(clean, generator())
    gains, shot, read = draws.gains[0], draws.shot[0], draws.read[0]
    noise = model.apply(clean, draws) - clean
    expected = (shot * 0.4 / gains + read) * gains**2
    torch.testing.assert_close(noise.var(dim=(0, 2, 3)), expected, rtol=0.05, atol=0)


def test_levels_are_drawn_as_published():
    draws = UnprocessingModel(Unprocessing()).draw(torch.rand(20000, 1, 2, 2), generator())
    log_shot, log_read = draws.shot.double().log(), draws.read.double().log()
    assert math.log(1e-4) - 1e-4 <= log_shot.min() and log_shot.max() <= math.log(0.012) + 1e-4
    assert log_shot.mean().item() == pytest.approx((math.log(1e-4) + math.log(0.012)) / 2, abs=0.04)
    rest = log_read - (2.18 * log_shot + 1.20)
    assert abs(rest.mean()) < 0.01 and rest.std().item() == pytest.approx(0.26, rel=0.03)
    red, green, blue = draws.gains.T
    assert 1.9 <= (red / green).min() + 1e-6 and (red / green).max() <= 2.4 + 1e-6
    assert 1.5 <= (blue / green).min() + 1e-6 and (blue / green).max() <= 1.9 + 1e-6
    assert (1 / green).mean().item() == pytest.approx(0.8, abs=0.005) and (1 / green).std().item() == pytest.approx(
        0.1, rel=0.03
    )


@pytest.mark.parametrize("mosaic", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_does_not_depend_on_its_batch_but_on_the_seed(mosaic, channels):
    clean = crops()[:, :channels]
    model = UnprocessingModel(Unprocessing(mosaic=mosaic))
    draws = model.draw(clean, generator(2))
    together = model.apply(clean, draws)
    assert together.shape == clean.shape and 0 <= together.min() and together.max() <= 1
    for index in range(len(clean)):
        own = {f.name: getattr(draws, f.name)[index : index + 1] for f in dataclasses.fields(draws)}
        alone = model.apply(clean[index : index + 1], UnprocessingDraws(**own))[0]
        torch.testing.assert_close(alone, together[index], atol=1 / 255 + 1e-6, rtol=0)
    assert torch.equal(model(clean, generator(2)), together) and not torch.equal(model(clean, generator(3)), together)
    if mosaic and channels == 1:
        colour = model.apply(clean.expand(-1, 3, -1, -1), draws)
        torch.testing.assert_close(together, luma601(colour), atol=1e-6, rtol=0)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"shot": [0.0, 0.1]}, "unprocessing.shot"),
    ({"red_gain": [2.4, 1.9]}, "unprocessing.red_gain"),
    ({"read_deviation": -1}, "unprocessing.read_deviation"),
    ({"gamma": 0}, "unprocessing.gamma"),
    ({"brightness": 0.3}, "unprocessing.brightness"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_impossible_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        UnprocessingModel(Unprocessing(**values))
