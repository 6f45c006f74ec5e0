"""The score of searches and trainings: every level, fixed noise, as many pixels as its share of the time allows."""

import numpy as np
import pytest
import torch
from evaluation_cases import Record, camera, pair
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from irnas_ray.degradations.downscale import BicubicDownscaling
from irnas_ray.degradations.factory import degrade_image
from irnas_ray.evaluation.baselines import degraded_input
from irnas_ray.evaluation.scores import evaluate
from irnas_ray.settings.degradations import Downscale
from irnas_ray.training.validation import PASSES_PER_STEP, middles, validation_pixels, validator


def test_validator_scores_every_level_with_fixed_noise():
    records = [camera("a"), camera("b"), camera("c", (30, 34))]
    validate = validator(records, [30.0, 70.0], tile=16)
    scores = validate(nn.Identity())
    assert scores == validate(nn.Identity()) == validator(records, [30.0, 70.0], tile=None)(nn.Identity())
    expected = []
    for sigma in (30.0, 70.0):
        expected += evaluate(degraded_input, records, "images-gray", sigma).scores
    assert scores["psnr"] == pytest.approx(np.mean([score.psnr for score in expected]), abs=1e-4)
    assert scores["ssim"] == pytest.approx(np.mean([score.ssim for score in expected]), abs=1e-5)
    assert set(scores) == {"psnr", "ssim"}


def test_validator_takes_pairs_as_they_are():
    scores = validator([pair()], [30.0])(nn.Identity())
    assert scores["psnr"] == pytest.approx(evaluate(degraded_input, [pair()], "pairs-rgb").psnr, abs=1e-4)


@pytest.mark.parametrize(
    ("records", "sigmas", "message"),
    [
        ([], [30.0], "no images"),
        ([camera()], [], "no noise level"),
        ([camera("tiny", (10, 40))], [30.0], "tiny"),
        ([Record("x", pair().clean, pair().clean[:, 1:])], [30.0], "differ in size"),
    ],
)
def test_what_cannot_be_validated_is_refused(records, sigmas, message):
    with pytest.raises(ValueError, match=message):
        validator(records, sigmas)


@given(
    shapes=st.lists(st.tuples(st.integers(11, 200), st.integers(11, 200)), min_size=1, max_size=9),
    pixels=st.integers(1, 60_000),
    side=st.integers(11, 64),
)
def test_middles_keep_about_as_many_pixels_as_are_allowed(shapes, pixels, side):
    images = [
        torch.arange(height * width).reshape(1, height, width) + 1_000_000 * index
        for index, (height, width) in enumerate(shapes)
    ]
    kept = middles([(image, -image) for image in images], pixels, side)
    assert len(kept) == min(len(images), max(1, pixels // side**2))
    assert len({int(clean.flatten()[0]) // 1_000_000 for clean, _ in kept}) == len(kept)
    least = 0
    for clean, degraded in kept:
        image = images[int(clean.flatten()[0]) // 1_000_000]
        assert torch.equal(clean, -degraded)
        assert torch.equal(clean, brute_middle(image, *clean.shape[1:]))
        assert all(length >= min(side, whole) for length, whole in zip(clean.shape[1:], image.shape[1:], strict=True))
        least += max(side, clean.shape[1]) * max(side, clean.shape[2])
    total = sum(clean.numel() for clean, _ in kept)
    assert total <= pixels or total <= least
    if pixels >= sum(image.numel() for image in images) and len(kept) == len(images):
        assert [clean.shape for clean, _ in kept] == [image.shape for image in images]


def brute_middle(image, height, width):
    """Cut a row or column from the longer rest, top or left last, until the size is right."""
    while image.shape[1] > height:
        image = image[:, :-1] if (image.shape[1] - height) % 2 else image[:, 1:-1]
    while image.shape[2] > width:
        image = image[:, :, :-1] if (image.shape[2] - width) % 2 else image[:, :, 1:-1]
    return image


def test_a_share_of_the_search_is_turned_into_pixels():
    pixels = validation_pixels(0.2, steps=10, batch=2, crop=32)
    searched = 2 * 10 * 2 * 32**2 * PASSES_PER_STEP
    assert pixels / (pixels + searched) == pytest.approx(0.2, abs=1e-3)
    assert validation_pixels(1, 10, 2, 32) is None


def test_middles_of_enlarged_images_begin_where_their_pixels_do():
    clean = torch.arange(100 * 131).reshape(1, 100, 131)
    for step in (2, 3, 4):
        ((kept, _),) = middles([(clean, -clean)], 2000, 32, step)
        ((centred, _),) = middles([(clean, -clean)], 2000, 32)
        (top, left), (usual_top, usual_left) = (divmod(int(part[0, 0, 0]), 131) for part in (kept, centred))
        assert kept.shape == centred.shape and top % step == left % step == 0
        assert 0 <= usual_top - top < step and 0 <= usual_left - left < step
    degradation = BicubicDownscaling(Downscale(4))
    record = camera("a", (80, 90))
    seen = []

    class Spy(nn.Identity):
        def forward(self, image):
            seen.append(image.clone())
            return image

    validator([record], [degradation], tile=None, pixels=35 * 37)(Spy())
    degraded = degrade_image(torch.tensor(record.clean).float() / 255, "a", degradation)
    places = [
        (top, left)
        for top in range(0, 80 - seen[0].shape[-2], 4)
        for left in range(0, 90 - seen[0].shape[-1], 4)
        if torch.equal(degraded[:, top:, left:][:, : seen[0].shape[-2], : seen[0].shape[-1]], seen[0][0])
    ]
    assert len(places) == 1


def test_the_validator_scores_only_the_middles_where_pixels_are_few():
    records = [camera("a", (80, 90)), camera("b", (80, 90))]
    seen = []

    class Spy(nn.Identity):
        def forward(self, image):
            seen.append(image.shape[-2:].numel() * len(image))
            return image

    whole, few = Spy(), Spy()
    validator(records, [30.0], tile=None)(whole)
    everything, seen[:] = sum(seen), []
    validator(records, [30.0], tile=None, pixels=80 * 90)(few)
    assert everything == 2 * 80 * 90 and 0.8 * 80 * 90 < sum(seen) <= 80 * 90
