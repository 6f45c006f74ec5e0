"""Noise has the level, the seed and the range that it promises, and every kind of degradation keeps the contract."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest
import torch

from irnas_ray.degradations.factory import KINDS, degrade_image, image_seed, make_degradation, validation_degradations
from irnas_ray.degradations.gaussian import GaussianNoise
from irnas_ray.settings.degradations import Camera, Degradation, degradation_from_dict, variant


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_patch_has_one_of_the_listed_levels_and_all_levels_occur():
    clean = torch.full((300, 1, 40, 40), 0.5)
    noise = GaussianNoise([30.0, 50.0, 70.0])(clean, _generator()) - clean
    measured = 255 * noise.flatten(1).std(dim=1)
    distance, level = (measured[:, None] - torch.tensor([30.0, 50.0, 70.0])).abs().min(dim=1)
    assert distance.max() < 6  # 4.5 standard errors of the level of 1600 pixels
    counts = torch.bincount(level, minlength=3)
    assert counts.min() > 60 and abs(noise.mean()) < 0.002


def test_noise_is_white_gaussian_and_not_clipped():
    noise = (GaussianNoise([50.0])(torch.ones(4, 3, 128, 128), _generator()) - 1) * 255 / 50
    assert abs(noise.std() - 1) < 0.01
    assert abs(noise.pow(4).mean() - 3) < 0.1
    assert abs((noise[..., 1:] * noise[..., :-1]).mean()) < 0.01
    assert abs((noise[:, 0] * noise[:, 1]).mean()) < 0.02
    assert noise.max() > 3  # above white: nothing was clipped


def test_generator_alone_decides():
    clean = torch.rand(6, 1, 8, 8)
    noise = GaussianNoise([30.0, 70.0])
    torch.manual_seed(1)
    first = noise(clean, _generator(7))
    torch.manual_seed(2)
    assert torch.equal(first, noise(clean, _generator(7)))
    assert not torch.equal(first, noise(clean, _generator(8)))
    generator = _generator(7)
    assert torch.equal(first, noise(clean, generator)) and not torch.equal(first, noise(clean, generator))


def test_float64_stays_float64_and_zero_changes_nothing():
    clean = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    assert GaussianNoise([30.0])(clean, _generator()).dtype == torch.float64
    assert torch.equal(GaussianNoise([0.0])(clean, _generator()), clean)


@pytest.mark.parametrize("sigmas", [[], [-1.0], [30.0, math.nan], [math.inf]])
def test_impossible_levels_are_refused(sigmas):
    with pytest.raises(ValueError, match="sigma"):
        GaussianNoise(sigmas)


def test_image_seed_is_the_same_in_another_process():
    code = "from irnas_ray.degradations.factory import image_seed; print(image_seed('test/100007'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(other) == image_seed("test/100007") == image_seed("100007") == 6114671785708314735
    # in NFC, which seeds had always had; in the form of macOS they had another
    assert image_seed("test/caf\u00e9") == image_seed("cafe\u0301") == 4794010206709776324
    seeds = {image_seed(f"image {index}") for index in range(1000)}
    assert len(seeds) == 1000 and min(seeds) >= 0 and max(seeds) < 2**63


def test_degraded_image_depends_on_name_and_scales_with_sigma():
    clean = torch.rand(1, 64, 64)
    torch.manual_seed(3)
    first = degrade_image(clean, "a", 50.0)
    assert torch.equal(first, degrade_image(clean, "a", 50.0))
    assert not torch.equal(first, degrade_image(clean, "b", 50.0))
    assert abs((first - clean).std() * 255 - 50) < 3
    torch.testing.assert_close((degrade_image(clean, "a", 25.0) - clean) * 2, first - clean, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="sigma"):
        degrade_image(clean, "a", -1.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_degraded_image_is_the_same_on_the_gpu():
    clean = torch.rand(1, 32, 32)
    torch.testing.assert_close(degrade_image(clean.cuda(), "a", 50.0).cpu(), degrade_image(clean, "a", 50.0))
    generator = torch.Generator("cuda").manual_seed(0)
    assert GaussianNoise([30.0, 50.0])(clean[None].cuda(), generator).is_cuda


def test_a_range_of_levels_is_drawn_evenly():
    clean = torch.zeros(2000, 1, 20, 20)
    noise = GaussianNoise([10.0, 50.0], ranged=True)(clean, _generator())
    measured = 255 * noise.flatten(1).std(dim=1)
    assert 8.5 < measured.min() and measured.max() < 56  # 3.5 standard errors of the level of 400 pixels
    assert abs(measured.mean() - 30) < 1 and abs(measured.std() - 40 / 12**0.5) < 0.6
    colour = GaussianNoise([25.0, 25.0], ranged=True)(torch.zeros(2, 3, 100, 100), _generator())
    assert abs(255 * colour.std() - 25) < 0.5 and abs((colour[:, 0] * colour[:, 1]).mean()) < 3e-4
    for wrong in ([10.0], [50.0, 10.0], [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="not a range"):
            GaussianNoise(wrong, ranged=True)


KINDS_THAT_DEGRADE = [kind for kind in KINDS if kind != "paired"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS_THAT_DEGRADE)
def test_every_kind_keeps_the_contract(kind, channels):
    degradation = make_degradation(Degradation(kind=kind))
    assert degradation is not None
    clean = torch.rand(3, channels, 21, 34)
    before = clean.clone()
    first = degradation(clean, _generator(4))
    assert first.shape == clean.shape and first.dtype == clean.dtype and first.isfinite().all()
    assert torch.equal(clean, before) and not torch.equal(first, clean)
    assert torch.equal(first, degradation(clean, _generator(4)))
    # nothing is random in a bicubic filter
    assert torch.equal(first, degradation(clean, _generator(5))) == (kind == "downscale")
    assert kind in ("gaussian", "downscale") or (first.min() >= 0 and first.max() <= 1)


@pytest.mark.parametrize("kind", KINDS_THAT_DEGRADE)
def test_every_kind_gives_an_image_its_own_fixed_degradation(kind):
    (degradation, *_) = validation_degradations(Degradation(kind=kind))
    clean = torch.rand(1, 24, 25)
    torch.manual_seed(3)
    first = degrade_image(clean, "a", degradation)
    assert torch.equal(first, degrade_image(clean, "folder/a", degradation))
    assert (
        torch.equal(first, degrade_image(clean, "b", degradation)) == (kind == "downscale")
        and first.shape == clean.shape
    )


def test_validation_looks_at_every_level_and_at_both_ends_of_a_range():
    assert list(validation_degradations(Degradation(sigmas=[70, 30]))) == [70, 30]
    assert list(validation_degradations(Degradation(sigmas=[10, 50], ranged=True))) == [10, 30, 50]
    assert list(validation_degradations(Degradation(sigmas=[25, 25], ranged=True))) == [25]
    assert list(validation_degradations(Degradation(kind="paired"))) == []
    assert make_degradation(Degradation(kind="paired")) is None
    with pytest.raises(
        ValueError,
        match="unknown 'snow'; possible: gaussian, camera, unprocessing, rain, jpeg, blur, downscale, paired",
    ):
        make_degradation(Degradation(kind="snow"))


def test_settings_have_a_digest_of_what_differs_from_the_defaults():
    assert variant(Degradation()) == variant(Degradation(sigmas=[30.0, 50.0, 70.0])) == ""
    assert variant(Degradation(kind="rain", camera=Camera(mosaic=False))) == ""
    camera = Degradation(kind="camera", camera=Camera(bits=None))
    same = dataclasses.replace(camera, sigmas=[1], camera=Camera(bits=None, unsharp_sigma=4))
    others = [Degradation(kind="camera", camera=Camera(bits=12)), Degradation(sigmas=[30]), Degradation(ranged=True)]
    assert variant(camera) == variant(same) and len({variant(camera), *map(variant, others), ""}) == 5
    plain = json.loads(json.dumps(dataclasses.asdict(camera)))
    assert degradation_from_dict(plain) == camera
    # settings that a later release adds have their defaults
    assert degradation_from_dict({"kind": "camera", "camera": {"bits": None}}) == camera
    for wrong in ({"sigma": 3}, {"camera": {"bit": 3}}, {"kind": 3}, {"camera": [3]}, {"ranged": 1.5}):
        with pytest.raises(ValueError, match="degradation"):
            degradation_from_dict(wrong)
