"""Files for TensorBoard hold every point of the curves, the rates and scores, and the images as they are restored."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from event_files import read, values
from PIL import Image

from irnas_ray.datasets.whole_images import ImageRecord
from irnas_ray.degradations.factory import degrade_image
from irnas_ray.networks.dncnn import DnCNN
from irnas_ray.networks.inference import restore
from irnas_ray.training.tensorboard import SIDE, TrainingBoard
from irnas_ray.training.training import TrainingReport

IMAGES = [
    ImageRecord(f"image{index}", np.random.default_rng(index).integers(0, 256, (1, 20 + index, 230), np.uint8), None)
    for index in range(4)
]


def make_report(step: int, curve: tuple[tuple[int, float], ...]) -> TrainingReport:
    values: dict[str, Any] = {"loss": 0.5, "psnr": 20.0 + step, "ssim": 0.25, "seconds": 1.0, "rate": 0.125}
    return TrainingReport(step=step, best_psnr=0.0, best_step=0, used=0.5, finished=False, curve=curve, **values)


def test_curves_hold_every_point(tmp_path):
    with TrainingBoard(tmp_path) as board:
        board.write(make_report(4, ((2, 0.75), (4, 0.5))), DnCNN(1, 2, 1))
        board.write(make_report(6, ((6, 0.25),)), DnCNN(1, 2, 1))
    found = {
        tag: [(step, value.simple_value) for step, value in values(tmp_path, tag)]
        for tag in ("training/loss", "training/rate", "validation/psnr", "validation/ssim")
    }
    assert found == {
        "training/loss": [(2, 0.75), (4, 0.5), (6, 0.25)],
        "training/rate": [(4, 0.125), (6, 0.125)],
        "validation/psnr": [(4, 24.0), (6, 26.0)],
        "validation/ssim": [(4, 0.25), (6, 0.25)],
    }


def test_images_show_degraded_restored_and_clean_centres(tmp_path):
    network = DnCNN(1, 3, 4)
    torch.nn.init.normal_(network.layers[-1].weight, std=0.1)
    with TrainingBoard(tmp_path, IMAGES, [30, 70]) as board:
        board.write(make_report(1, ()), network)
    shown = values(tmp_path, "samples/")
    assert [value.tag.rpartition("/")[2] for _, value in shown] == ["image0", "image1", "image2"]
    for record, (_, value) in zip(IMAGES, shown, strict=False):
        picture = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)).convert("L"), dtype=float)
        clean = torch.tensor(record.clean).float() / 255
        degraded = degrade_image(clean, record.image_id, 30)
        centre = [image[:, :, (230 - SIDE) // 2 :][..., :SIDE] for image in (degraded, clean)]
        expected = torch.cat([centre[0], restore(network, centre[0]), centre[1]], dim=2).clamp(0, 1)[0] * 255
        assert picture.shape == expected.shape and np.abs(picture - expected.numpy()).max() <= 1


@pytest.mark.parametrize(("step", "starts"), [(0, []), (40, [41])])
def test_a_resumed_training_drops_what_was_written_beyond_its_checkpoint(tmp_path, step, starts):
    with TrainingBoard(tmp_path, step=step):
        pass
    assert [event.step for event in read(tmp_path) if event.session_log.status == 1] == starts
