"""Protocols and scores: what is degraded how, scored on what, and written where."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_cases import Record, camera, pair
from PIL import Image
from skimage import data
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from irnas_ray.degradations.factory import degrade_image, validation_degradations
from irnas_ray.evaluation.baselines import degraded_input
from irnas_ray.evaluation.metrics import luma, psnr, ssim
from irnas_ray.evaluation.protocols import PROTOCOLS, check_form, get_protocol, protocol_id
from irnas_ray.evaluation.scores import Evaluation, Score, evaluate, file_name, save_pictures
from irnas_ray.settings.degradations import Degradation, Downscale

#: A setting of each degradation that is not the default.
OTHER: dict[str, dict[str, Any]] = {
    "camera": {"unsharp_sigma": 2.0},
    "unprocessing": {"gamma": 2.0},
    "rain": {"layers": 3},
    "jpeg": {"quality": [5, 9]},
    "blur": {"motion": 1.0, "length": [20, 30]},
}

BSD500 = Path(__file__).parents[3] / "shared/data/bsd500/test"


def test_every_protocol_degrades_and_scores():
    colour = np.repeat(camera().clean, 3, axis=0)
    for protocol in PROTOCOLS.values():
        clean, degraded = protocol.degrade(colour, "x", 50.0, 255 - colour)
        assert clean.shape == degraded.shape == (protocol.channels, int(48 * protocol.scale), int(60 * protocol.scale))
        assert clean.min() >= 0 and clean.max() <= 1
        score = protocol.score(degraded, clean)
        assert score[0] < 40 and score[1] < 0.98
        assert protocol.score(clean, clean) == (np.inf, pytest.approx(1))


def test_protocols_differ_as_their_names_say():
    clean, noisy = get_protocol("bsd200-gray-full").degrade(camera().clean, "camera", 70.0)
    assert noisy.min() < 0 and noisy.max() > 1
    same, rounded = get_protocol("bsd200-gray-full-uint8").degrade(torch.from_numpy(camera().clean), "camera", 70.0)
    assert torch.equal(same, clean)
    torch.testing.assert_close(rounded, (noisy.clamp(0, 1) * 255).round() / 255)
    half, _ = get_protocol("bsd200-gray-half").degrade(camera().clean, "camera", 70.0)
    expected = np.asarray(Image.fromarray(camera().clean[0]).resize((30, 24), Image.Resampling.BICUBIC)) / np.float32(
        255
    )
    np.testing.assert_array_equal(half[0].numpy(), expected)


@pytest.mark.parametrize("kind", OTHER)
def test_a_protocol_degrades_as_its_own_settings_say(kind):
    usual, other = Degradation(kind=kind), Degradation(kind=kind)
    setattr(other, kind, dataclasses.replace(getattr(other, kind), **OTHER[kind]))
    clean, degraded = get_protocol(f"images-gray-{kind}").degrade(camera().clean, "x")
    (degradation,) = validation_degradations(usual)
    assert torch.equal(degraded, degrade_image(clean, "x", degradation))
    id = protocol_id("images", "gray", other)
    assert id.startswith(f"images-gray-{kind}-") and get_protocol(id, other).id == id
    assert get_protocol(f"images-gray-{kind}", other).settings is None
    assert not torch.equal(get_protocol(id, other).degrade(camera().clean, "x")[1], degraded)
    for wrong in (usual, None, Degradation()):
        with pytest.raises(ValueError, match=f"settings of degradation.{kind} that are not the ones given"):
            get_protocol(id, wrong)
    evaluation = evaluate(degraded_input, [camera()], get_protocol(id, other), 50.0)
    assert (evaluation.protocol, evaluation.sigma) == (id, None)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_super_resolution_is_scored_as_on_set5(color, factor):
    """On luma of BT.601, 16 to 235, of sides cut to multiples, without as many border pixels as the factor has."""
    id = f"images-{color}-x{factor}"
    settings = Degradation(kind="downscale", downscale=Downscale(factor))
    assert protocol_id("images", color, settings) == id and get_protocol(id, settings) is PROTOCOLS[id]
    image = data.astronaut()[:50, 100:171].transpose(2, 0, 1).copy()
    clean, degraded = get_protocol(id).degrade(image, "x")
    height, width = 50 - 50 % factor, 71 - 71 % factor
    assert clean.shape == degraded.shape == (3 if color == "rgb" else 1, height, width)
    assert torch.equal(clean, get_protocol(f"images-{color}").degrade(image, "x", 0.0)[0][:, :height, :width])
    planes = clean.double().expand(3, -1, -1), degraded.double().clamp(0, 1).expand(3, -1, -1)
    inside = (slice(factor, height - factor), slice(factor, width - factor))
    expected, found = (rgb2ycbcr(plane.permute(1, 2, 0).numpy())[:, :, 0][inside] for plane in planes)
    psnr_on_y, ssim_on_y = get_protocol(id).score(degraded, clean)
    assert psnr_on_y == pytest.approx(peak_signal_noise_ratio(expected, found, data_range=255), abs=1e-4)
    assert ssim_on_y == pytest.approx(
        structural_similarity(
            expected, found, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        ),
        abs=1e-4,
    )
    # the border does not count, and a level of gray is 219 / 255 of one on luma
    spoiled = degraded.clone()
    spoiled[:, :factor], spoiled[:, :, -factor:] = 0, 1
    assert get_protocol(id).score(spoiled, clean) == (psnr_on_y, ssim_on_y)
    flat = torch.full_like(clean, 0.5)
    assert get_protocol(id).score(flat + 0.1, flat)[0] == pytest.approx(-20 * np.log10(0.1 * 219 / 255), abs=1e-3)


def test_images_that_are_too_small_for_super_resolution_are_named():
    protocol = get_protocol("images-gray-x4")
    with pytest.raises(ValueError, match="image tiny has a side of less than 4 pixels; protocol images-gray-x4"):
        protocol.degrade(np.zeros((1, 3, 40), np.uint8), "tiny")
    with pytest.raises(ValueError, match=r"at least 11x11 pixels, got \(8, 8\)"):
        protocol.score(*protocol.degrade(np.zeros((1, 17, 19), np.uint8), "small"))


def test_frozen_data_and_their_protocols_belong_together():
    assert protocol_id("frozen-rain", "rgb", Degradation(kind="paired")) == "frozen-rgb-rain"
    special = protocol_id("frozen-camera-0123abcd", "gray", Degradation(kind="paired"))
    assert get_protocol(special).id == "frozen-gray-camera-0123abcd" and get_protocol(special).degradation == "paired"
    check_form(get_protocol("frozen-rgb-rain"), "frozen-rain")
    check_form(get_protocol(special), "frozen-camera-0123abcd")
    for id in ("pairs-rgb", "images-rgb", "images-rgb-rain", "rain800-rgb"):
        check_form(get_protocol(id), "pairs")
        check_form(get_protocol(id), None)
        with pytest.raises(ValueError, match="use protocol frozen-rgb-rain"):
            check_form(get_protocol(id), "frozen-rain")
    for form in ("frozen-camera", "pairs", None):
        with pytest.raises(ValueError, match="frozen-rgb-rain does not score"):
            check_form(get_protocol("frozen-rgb-rain"), form)


def test_gray_is_pillows_luma():
    colour = pair().clean
    clean, _ = get_protocol("images-gray").degrade(colour, "x", 0.0)
    expected = np.asarray(Image.fromarray(colour.transpose(1, 2, 0).copy()).convert("L"))
    np.testing.assert_array_equal((clean[0] * 255).round().numpy().astype(np.uint8), expected)


def test_scores_are_of_the_clipped_image_and_of_the_named_channel():
    clean, degraded = get_protocol("rain800-y").degrade(pair().clean, "x", None, pair().degraded)
    on_luma = get_protocol("rain800-y").score(degraded, clean)
    assert on_luma[0] == pytest.approx(psnr(luma(degraded[None]), luma(clean[None])).item())
    assert on_luma[1] == pytest.approx(ssim(luma(degraded[None]), luma(clean[None])).item())
    assert abs(on_luma[0] - get_protocol("rain800-rgb").score(degraded, clean)[0]) > 0.5
    protocol = get_protocol("images-rgb")
    assert protocol.score(degraded * 3 - 1, clean) == protocol.score((degraded * 3 - 1).clamp(0, 1), clean)


@pytest.mark.parametrize(
    ("id", "record", "sigma", "message"),
    [
        ("bsd200-gray-full", camera(), None, "needs a noise level"),
        ("bsd200-gray-full", camera(), -5.0, "sigma"),
        ("images-rgb", camera(), 50.0, "needs RGB"),
        ("rain800-rgb", Record("x", pair().clean), None, "no degraded half"),
        ("rain800-rgb", Record("x", pair().clean, pair().clean[:, 1:]), None, "x: clean"),
    ],
)
def test_images_that_do_not_fit_a_protocol_are_refused(id, record, sigma, message):
    with pytest.raises(ValueError, match=message):
        evaluate(degraded_input, [record], id, sigma)


def test_unknown_protocol_lists_the_known_ones():
    with pytest.raises(ValueError, match="bsd200-gray-full, .*pairs-rgb"):
        get_protocol("bsd200")


def test_evaluation_is_reproducible_and_written(tmp_path):
    records = [camera("a/one"), camera("two", (40, 40))]
    evaluation = evaluate(
        degraded_input, iter(records), "images-gray", 50.0, name="input", pictures=tmp_path / "images"
    )
    again = evaluate(degraded_input, records, "images-gray", 50.0)
    assert [score.psnr for score in evaluation.scores] == [score.psnr for score in again.scores]
    assert evaluation.psnr == pytest.approx(np.mean([score.psnr for score in evaluation.scores]))
    clean, degraded = get_protocol("images-gray").degrade(records[0].clean, "a/one", 50.0)
    assert evaluation.scores[0].psnr == psnr(degraded[None].clamp(0, 1), clean[None]).item()
    plain = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert plain["protocol"] == "images-gray" and plain["sigma"] == 50 and plain["images"] == 2
    assert plain["scores"][0]["image_id"] == "a/one" and plain["psnr"] == evaluation.psnr
    evaluation.write_csv(tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["ssim"]) for row in rows] == [score.ssim for score in evaluation.scores]
    assert Image.open(tmp_path / "images/a/one.png").size == (60, 48)


def test_infinite_scores_stay_out_of_json():
    plain = evaluate(degraded_input, [camera()], "images-gray", 0.0).to_dict()
    assert plain["psnr"] is None and plain["scores"][0]["psnr"] is None and plain["ssim"] == pytest.approx(1)
    json.dumps(plain, allow_nan=False)


def test_evaluations_come_back_from_json():
    for sigma, value, seconds in ((50.0, 25.0, 0.5), (None, np.inf, np.nan)):
        before = Evaluation(
            "m", "images-gray", sigma, [Score("a", value, 0.7, seconds), Score("b", 24.0, 0.6, seconds)]
        )
        after = Evaluation.from_dict(json.loads(json.dumps(before.to_dict(), allow_nan=False)))
        assert repr(after) == repr(before)
    plain = before.to_dict()
    for wrong in ({}, plain | {"scores": [{"image_id": "a"}]}, plain | {"scores": 3}, plain | {"sigma": "loud"}):
        with pytest.raises(ValueError, match="holds no evaluation"):
            Evaluation.from_dict(wrong)


def test_scores_of_either_border_are_named_and_kept(tmp_path):
    protocol = dataclasses.replace(get_protocol("images-gray"), ssim_border="zero_padded")
    padded = evaluate(degraded_input, [camera()], protocol, 50.0)
    clean, degraded = protocol.degrade(camera().clean, "camera", 50.0)
    assert padded.ssim == ssim(degraded[None].clamp(0, 1), clean[None], "zero_padded").item()
    assert padded.ssim != evaluate(degraded_input, [camera()], "images-gray", 50.0).ssim
    plain = padded.to_dict()
    assert plain["ssim_border"] == "zero_padded" and Evaluation.from_dict(plain) == padded
    # scores.json of earlier versions
    assert Evaluation.from_dict({key: plain[key] for key in plain.keys() - {"ssim_border"}}).ssim_border == "cropped"
    with pytest.raises(ValueError, match="holds no evaluation .*ssim: 'x'"):
        Evaluation.from_dict(plain | {"ssim_border": "x"})
    padded.write_csv(tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", newline="") as file:
        assert [row["ssim_border"] for row in csv.DictReader(file)] == ["zero_padded"]


def test_files_of_methods_have_plain_names():
    assert file_name("BM3D (sigma 12.5)") == "BM3D_sigma_12.5" and file_name("finals/1/network") == "finals_1_network"
    assert file_name("../..") == "method"


def test_every_restored_image_is_shown_to_the_caller_in_order():
    seen = {}
    evaluate(degraded_input, [camera("b"), camera("a")], "images-gray", 50.0, keep=seen.__setitem__)
    _, degraded = get_protocol("images-gray").degrade(camera().clean, "b", 50.0)
    assert list(seen) == ["b", "a"] and torch.equal(seen["b"], degraded)


@pytest.mark.parametrize("level", [5.0, 50.0])
@pytest.mark.parametrize("id", ["bsd200-gray-full", "images-rgb", "rain800-rgb", "rain800-y"])
def test_scores_equal_scikit_image(id, level):
    protocol = get_protocol(id)
    clean = data.astronaut()[100:164, 150:240].transpose(2, 0, 1).copy()
    noise = np.random.default_rng(0).normal(0, level, clean.shape)
    rainy = np.clip(clean + noise, 0, 255).astype(np.uint8)
    target, degraded = protocol.degrade(clean, "x", level, rainy)
    scores = protocol.score(degraded, target)
    first, second = (image.clamp(0, 1).double().numpy().transpose(1, 2, 0) for image in (degraded, target))
    if id == "rain800-y":
        first, second = (rgb2ycbcr(image)[..., :1] / 255 for image in (first, second))
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert scores[0] == pytest.approx(peak_signal_noise_ratio(second, first, data_range=1), abs=1e-4)
    expected = structural_similarity(first, second, data_range=1, channel_axis=2, **window)
    assert scores[1] == pytest.approx(expected, abs=1e-4)


def test_nothing_to_evaluate_is_refused():
    with pytest.raises(ValueError, match="no images"):
        evaluate(degraded_input, [], "images-gray", 50.0)


def test_saved_pictures_never_wrap(tmp_path):
    values = torch.tensor([[-1.0, -0.001, 0.0, 0.4999, 0.5, 0.999, 1.0, 1.001, 1.3, torch.inf]])
    (path,) = save_pictures(tmp_path / "new", {"gray": values[None]})
    assert np.asarray(Image.open(path)).tolist() == [[0, 0, 0, 127, 128, 255, 255, 255, 255, 255]]
    (path,) = save_pictures(
        tmp_path, {"deep/colour": torch.stack([values, torch.zeros_like(values), torch.zeros_like(values)])}
    )
    assert np.asarray(Image.open(path))[0, :, 0].max() == 255 and np.asarray(Image.open(path)).shape == (1, 10, 3)


def test_pictures_that_cannot_be_saved_are_refused(tmp_path):
    with pytest.raises(ValueError, match="NaN"):
        save_pictures(tmp_path, {"x": torch.full((1, 4, 4), torch.nan)})
    with pytest.raises(ValueError, match="out of the folder"):
        save_pictures(tmp_path / "inside", {"../x": torch.zeros(1, 4, 4)})
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.skipif(not BSD500.is_dir(), reason="BSD500 is not at hand")
def test_noise_of_level_50_costs_what_the_literature_says():
    records = [
        Record(path.stem, np.asarray(Image.open(path).convert("L"))[None]) for path in sorted(BSD500.glob("*.jpg"))[:2]
    ]
    assert {record.clean.shape for record in records} <= {(1, 321, 481), (1, 481, 321)}
    protocol = get_protocol("bsd200-gray-full")
    for record in records:
        clean, degraded = protocol.degrade(record.clean, record.image_id, 50.0)
        # 20 log10(255 / 50); the protocol's score is a little better because it clips.
        assert psnr(degraded[None], clean[None]).item() == pytest.approx(14.15, abs=0.05)
        assert 14.15 < protocol.score(degraded, clean)[0] < 16
