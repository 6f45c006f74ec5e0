"""Baselines are told the noise level that there is, make the best of it, and say what they lack."""

import pickle
import sys
import types

import numpy as np
import pytest
import torch
from evaluation_cases import Record, camera, pair
from skimage import data

from irnas_ray.evaluation import baselines as module
from irnas_ray.evaluation.baselines import (
    DENOISERS,
    NAMES,
    baselines,
    degraded_input,
    denoiser,
    is_baseline,
    named_baselines,
    non_local_means,
    parameters_of,
)
from irnas_ray.evaluation.protocols import get_protocol
from irnas_ray.evaluation.scores import evaluate

QUICK = ("non_local_means", "wavelet", "tv")


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize(("record", "protocol"), [(camera(), "photographs-gray"), (pair(), "photographs-rgb")])
def test_a_baseline_is_worth_beating(name, record, protocol):
    before, after = (evaluate(m, [record], protocol, 50.0) for m in (degraded_input, denoiser(name, 50.0)))
    assert after.psnr > before.psnr + 7 and after.ssim > before.ssim + 0.2


@pytest.mark.parametrize("name", QUICK)
def test_a_baseline_uses_the_level_that_it_is_told(name):
    """Right about the noise is better than wrong by a factor of two, at two levels."""
    part = Record("camera", data.camera()[None, 160:288, 160:288].copy())
    for sigma in (20.0, 60.0):
        scores = {
            told: evaluate(denoiser(name, told * sigma), [part], "images-gray", sigma).psnr for told in (0.5, 1.0, 2.0)
        }
        assert max(scores, key=scores.__getitem__) == 1.0, scores


def test_bm3d_is_the_best_of_them():
    pytest.importorskip("bm3d")
    part = Record("camera", data.camera()[None, 160:224, 160:224].copy())
    scores = {name: evaluate(denoiser(name, 50.0), [part], "images-gray", 50.0).psnr for name in DENOISERS}
    assert scores["bm3d"] > max(scores[name] for name in QUICK) + 0.3, scores


@pytest.mark.parametrize("channels", [1, 3])
def test_what_every_method_is_told(channels, monkeypatch):
    """The libraries see pixels (h w) or (h w 3) in double precision, and sigma on the scale of [0, 1]."""
    seen = {}

    def library(name, **fixed):
        def called(pixels, *positional, **keywords):
            seen[name] = (pixels, positional, keywords)
            return pixels

        return called

    fake = types.ModuleType("bm3d")
    fake.bm3d, fake.bm3d_rgb = library("bm3d"), library("bm3d_rgb")
    monkeypatch.setitem(sys.modules, "bm3d", fake)
    for name in ("denoise_nl_means", "denoise_tv_chambolle"):
        monkeypatch.setattr(module.restoration, name, library(name))
    image = torch.rand(channels, 20, 24)
    for name in ("non_local_means", "tv", "bm3d"):
        restored = denoiser(name, 51.0)(image)
        assert torch.equal(restored, image) and restored.dtype == torch.float32
    for pixels, _, _ in seen.values():
        assert pixels.shape == ((20, 24) if channels == 1 else (20, 24, 3)) and pixels.dtype == np.float64
    assert seen["denoise_nl_means"][2]["sigma"] == pytest.approx(0.2)
    assert seen["denoise_nl_means"][2]["h"] == pytest.approx({1: 0.12, 3: 0.1}[channels])
    assert seen["denoise_tv_chambolle"][2]["weight"] == pytest.approx(0.18)
    assert seen[{1: "bm3d", 3: "bm3d_rgb"}[channels]][1] == (pytest.approx(0.2),)


def test_without_noise_nothing_is_changed():
    image = torch.rand(1, 12, 12)
    for name in QUICK:
        assert torch.equal(denoiser(name, 0.0)(image), image)


def test_small_images_have_fewer_wavelet_levels():
    noisy = torch.rand(1, 11, 11)
    assert denoiser("wavelet", 50.0)(noisy).var() < noisy.var()


def test_missing_bm3d_is_said_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(ValueError, match=r"pip install 'irnas_ray\[bm3d\]'"):
        denoiser("bm3d", 50.0)


def test_methods_can_be_sent_to_other_processes():
    method = pickle.loads(pickle.dumps(denoiser("tv", 50.0)))
    noisy = torch.rand(1, 20, 20)
    assert torch.equal(method(noisy), denoiser("tv", 50.0)(noisy))


def test_default_baselines_fit_the_protocol(caplog):
    assert list(baselines(get_protocol("images-gray"), 50.0)) == ["degraded input", "non-local means"]
    with caplog.at_level("INFO"):
        assert list(baselines(get_protocol("rain800-y"), None)) == ["degraded input"]
    assert "needs a noise level" in caplog.text
    with pytest.raises(ValueError, match="sigma"):
        baselines(get_protocol("images-gray"), None)
    with pytest.raises(ValueError, match="sigma"):
        non_local_means(-1.0)


def test_baselines_are_chosen_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", types.ModuleType("bm3d"))
    gray, pairs = get_protocol("images-gray"), get_protocol("pairs-rgb")
    others = [name for name in NAMES if name != "bicubic"]
    assert list(named_baselines(others, gray, 50.0)) == [
        *("degraded input", "non-local means", "wavelet", "total variation", "BM3D")
    ]
    # pairs state no level, so the assumed one is part of the name
    assert list(named_baselines(["degraded", "tv"], pairs, 12.5)) == ["degraded input", "total variation (sigma 12.5)"]
    assert list(named_baselines(["degraded"], pairs, None)) == ["degraded input"]
    with pytest.raises(ValueError, match="method tv removes white noise.*give sigma="):
        named_baselines(["tv"], pairs, None)
    with pytest.raises(ValueError, match="unknown method 'bm4d'; known: degraded, .*bm3d"):
        named_baselines(["bm4d"], gray, 50.0)
    with pytest.raises(ValueError, match="tv is listed twice"):
        named_baselines(["tv", "tv"], gray, 50.0)


def test_under_super_resolution_the_input_is_the_bicubic_baseline():
    protocol = get_protocol("images-gray-x2")
    assert list(baselines(protocol, None)) == ["bicubic"]
    ((label, method),) = named_baselines(["bicubic"], protocol, None).items()
    image = torch.rand(1, 4, 4)
    assert is_baseline(label) and method(image) is image
    with pytest.raises(ValueError, match="method bicubic enlarges images, protocol images-gray does not; use degraded"):
        named_baselines(["bicubic"], get_protocol("images-gray"), 50.0)


def test_labels_tell_baselines_from_other_methods():
    assert all(is_baseline(label) for label in ("degraded input", "BM3D", "total variation (sigma 12.5)"))
    assert not is_baseline("network") and not is_baseline("wavelets") and parameters_of("degraded input") is None
    assert "0.9 sigma" in (parameters_of("total variation (sigma 12.5)") or "")
