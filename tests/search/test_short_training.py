"""Trials without a supernet: epochs of a final network's training, continued as if nothing had been."""

import copy
from typing import Any

import torch
from torch import nn

from irnas_ray.networks.dncnn import DnCNN
from irnas_ray.search.short_training import ShortTraining
from irnas_ray.settings.study import Final, Search
from irnas_ray.training.training import train

SEARCH = Search(epochs=5, steps_per_epoch=3, validate_every=2)
FINAL = Final(steps=999, minutes=7.0, validate_every=1, lr=0.01, ssim_weight=0, ema_decay=0.9, warmup=0.2)


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    clean = torch.rand(4, 2, 1, 12, 12, generator=generator)
    return [(one + 0.2 * torch.randn(one.shape, generator=generator), one) for one in clean]


def validate(network: nn.Module) -> dict[str, float]:
    degraded, clean = batches()[0]
    with torch.no_grad():
        error = float((network.eval()(degraded) - clean).square().mean())
    return {"psnr": -error, "ssim": error}


def begin() -> ShortTraining:
    torch.manual_seed(0)
    return ShortTraining(DnCNN(channels=1, depth=2, width=3), batches(), validate, FINAL, SEARCH)


def finish(training: ShortTraining) -> list[tuple[Any, ...]]:
    said = []
    while not training.finished:
        now = training.run()
        said.append((training.epoch, now.step, now.psnr, now.rate, training.scores))
    return said


def test_epochs_are_trained_by_the_recipe_of_final_networks() -> None:
    training = begin()
    said = finish(training)
    assert [(epoch, step) for epoch, step, *_ in said] == [(2, 6), (4, 12), (5, 15)]
    assert training.scores == {"psnr": said[-1][2], "ssim": -said[-1][2]}
    torch.manual_seed(0)
    reference = DnCNN(channels=1, depth=2, width=3)
    reports: list[Any] = []
    changes: dict[str, Any] = {"steps": 15, "minutes": None, "validate_every": 6}
    train(reference, batches(), validate, FINAL, on_report=lambda now, _: reports.append(now), **changes)
    assert [now.psnr for now in reports] == [psnr for _, _, psnr, *_ in said]
    # a rung is reached under the schedule of the whole training
    assert said[0][3] > 0.8 * FINAL.lr and said[-1][3] < 0.1 * FINAL.lr


def test_a_training_that_goes_on_is_the_one_that_was_never_stopped() -> None:
    expected = finish(begin())
    for after in (1, 2, 3):
        first = begin()
        said = []
        for _ in range(after):
            now = first.run()
            said.append((first.epoch, now.step, now.psnr, now.rate, first.scores))
        state = copy.deepcopy(first.state_dict())
        again = begin()
        again.load_state_dict(state)
        assert again.epoch == first.epoch == state["epoch"] and again.scores == first.scores
        assert said + finish(again) == expected
