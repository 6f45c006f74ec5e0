"""Images of 16 bits are scored and restored in full precision; what 8 bits hold scores the same in 16."""

from pathlib import Path

import numpy as np
import pytest
import torch
from deep_cases import unique
from evaluation_cases import Record, camera, pair
from picture_cases import write_deep_png
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from irnas_ray.evaluation.baselines import degraded_input
from irnas_ray.evaluation.protocols import PROTOCOLS, get_protocol
from irnas_ray.evaluation.restored_files import restore_images
from irnas_ray.evaluation.scores import evaluate
from irnas_ray.images.files import read_image
from irnas_ray.networks.checkpoints import save_network
from irnas_ray.networks.dncnn import DnCNN
from irnas_ray.settings.commands import RestoreConfig
from irnas_ray.training.validation import validator


def deeper(image: Record) -> Record:
    """The same image in 16 bits."""
    sides = [None if side is None else side.astype(np.uint16) * 257 for side in (image.clean, image.degraded)]
    return Record(image.image_id, sides[0], sides[1])


@pytest.mark.parametrize("id", [id for id, protocol in PROTOCOLS.items() if protocol.scale == 1])
def test_what_8_bits_hold_is_degraded_and_scored_the_same(id):
    protocol = get_protocol(id)
    image = camera() if protocol.color == "gray" else pair()
    if protocol.degradation == "paired":
        image = Record(image.image_id, image.clean, image.clean // 2)
    plain, deep = (
        protocol.degrade(record.clean, record.image_id, 30.0, record.degraded) for record in (image, deeper(image))
    )
    assert all(torch.equal(one, other) for one, other in zip(plain, deep, strict=True))
    plain_scores, deep_scores = (
        [(score.psnr, score.ssim) for score in evaluate(degraded_input, [record], protocol, 30.0).scores]
        for record in (image, deeper(image))
    )
    assert plain_scores == deep_scores


def test_half_size_is_the_same_but_for_rounding():
    protocol = get_protocol("bsd200-gray-half")
    plain, deep = (protocol.degrade(record.clean, "x", 0.0)[0] for record in (camera(), deeper(camera())))
    assert plain.shape == deep.shape and (plain - deep).abs().max() < 1.01 / 255  # Pillow rounds 8 bits twice
    levels = deep * 65535
    assert (levels - levels.round()).abs().max() < 0.01 and not torch.equal(plain, deep)


@pytest.mark.parametrize(("id", "channels"), [("pairs-gray", 1), ("pairs-rgb", 3), ("images-gray", 1)])
def test_values_that_8_bits_cannot_hold_are_scored_and_saved_exactly(tmp_path, id, channels):
    clean, degraded = (unique(seed, channels).transpose(2, 0, 1).copy() for seed in (0, 1))
    image = Record("deep/x", clean, degraded if id.startswith("pairs") else None)
    seen = {}
    scores = evaluate(degraded_input, [image], id, 0.0, pictures=tmp_path, keep=seen.__setitem__)
    exact = clean.astype(np.float64) / 65535
    if image.degraded is None:
        assert scores.psnr == np.inf and np.array_equal(seen["deep/x"].numpy(), exact.astype(np.float32))
    else:
        expected = peak_signal_noise_ratio(exact, degraded / 65535, data_range=1)
        assert scores.psnr == pytest.approx(expected, abs=1e-4)
    saved = read_image(tmp_path / "deep" / "x.png", "gray" if channels == 1 else "rgb", bits=None)
    assert saved.dtype == np.uint16
    assert np.array_equal(saved.transpose(2, 0, 1), clean if image.degraded is None else degraded)


def test_one_step_of_16_bits_is_told_by_the_validator():
    ramp = np.full((1, 16, 16), 30000, np.uint16)
    assert validator([Record("x", ramp, ramp)])(torch.nn.Identity())["psnr"] > 140  # no error but a guard
    psnr = validator([Record("x", ramp, ramp + np.uint16(1))])(torch.nn.Identity())["psnr"]
    assert psnr == pytest.approx(20 * np.log10(65535), abs=0.1)
    plain, deep = (validator([record], [25.0])(torch.nn.Identity()) for record in (camera(), deeper(camera())))
    assert plain == deep


def test_restoring_the_luma_of_deep_colours_keeps_16_bits(tmp_path: Path):
    (tmp_path / "in").mkdir()
    colors = unique(3, 3, 24, 30)
    write_deep_png(tmp_path / "in" / "x.png", colors, 2)
    save_network(DnCNN(1, depth=3, width=4), tmp_path / "network.pt")  # untrained: it changes nothing
    files = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out")}
    restore_images(RestoreConfig(str(tmp_path / "network.pt"), color="gray", **files))
    found = np.asarray(Image.open(tmp_path / "out" / "x.png")).astype(float)
    assert abs(found - colors @ [0.299, 0.587, 0.114]).max() <= 2
