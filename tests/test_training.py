"""Training of a final network: it learns, resumes bit for bit, follows its schedule, and says what is impossible."""

import copy
import math
import warnings
from itertools import islice
from typing import Any

import pytest
import torch
from searching_cases import facts, make_batches, validate
from torch import nn

from irnas_ray.cells import Edge
from irnas_ray.checkpoints import load_state, save_state
from irnas_ray.genotype import Genotype
from irnas_ray.network import DerivedNetwork
from irnas_ray.training import Training, TrainingReport, train

CELL = ((Edge(0, "conv"), Edge(1, "sep")),)
SETTINGS: dict[str, Any] = {"steps": 7, "validate_every": 2}


def make_network(seed: int = 0, width: int = 2) -> DerivedNetwork:
    torch.manual_seed(seed)
    small: dict[str, Any] = {"stem_channels": 4, "aspp_channels": 4, "low_level_channels": 3}
    return DerivedNetwork(Genotype((CELL,), (0, 1)), channels=1, width=width, residual=True, **small)


def make_training(network: nn.Module | None = None, **settings: Any) -> Training:
    return Training(network or make_network(), make_batches(0), validate, **(SETTINGS | settings))


def run_to_end(training: Training) -> list[Any]:
    reports = []
    while training.step < training.steps:
        reports.append(training.run())
    return reports


def test_learning_lowers_the_loss_and_reports_where_it_stands():
    reports: list[TrainingReport] = []
    network, batches = make_network(), [next(make_batches(0))]
    settings: dict[str, Any] = {"steps": 60, "validate_every": 20, "lr": 1e-2}
    last = train(network, batches, validate, on_report=lambda report, _: reports.append(report), **settings)
    assert [report.step for report in reports] == [20, 40, 60] and last == reports[-1]
    assert 0.8 * reports[0].loss > reports[1].loss > reports[2].loss
    assert last.psnr == validate(network)["psnr"] and 0 < reports[0].seconds < last.seconds


def test_the_last_validation_comes_at_the_last_step():
    assert [report.step for report in run_to_end(make_training())] == [2, 4, 6, 7]


@pytest.mark.parametrize("killed_after", [1, 3, 4])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_training_that_is_killed_goes_on_bit_for_bit(tmp_path, killed_after, optimizer):
    whole = make_training(optimizer=optimizer, schedule="polynomial", weight_decay=1e-3)
    reports = [facts(report) for report in run_to_end(whole)]
    first = make_training(optimizer=optimizer, schedule="polynomial", weight_decay=1e-3)
    begun = [facts(first.run()) for _ in range(killed_after)]
    save_state(first.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(999)
    restored = make_training(make_network(5), optimizer=optimizer, schedule="polynomial", weight_decay=1e-3)
    restored.load_state_dict(load_state(tmp_path / "state.pt"))
    assert begun + [facts(report) for report in run_to_end(restored)] == reports
    expected, found = whole.network.state_dict(), restored.network.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert torch.equal(torch.get_rng_state(), restored.state_dict()["random_state"])


def test_train_continues_a_state_and_a_finished_one_is_only_scored():
    begun = make_training()
    begun.run()
    network = make_network(5)
    last = train(network, make_batches(0), validate, state=begun.state_dict(), **SETTINGS)
    whole = make_training()
    assert facts(last) == facts(run_to_end(whole)[-1])
    weights = copy.deepcopy(network.state_dict())
    again = train(network, make_batches(0), validate, state=whole.state_dict(), **SETTINGS)
    assert (again.step, again.psnr) == (7, last.psnr)
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        ("cosine", lambda done: (1 + math.cos(math.pi * done)) / 2),
        ("polynomial", lambda done: (1 - done) ** 0.9),
        ("constant", lambda done: 1),
    ],
)
def test_the_rate_follows_its_schedule(schedule, factor):
    training = make_training(schedule=schedule, lr=0.004, steps=4, validate_every=1)
    for step in range(5):
        assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0.004 * factor(step / 4), abs=1e-12)
        if step < 4:
            training.run()


def test_optimizers_are_built_as_asked():
    adam = make_training(lr=2e-3, weight_decay=0.1).optimizer
    assert type(adam) is torch.optim.Adam
    assert (adam.param_groups[0]["lr"], adam.param_groups[0]["weight_decay"]) == (2e-3, 0.1)
    sgd = make_training(optimizer="sgd", lr=0.05, weight_decay=0.1).optimizer
    assert type(sgd) is torch.optim.SGD and sgd.param_groups[0]["momentum"] == 0.9
    assert (sgd.param_groups[0]["lr"], sgd.param_groups[0]["weight_decay"]) == (0.05, 0.1)


def test_the_papers_rate_with_adam_is_warned_of_and_no_other():
    with pytest.warns(UserWarning, match="Adam with a rate of 0.05 diverges.*1e-3 works"):
        make_training(lr=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_training(lr=1e-3)
        make_training(optimizer="sgd", lr=0.05)


@pytest.mark.parametrize(("clip", "limit"), [(None, math.inf), (1e-3, 1e-3), (1e6, math.inf)])
def test_gradients_are_clipped_to_the_norm_that_is_asked_for(clip, limit):
    training = make_training(gradient_clip=clip, validate_every=1)
    training.run()
    norm = torch.nn.utils.get_total_norm([p.grad for p in training.network.parameters() if p.grad is not None]).item()
    assert norm == pytest.approx(limit, rel=1e-2) if limit < 1 else norm > 1e-2


def test_the_weight_of_ssim_reaches_the_loss():
    losses = [make_training(ssim_weight=weight, validate_every=1).run().loss for weight in (0.0, 0.5, 1.0)]
    assert losses[1] - losses[0] == pytest.approx(losses[2] - losses[1], rel=1e-4) and losses[1] > losses[0]


def test_a_loss_that_is_not_finite_names_the_step():
    def spoilt():
        for index, (degraded, clean) in enumerate(make_batches(0)):
            yield degraded * (float("nan") if index == 2 else 1), clean

    with pytest.raises(FloatingPointError, match="nan before step 4; a smaller final.lr"):
        train(make_network(), spoilt(), validate, **SETTINGS)


def test_unknown_and_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="optimizer: unknown 'adamw'; possible: adam, sgd"):
        make_training(optimizer="adamw")
    with pytest.raises(ValueError, match="schedule: unknown 'step'; possible: cosine, polynomial, constant"):
        make_training(schedule="step")
    for name in ("steps", "validate_every"):
        with pytest.raises(ValueError, match=f"{name}: 0.*must be at least 1"):
            make_training(None, **{name: 0})
    with pytest.raises(ValueError, match="hold no batch"):
        train(make_network(), [], validate, **SETTINGS)
    with pytest.raises(ValueError, match="belongs to another network .*size mismatch"):
        make_training(make_network(width=3)).load_state_dict(make_training().state_dict())


def test_lists_of_batches_are_trained_on_like_streams():
    listed = Training(make_network(), list(islice(make_batches(0), 7)), validate, **SETTINGS)
    assert [facts(r) for r in run_to_end(listed)] == [facts(r) for r in run_to_end(make_training())]
