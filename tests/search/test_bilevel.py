"""The bilevel search: who moves when, which validation decides, the paper's rates, and a resume that is exact."""

import json
import math
from itertools import islice
from typing import Any

import pytest
import torch
from golden import make as golden
from searching_cases import SETTINGS, facts, make_batches, make_net, validate
from torch import Tensor

from irnas_ray.networks.checkpoints import load_state, save_state
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.search.bilevel import BilevelSearch, bilevel_search


class Scores:
    """A validation whose PSNR is given for each epoch."""

    def __init__(self, *psnr: float) -> None:
        self.left = list(psnr)

    def __call__(self, net: torch.nn.Module) -> dict[str, float]:
        return {"psnr": self.left.pop(0), "ssim": 0.5}


def make_search(validate=validate, seed: int = 0, **settings: Any) -> BilevelSearch:
    return BilevelSearch(make_net(seed), make_batches(0), make_batches(1), validate, **(SETTINGS | settings))


def parameters(net: SuperNet) -> tuple[list[Tensor], list[Tensor]]:
    """Copies of the weights, and of alpha and beta."""
    copies = [[p.detach().clone() for p in part] for part in (net.weight_parameters(), net.arch_parameters())]
    return copies[0], copies[1]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_golden_losses_are_repeated():
    expected, found = json.loads(golden.FILE.read_text()), golden.run()
    assert found.keys() == expected.keys() and found["genotype"] == expected["genotype"]
    for name in found.keys() - {"genotype"}:
        assert found[name] == pytest.approx(expected[name], rel=2e-6, abs=1e-8), name


def test_the_same_seed_gives_the_same_search():
    runs = [
        bilevel_search(make_net(seed), make_batches(0), make_batches(1), validate, **SETTINGS) for seed in (3, 3, 4)
    ]
    losses = [[(r.weight_loss, r.arch_loss, r.psnr) for r in run.reports] for run in runs]
    assert losses[0] == losses[1] != losses[2]
    assert (runs[0].genotype, runs[0].margins) == (runs[1].genotype, runs[1].margins)


@pytest.mark.parametrize("killed_after", [1, 2, 3, 4])
def test_a_search_that_is_killed_goes_on_bit_for_bit(tmp_path, killed_after):
    whole = make_search()
    reports = [facts(whole.run_epoch()) for _ in range(4)]
    first = make_search()
    begun = [facts(first.run_epoch()) for _ in range(killed_after)]
    save_state(first.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(999)
    net, state = make_net(7), load_state(tmp_path / "state.pt")
    result = bilevel_search(net, make_batches(0), make_batches(1), validate, state=state, **SETTINGS)
    assert begun + [facts(report) for report in result.reports] == reports
    expected, found = whole.net.state_dict(), net.state_dict()
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    best = whole.result()
    assert (result.genotype, result.margins, result.psnr) == (best.genotype, best.margins, best.psnr)


def test_a_restored_search_draws_the_same_random_numbers():
    bilevel = make_search()
    state = bilevel.state_dict()
    expected = torch.rand(3)
    bilevel.load_state_dict(state)
    assert torch.equal(torch.rand(3), expected)


def test_alpha_and_beta_rest_during_warm_up_and_move_after_it():
    bilevel = make_search()
    for epoch in range(1, 5):
        weights, architecture = parameters(bilevel.net)
        report = bilevel.run_epoch()
        now_weights, now_architecture = parameters(bilevel.net)
        assert not any(torch.equal(a, b) for a, b in zip(weights, now_weights, strict=True))
        moved = [not torch.equal(a, b) for a, b in zip(architecture, now_architecture, strict=True)]
        assert moved == [epoch > 2, epoch > 2]
        assert report is not None and (report.arch_loss > 0) == (epoch > 2)


def test_a_step_moves_only_what_it_learns():
    bilevel = make_search(weight_decay=0.1, arch_weight_decay=0.1)
    for _ in range(3):
        for optimizer in (bilevel.arch_optimizer, bilevel.weight_optimizer):
            architecture_step = optimizer is bilevel.arch_optimizer
            learned, frozen = bilevel.weights, bilevel.architecture
            if architecture_step:
                learned, frozen = frozen, learned
            weights, architecture = parameters(bilevel.net)
            bilevel._step(next(bilevel.train_a), learned, frozen, optimizer)
            now_weights, now_architecture = parameters(bilevel.net)
            assert equal(weights, now_weights) == architecture_step
            assert equal(architecture, now_architecture) != architecture_step
            assert all(parameter.requires_grad for parameter in bilevel.net.parameters())


def test_steps_alternate_between_train_a_and_train_w():
    drawn = []

    def stream(name: str):
        for batch in make_batches(0):
            drawn.append(name)
            yield batch

    bilevel_search(make_net(), stream("w"), stream("a"), validate, **SETTINGS)
    assert "".join(drawn) == "wwww" + "awaw" * 2


class Listed(list):
    """A list that counts how often an iteration begins."""

    begun = 0

    def __iter__(self):
        self.begun += 1
        return super().__iter__()


def test_lists_of_batches_are_searched_like_streams_and_started_over_only_at_their_end():
    stream = bilevel_search(make_net(), make_batches(0), make_batches(1), validate, **SETTINGS)
    train_w, train_a = (Listed(islice(make_batches(seed), 8)) for seed in (0, 1))
    listed = bilevel_search(make_net(), train_w, train_a, validate, **SETTINGS)
    assert [facts(report) for report in listed.reports] == [facts(report) for report in stream.reports]
    assert (train_w.begun, train_a.begun) == (1, 1)
    train_w, train_a = Listed(train_w[:3]), Listed(train_a[:3])
    bilevel_search(make_net(), train_w, train_a, validate, **SETTINGS)
    assert (train_w.begun, train_a.begun) == (3, 2)  # 8 and 4 batches in passes of 3


def test_the_defaults_are_the_papers():
    bilevel = BilevelSearch(make_net(), make_batches(0), make_batches(1), validate)
    weights, architecture = bilevel.weight_optimizer, bilevel.arch_optimizer
    assert isinstance(weights, torch.optim.SGD) and isinstance(architecture, torch.optim.Adam)
    assert not isinstance(architecture, torch.optim.AdamW)
    sgd, adam = weights.param_groups[0], architecture.param_groups[0]
    assert (sgd["lr"], sgd["momentum"], sgd["weight_decay"], sgd["nesterov"]) == (0.025, 0.9, 3e-4, False)
    assert (adam["lr"], adam["weight_decay"]) == (1e-3, 1e-3)
    assert {id(p) for p in sgd["params"]} == {id(p) for p in bilevel.net.weight_parameters()}
    assert {id(p) for p in adam["params"]} == {id(bilevel.net.alpha), id(bilevel.net.beta)}
    assert (bilevel.settings.epochs, bilevel.settings.warmup_epochs, bilevel.settings.ssim_weight) == (100, 20, 0.5)
    assert bilevel.settings.gradient_clip == 5.0
    assert (bilevel.schedule.T_max, bilevel.schedule.eta_min) == (100 * bilevel.settings.steps_per_epoch, 0.001)


def test_the_rate_of_the_weights_falls_on_a_cosine():
    bilevel = make_search()
    rates = []
    for _ in range(4):
        rates.append(bilevel.weight_optimizer.param_groups[0]["lr"])
        bilevel.run_epoch()
        assert bilevel.arch_optimizer.param_groups[0]["lr"] == 0.05
    rates.append(bilevel.weight_optimizer.param_groups[0]["lr"])
    assert rates[0] == 0.025 and rates[2] == pytest.approx(0.013) and rates[4] == pytest.approx(0.001)
    assert rates[1] == pytest.approx(0.001 + 0.012 * (1 + 0.5**0.5))


def test_the_best_validation_after_warm_up_decides():
    genotypes, margins = [], []

    class Remembering(Scores):
        def __call__(self, net: Any) -> dict[str, float]:
            genotypes.append(net.genotype())
            margins.append(net.margins())
            return super().__call__(net)

    net = make_net(nodes=2)
    settings = SETTINGS | {"epochs": 6, "arch_lr": 0.5}
    scores = Remembering(90, 99, 20, 40, 30, 40)
    result = bilevel_search(net, make_batches(0), make_batches(1), scores, **settings)
    assert result.psnr == 40 and result.genotype == genotypes[3] and result.margins == margins[3]
    assert margins[3] not in (margins[2], margins[4], margins[5])
    assert [report.best_psnr for report in result.reports] == [90, 90, 20, 40, 40, 40]
    assert [report.psnr for report in result.reports] == [90, 99, 20, 40, 30, 40]
    assert [report.genotype for report in result.reports] == [genotypes[i] for i in (0, 0, 2, 3, 3, 3)]


def test_validation_comes_when_asked_and_at_the_end():
    result = bilevel_search(
        make_net(), make_batches(0), make_batches(1), Scores(1, 2, 3), **(SETTINGS | {"epochs": 5, "validate_every": 2})
    )
    assert [report.epoch for report in result.reports] == [2, 4, 5]
    assert all(a.seconds < b.seconds for a, b in zip(result.reports, result.reports[1:], strict=False))
    with pytest.raises(ValueError, match="not been validated yet"):
        make_search().result()


def test_only_gradients_of_weights_are_clipped():
    bilevel = make_search(gradient_clip=1e-6)
    bilevel._step(next(bilevel.train_w), bilevel.weights, bilevel.architecture, bilevel.weight_optimizer)
    norm = torch.nn.utils.get_total_norm([p.grad for p in bilevel.weights if p.grad is not None])
    assert norm.item() == pytest.approx(1e-6, rel=1e-2)
    bilevel._step(next(bilevel.train_a), bilevel.architecture, bilevel.weights, bilevel.arch_optimizer)
    assert torch.nn.utils.get_total_norm([p.grad for p in bilevel.architecture if p.grad is not None]) > 1e-5


@pytest.mark.parametrize(("stream", "epoch"), [("w", 2), ("a", 3)])
def test_a_loss_that_is_not_finite_names_the_epoch(stream, epoch):
    def spoilt(batches, bad: int):
        for index, (degraded, clean) in enumerate(batches):
            yield degraded * (float("nan") if index == bad else 1), clean

    bad = {"w": 3, "a": 0}[stream]
    streams = {"w": make_batches(0), "a": make_batches(1)}
    streams[stream] = spoilt(streams[stream], bad)
    with pytest.raises(FloatingPointError, match=rf"nan.* in epoch {epoch};.*weight_lr"):
        bilevel_search(make_net(), streams["w"], streams["a"], validate, **SETTINGS)


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"warmup_epochs": 4}, "warmup_epochs: 4 of 4"),
    ({"warmup_epochs": 5}, "warmup_epochs: 5 of 4"),
    ({"warmup_epochs": -1}, "warmup_epochs: -1"),
    ({"epochs": 0, "warmup_epochs": 0}, "epochs: 0; at least 1"),
    ({"steps_per_epoch": 0}, "steps_per_epoch"),
    ({"validate_every": 0}, "validate_every"),
]


@pytest.mark.parametrize(("changed", "message"), IMPOSSIBLE)
def test_impossible_settings_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        make_search(**changed)


def test_training_data_without_batches_are_refused():
    with pytest.raises(ValueError, match="hold no batch"):
        bilevel_search(make_net(), [], make_batches(1), validate, **SETTINGS)
    with pytest.raises(ValueError, match="hold no batch"):
        bilevel_search(make_net(), make_batches(0), [], validate, **SETTINGS)


def test_the_state_of_another_supernet_is_refused():
    state = make_search().state_dict()
    other = BilevelSearch(make_net(width=3), make_batches(0), make_batches(1), validate, **SETTINGS)
    with pytest.raises(ValueError, match="belongs to another supernet .*size mismatch"):
        other.load_state_dict(state)


def on_cosine(base: float, step: int, steps: int = 8) -> float:
    """The rate of the weights before a step (eq. 5 of Loshchilov and Hutter 2017), with the minimum of the paper."""
    return 0.001 + (base - 0.001) * (1 + math.cos(math.pi * step / steps)) / 2


@pytest.mark.parametrize("before", [0.025, 0.001, 0.2])
def test_a_state_goes_on_with_other_rates_on_the_same_schedule(before):
    """Also where the schedule stood still because the old rate was its minimum."""
    first = make_search(weight_lr=before)
    for _ in range(2):
        first.run_epoch()
    other = make_search(weight_lr=0.05, arch_lr=0.007)
    other.load_state_dict(first.state_dict())
    assert equal(parameters(other.net)[0], parameters(first.net)[0])
    rates = []
    for _ in range(2):
        rates.append(other.weight_optimizer.param_groups[0]["lr"])
        other.run_epoch()
        assert other.arch_optimizer.param_groups[0]["lr"] == 0.007
    rates.append(other.weight_optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([on_cosine(0.05, step) for step in (4, 6, 8)], rel=1e-9)
    # and once more, as a clone of a clone that is killed
    again = make_search(weight_lr=0.05, arch_lr=0.007)
    again.load_state_dict(other.state_dict())
    assert again.weight_optimizer.param_groups[0]["lr"] == rates[-1]


def test_a_step_after_a_change_takes_the_new_rates():
    """Against plain SGD with momentum and the gradient of the step, from the state that was taken over."""
    first = make_search(gradient_clip=None, weight_decay=0.0)
    first.run_epoch()
    other = make_search(weight_lr=0.1, gradient_clip=None, weight_decay=0.0)
    other.load_state_dict(first.state_dict())
    velocity = [other.weight_optimizer.state[p]["momentum_buffer"].clone() for p in other.weights]
    weights, _ = parameters(other.net)
    other.net.train()
    other._step(next(other.train_w), other.weights, other.architecture, other.weight_optimizer)
    rate = on_cosine(0.1, 2)
    for weight, now, speed, parameter in zip(weights, parameters(other.net)[0], velocity, other.weights, strict=True):
        gradient = torch.zeros_like(weight) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(now, weight - rate * (0.9 * speed + gradient), rtol=1e-5, atol=1e-7)
