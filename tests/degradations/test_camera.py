"""The camera pipeline: each stage by its formula, noise by its statistics, and images independent of their batch."""

import dataclasses
from typing import Any

import pytest
import torch
from skimage import data

from irnas_ray.degradations.bilateral import bilateral
from irnas_ray.degradations.camera import CameraDraws, CameraPipeline
from irnas_ray.degradations.colors import linear_to_srgb, luma601, rgb_to_yuv, srgb_to_linear, to_bits, yuv_to_rgb
from irnas_ray.degradations.filters import jpeg, plus_median, unsharp_mask
from irnas_ray.degradations.mosaic import demosaic, mosaic
from irnas_ray.settings.degradations import Camera

OFF: dict[str, Any] = {
    "mosaic": False,
    "shot_noise": False,
    "read_noise": False,
    "bits": None,
    "median": False,
    "bilateral": False,
    "unsharp": False,
    "eight_bit": False,
    "jpeg": False,
}


def only(**stages: Any) -> CameraPipeline:
    return CameraPipeline(Camera(**(OFF | stages)))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crops(count: int = 3, size: int = 40) -> torch.Tensor:
    picture = torch.from_numpy(data.astronaut().transpose(2, 0, 1).copy()).float() / 255
    return torch.stack([picture[:, 40 * i : 40 * i + size, 180 : 180 + size] for i in range(count)])


def one(draws: CameraDraws, index: int) -> CameraDraws:
    return CameraDraws(**{f.name: getattr(draws, f.name)[index : index + 1] for f in dataclasses.fields(draws)})


def test_everything_off_changes_nothing():
    clean = crops()
    torch.testing.assert_close(only()(clean, generator()), clean, atol=1e-6, rtol=0)
    torch.testing.assert_close(only(linear=True)(clean, generator()), clean, atol=1e-6, rtol=0)


def test_noise_has_the_variance_of_the_model():
    """Variance against signal: shot^2 * signal + read^2, in linear light, white, and of mean zero."""
    signal = torch.linspace(0.1, 0.7, 12)
    camera = only(linear=True, shot=[0.05, 0.05], read=[0.02, 0.02], shot_noise=True, read_noise=True)
    clean = signal.view(-1, 1, 1, 1).expand(-1, 3, 100, 100).contiguous()
    noise = camera.capture(clean, camera.draw(clean, generator())) - clean
    expected = 0.05**2 * signal + 0.02**2
    # the relative standard error of the variance of 30,000 normal numbers is 0.8 %
    torch.testing.assert_close(noise.var(dim=(1, 2, 3)), expected, rtol=0.035, atol=0)
    assert noise.mean(dim=(1, 2, 3)).abs().max() < 0.002
    slope = ((noise.var(dim=(1, 2, 3)) - expected.mean()) * (signal - signal.mean())).sum()
    assert (slope / (signal - signal.mean()).square().sum()).item() == pytest.approx(0.05**2, rel=0.1)
    assert abs((noise[..., 1:] * noise[..., :-1]).mean() / noise.var()) < 0.01
    assert abs((noise[:, 0] * noise[:, 1]).mean() / noise.var()) < 0.01


def test_each_noise_can_be_switched_off_and_changes_nothing_else():
    clean = torch.full((1, 3, 64, 64), 0.5)
    both, shot, read = (
        only(linear=True, shot_noise=s, read_noise=r) for s, r in ((True, True), (True, False), (False, True))
    )
    draws = both.draw(clean, generator(3))
    parts = [camera.capture(clean, draws) - clean for camera in (both, shot, read)]
    torch.testing.assert_close(parts[0], parts[1] + parts[2], atol=1e-6, rtol=0)
    torch.testing.assert_close(parts[1], draws.shot.view(-1, 1, 1, 1) * 0.5**0.5 * draws.shot_noise, atol=1e-6, rtol=0)
    torch.testing.assert_close(parts[2], draws.read.view(-1, 1, 1, 1) * draws.read_noise, atol=1e-6, rtol=0)
    assert torch.equal(shot.draw(clean, generator(3)).read_noise, draws.read_noise)


def test_parameters_are_drawn_from_their_ranges():
    settings = Camera(exposure=[-1, 1])
    clean = torch.rand(4000, 1, 2, 2)
    draws = CameraPipeline(settings).draw(clean, generator())
    for name in ("shot", "read", "spatial", "tonal", "chroma_spatial", "chroma_tonal"):
        low, high = getattr(settings, name)
        drawn = getattr(draws, name)
        assert low <= drawn.min() and drawn.max() <= high * (1 + 1e-6)
        # the median of a log-uniform number is the geometric mean of its ends
        assert drawn.median().item() == pytest.approx((low * high) ** 0.5, rel=0.1)
    for name in ("exposure", "unsharp_amount"):
        low, high = getattr(settings, name)
        drawn = getattr(draws, name)
        assert low <= drawn.min() and drawn.max() <= high and abs(drawn.mean() - (low + high) / 2) < 0.05 * (high - low)
    assert set(draws.jpeg_quality.tolist()) == set(range(70, 91))
    assert torch.unique(draws.phase, dim=0).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    fixed = CameraPipeline(Camera(phase=2, shot=[0.1, 0.1])).draw(clean, generator())
    assert torch.unique(fixed.phase, dim=0).tolist() == [[1, 0]]
    torch.testing.assert_close(fixed.shot, torch.full_like(fixed.shot, 0.1))


def test_the_stages_follow_each_other_as_documented():
    clean = crops()
    camera = CameraPipeline(Camera(exposure=[-0.5, 0.5]))
    draws = camera.draw(clean, generator(1))
    assert draws.exposure.abs().max() > 0.05
    gain, per_image = 2 ** draws.exposure.view(-1, 1, 1, 1), (-1, 1, 1, 1)
    raw = mosaic(srgb_to_linear(clean) * gain, draws.phase)
    raw = (
        raw + draws.shot.view(per_image) * raw.sqrt() * draws.shot_noise + draws.read.view(per_image) * draws.read_noise
    )
    yuv = plus_median(rgb_to_yuv(demosaic(to_bits(raw, 14), draws.phase).clamp(0, 1)))
    luma = yuv[:, :1].clamp(0, 1)
    luma = bilateral(luma, luma.sqrt(), draws.spatial, draws.tonal)
    wide, fine = draws.spatial * draws.chroma_spatial, draws.tonal * draws.chroma_tonal
    linear = yuv_to_rgb(torch.cat([luma, bilateral(yuv[:, 1:], luma, wide, fine)], dim=1)).clamp(0, 1)
    linear = unsharp_mask(linear, draws.unsharp_amount, 4, 3 / 255).clamp(0, 1)
    srgb = jpeg(linear_to_srgb(linear), draws.jpeg_quality)
    expected = linear_to_srgb((srgb_to_linear(srgb) / gain).clamp(0, 1))
    # a value between two 8-bit levels may fall on either
    torch.testing.assert_close(camera.apply(clean, draws), expected, atol=0.02, rtol=0)
    assert (camera.apply(clean, draws) - expected).abs().mean() < 1e-4


@pytest.mark.parametrize("settings", [Camera(), Camera(mosaic=False), Camera(linear=True, jpeg=False)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_does_not_depend_on_its_batch(settings, channels):
    clean = crops()[:, :channels]
    camera = CameraPipeline(settings)
    draws = camera.draw(clean, generator(5))
    together = camera.apply(clean, draws)
    assert together.shape == clean.shape and 0 <= together.min() and together.max() <= 1
    for index in range(len(clean)):
        alone = camera.apply(clean[index : index + 1], one(draws, index))[0]
        # last bits of a sum may decide between two 8-bit levels
        assert (alone - together[index]).abs().mean() < 1e-4
    assert (together - clean).abs().mean() > 0.005


def test_the_generator_alone_decides():
    clean, camera = crops(), CameraPipeline(Camera())
    torch.manual_seed(1)
    first = camera(clean, generator(7))
    torch.manual_seed(2)
    assert torch.equal(first, camera(clean, generator(7)))
    assert not torch.equal(first, camera(clean, generator(8)))


def test_gray_is_the_luma_of_a_colour_camera_or_a_monochrome_one():
    gray = crops()[:, :1]
    camera = only(shot_noise=True, mosaic=True)
    draws = camera.draw(gray, generator())
    colour = camera.apply(gray.expand(-1, 3, -1, -1), draws)
    torch.testing.assert_close(camera.apply(gray, draws), luma601(colour), atol=1e-6, rtol=0)
    mono = only(read_noise=True, linear=True)
    draws = mono.draw(gray, generator())
    expected = (gray + draws.read.view(-1, 1, 1, 1) * draws.read_noise).clamp(0, 1)
    torch.testing.assert_close(mono.apply(gray, draws), expected, atol=1e-6, rtol=0)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"shot": [0.2, 0.1]}, "camera.shot"),
    ({"shot": [0, 0.1]}, "camera.shot: .* above 0"),
    ({"read": [0.1]}, "camera.read"),
    ({"tonal": [float("nan"), 1.0]}, "camera.tonal"),
    ({"unsharp_amount": [-1, 0]}, "camera.unsharp_amount"),
    ({"unsharp_sigma": 0}, "camera.unsharp_sigma"),
    ({"jpeg_quality": [50, 100]}, "camera.jpeg_quality"),
    ({"jpeg_quality": [50.5, 60]}, "camera.jpeg_quality: .* whole"),
    ({"phase": 4}, "camera.phase"),
    ({"bits": 0}, "camera.bits"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_impossible_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        CameraPipeline(Camera(**values))


@pytest.mark.usefixtures("unannotated")
def test_other_channels_are_refused():
    with pytest.raises(ValueError, match="gray or RGB"):
        CameraPipeline(Camera())(torch.rand(1, 2, 8, 8), generator())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_picture_of_the_same_numbers():
    clean, camera = crops(), CameraPipeline(Camera())
    draws = camera.draw(clean, generator())
    there = CameraDraws(**{f.name: getattr(draws, f.name).cuda() for f in dataclasses.fields(draws)})
    again = camera.apply(clean.cuda(), there)
    assert again.is_cuda and (again.cpu() - camera.apply(clean, draws)).abs().mean() < 1e-4
    seeded = [camera(clean.cuda(), torch.Generator("cuda").manual_seed(3)) for _ in range(2)]
    assert torch.equal(*seeded)
