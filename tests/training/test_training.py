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

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.genotypes.macro import Macro
from irnas_ray.networks.checkpoints import load_state, save_state
from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.networks.operators import OPERATIONS
from irnas_ray.training import loss_curve
from irnas_ray.training import training as training_module
from irnas_ray.training.loss import restoration_loss
from irnas_ray.training.training import Training, TrainingReport, train

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
    while not training.finished:
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
@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam"},
        {"optimizer": "adamw", "warmup": 0.5, "ema_decay": 0.7},
        {"optimizer": "sgd", "ema_decay": 0.9},
    ],
)
def test_a_training_that_is_killed_goes_on_bit_for_bit(tmp_path, killed_after, settings):
    settings |= {"schedule": "polynomial", "weight_decay": 1e-3}
    whole = make_training(**settings)
    reports = [facts(report) for report in run_to_end(whole)]
    first = make_training(**settings)
    begun = [facts(first.run()) for _ in range(killed_after)]
    save_state(first.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(999)
    restored = make_training(make_network(5), **settings)
    restored.load_state_dict(load_state(tmp_path / "state.pt"))
    assert begun + [facts(report) for report in run_to_end(restored)] == reports
    for expected, found in [
        (whole.network.state_dict(), restored.network.state_dict()),
        (whole.validated.state_dict(), restored.validated.state_dict()),
        (whole.best["weights"], restored.best["weights"]),
    ]:
        assert expected and all(torch.equal(expected[name], found[name]) for name in expected)
    assert whole.best["step"] == restored.best["step"]
    assert torch.equal(torch.get_rng_state(), restored.state_dict()["random_state"])


def test_weights_are_averaged_as_they_are_trained():
    plain, averaged = make_training(validate_every=1), make_training(validate_every=1, ema_decay=0.7)
    expected: dict[str, torch.Tensor] = {}
    for step in range(4):
        plain.run()
        report = averaged.run()
        now = {name: value.clone() for name, value in plain.network.state_dict().items() if value.is_floating_point()}
        expected = now if step == 0 else {n: 0.7 * expected[n] + 0.3 * value for n, value in now.items()}
        found = averaged.validated.state_dict()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)
        # averaging changes what is validated, not the training
        assert torch.equal(averaged.network.state_dict()["head.3.weight"], plain.network.state_dict()["head.3.weight"])
        assert report.psnr == validate(averaged.validated)["psnr"]
    assert not torch.equal(found["head.3.weight"], now["head.3.weight"])


def test_a_state_without_an_average_cannot_be_averaged_from():
    with pytest.raises(ValueError, match="another ema_decay"):
        make_training(ema_decay=0.9).load_state_dict(make_training().state_dict())


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_the_weights_of_the_best_validation_are_kept(ema_decay):
    scores = iter([3.0, math.nan, 5.0, 5.0, 4.0])
    seen: list[dict[str, torch.Tensor]] = []

    def scored(network: nn.Module) -> dict[str, float]:
        seen.append(copy.deepcopy(network.state_dict()))
        return {"psnr": next(scores), "ssim": 0.5}

    settings: dict[str, Any] = {"steps": 5, "validate_every": 1, "ema_decay": ema_decay}
    training = Training(make_network(), make_batches(0), scored, **settings)
    reports = run_to_end(training)
    assert [(report.best_psnr, report.best_step) for report in reports] == [(3, 1), (3, 1), (5, 3), (5, 3), (5, 3)]
    assert (training.best["step"], training.best["psnr"], training.best["ssim"]) == (3, 5.0, 0.5)
    assert all(torch.equal(training.best["weights"][name], value) for name, value in seen[2].items())
    make_network().load_state_dict(training.best["weights"])


class Clock:
    """A clock by which every reading takes so many seconds."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 1000.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@pytest.mark.usefixtures("unannotated")  # steps=None is not a setting of a study
def test_a_wall_clock_budget_ends_on_time_and_the_rate_follows_it():
    clock = Clock(0.25)
    rates, starts = [], []
    training = make_training(steps=None, minutes=1, validate_every=10**6, lr=0.004, clock=clock)
    step = training._train_step

    def recorded(rate: float) -> torch.Tensor:
        rates.append(rate)
        starts.append(training.seconds)
        clock.now += 1.5
        return step(rate)

    training._train_step = recorded  # type: ignore[method-assign]
    reports = run_to_end(training)
    assert max(starts) < 60 <= training.seconds < 60 + 2 * 2.5
    for rate, start in zip(rates, starts, strict=True):
        assert rate == pytest.approx(0.004 * (1 + math.cos(math.pi * start / 60)) / 2)
    assert len(reports) == 10  # a validation after each tenth of the time, the last one at the end
    assert [report.finished for report in reports] == [False] * 9 + [True] and reports[-1].used == 1
    assert all(before.seconds < after.seconds for before, after in zip(reports, reports[1:], strict=False))


@pytest.mark.usefixtures("unannotated")  # steps=None is not a setting of a study
def test_time_that_was_used_before_a_kill_stays_used_and_the_pause_does_not_count():
    first = make_training(steps=None, minutes=1, clock=Clock(1.0))
    used = first.run().seconds
    restored = make_training(make_network(5), steps=None, minutes=1, clock=Clock(1.0))
    restored.load_state_dict(first.state_dict())
    restored.clock.now += 10**6  # type: ignore[attr-defined]
    assert 0 < used < restored.run().seconds < used + 15
    over = make_training(steps=None, minutes=1, clock=Clock(1.0))
    over.load_state_dict(first.state_dict() | {"seconds": 61.0})
    before = copy.deepcopy(over.network.state_dict())
    assert over.run().finished and over.step == first.step
    assert all(torch.equal(before[name], value) for name, value in over.network.state_dict().items())


@pytest.mark.usefixtures("unannotated")  # steps=None is not a setting of a study
def test_time_between_validations_counts():
    clock = Clock(0.0)
    training = make_training(steps=None, minutes=1, validate_every=1, clock=clock)
    assert training.run().seconds == 0
    clock.now += 30  # saving a checkpoint
    assert training.run().used == 0.5


def test_bfloat16_is_for_the_network_and_not_for_the_loss(monkeypatch):
    kinds: list[tuple[torch.dtype, torch.dtype]] = []

    def loss(prediction: torch.Tensor, target: torch.Tensor, weight: float, average: Any = None) -> torch.Tensor:
        kinds.append((prediction.dtype, target.dtype))
        assert not torch.is_autocast_enabled("cpu")
        return restoration_loss(prediction, target, weight)

    monkeypatch.setattr(training_module, "restoration_loss", loss)
    inner: list[torch.dtype] = []
    for precision in ("float32", "bfloat16"):
        training = make_training(precision=precision, validate_every=1)
        last = training.network.head[-1]
        handle = last.register_forward_hook(lambda module, inputs, output: inner.append(output.dtype))
        training._train_step(1e-3)
        handle.remove()
        assert all(parameter.dtype == torch.float32 for parameter in training.network.parameters())
    assert inner == [torch.float32, torch.bfloat16]
    assert kinds == [(torch.float32, torch.float32)] * 2


@pytest.mark.parametrize("name", ["def", "sep"])
def test_operators_differentiated_by_hand_stay_in_single_precision_within_bfloat16(name):
    torch.manual_seed(0)
    cell = ((Edge(0, name), Edge(1, "conv")),)
    small: dict[str, Any] = {"stem_channels": 4, "aspp_channels": 4, "low_level_channels": 3}
    network = DerivedNetwork(Genotype((cell,), (0,)), channels=1, width=2, **small)
    operator = next(module for module in network.modules() if type(module) is OPERATIONS[name])
    calls: list[Any] = []
    operator.register_forward_hook(lambda module, inputs, output: calls.append((inputs, output)))
    training = make_training(network, precision="bfloat16", validate_every=1)
    training._restore(torch.rand(2, 1, 14, 14))
    ((inputs, output),) = calls
    # the first input is as a convolution in bfloat16 left it
    assert inputs[0].dtype == torch.bfloat16 and output.dtype == torch.float32
    assert torch.equal(output, operator(*(tensor.float() for tensor in inputs)))
    assert math.isfinite(training.run().loss)
    assert all(value.grad is not None and value.grad.isfinite().all() for value in operator.parameters())


@pytest.mark.parametrize("macro", [Macro(unshuffle=2, normalisation="none", aspp=False, low_level=False), Macro()])
@pytest.mark.parametrize("width", [16, 20])
def test_gradients_in_bfloat16_are_those_of_single_precision_but_for_rounding(macro, width):
    """oneDNN's are not, for dilated kernels in channels_last: operators, and the atrous pyramid of ``Macro()``."""
    torch.manual_seed(0)
    names = ("conv", "sep", "dil", "gate")
    cell = tuple((Edge(0, name), Edge(1, name)) for name in names)
    small: dict[str, Any] = {"stem_channels": 12, "aspp_channels": 12, "low_level_channels": 4}
    network = DerivedNetwork(Genotype((cell,), (0,), (1,), macro), channels=1, width=width, **small)
    network = network.to(memory_format=torch.channels_last)
    degraded, clean = torch.rand(4, 1, 64, 64), torch.rand(4, 1, 64, 64)
    gradients = []
    for precision in ("float32", "bfloat16"):
        training = make_training(network, precision=precision, ssim_weight=0.0)
        network.zero_grad()
        training.loss(training._restore(degraded), clean).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
    exact, rounded = gradients
    assert (exact - rounded).norm() < 0.05 * exact.norm()


def test_the_curve_holds_every_step_once(monkeypatch):
    monkeypatch.setattr(loss_curve, "STRETCH", 2)
    single = run_to_end(make_training(validate_every=1))
    report = make_training(validate_every=100).run()
    losses = [one.loss for one in single]
    expected = [(2, sum(losses[:2]) / 2), (4, sum(losses[2:4]) / 2), (6, sum(losses[4:6]) / 2), (7, losses[6])]
    assert [step for step, _ in report.curve] == [step for step, _ in expected]
    assert [loss for _, loss in report.curve] == pytest.approx([loss for _, loss in expected], rel=1e-6)
    assert report.loss == pytest.approx(sum(losses) / 7, rel=1e-6)


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
@pytest.mark.parametrize("warmup", [0, 2])
def test_the_rate_follows_its_schedule(schedule, factor, warmup):
    training = make_training(schedule=schedule, lr=0.004, steps=8, validate_every=1, warmup=warmup / 8)
    for step in range(8):
        share = step / warmup if step < warmup else factor((step - warmup) / (8 - warmup))
        assert training.run().rate == pytest.approx(0.004 * share, abs=1e-12)
        assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0.004 * share, abs=1e-12)


def test_optimizers_are_built_as_asked():
    adam = make_training(lr=2e-3, weight_decay=0.1).optimizer
    assert isinstance(adam, torch.optim.Adam) and not isinstance(adam, torch.optim.AdamW)
    assert (adam.param_groups[0]["lr"], adam.param_groups[0]["weight_decay"]) == (2e-3, 0.1)
    assert isinstance(make_training(optimizer="adamw").optimizer, torch.optim.AdamW)
    sgd = make_training(optimizer="sgd", lr=0.05, weight_decay=0.1).optimizer
    assert isinstance(sgd, torch.optim.SGD) and sgd.param_groups[0]["momentum"] == 0.9
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


@pytest.mark.usefixtures("unannotated")  # steps=None is not a setting of a study
def test_unknown_and_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="optimizer: unknown 'lion'; possible: adam, adamw, sgd"):
        make_training(optimizer="lion")
    with pytest.raises(ValueError, match="schedule: unknown 'step'; possible: cosine, polynomial, constant"):
        make_training(schedule="step")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"steps": 0}, "steps: 0; at least 1"),
        ({"validate_every": 0}, "validate_every: 0; at least 1"),
        ({"steps": None}, "steps: None, minutes: None; give one of both"),
        ({"steps": None, "minutes": 0}, "minutes: 0; more than 0"),
        ({"steps": None, "minutes": math.nan}, "minutes: nan; more than 0"),
        ({"warmup": 1}, "warmup: 1; a share"),
        ({"warmup": -0.1}, "warmup: -0.1; a share"),
        ({"ema_decay": 1}, "ema_decay: 1; between 0 and 1"),
        ({"ema_decay": 0.0}, "ema_decay: 0.0; between 0 and 1"),
        ({"precision": "float16"}, "precision: unknown 'float16'; possible: float32, bfloat16, auto"),
    ]
    for settings, message in wrong:
        with pytest.raises(ValueError, match=message):
            make_training(None, **settings)
    with pytest.raises(ValueError, match="hold no batch"):
        train(make_network(), [], validate, **SETTINGS)
    with pytest.raises(ValueError, match="belongs to another network .*size mismatch"):
        make_training(make_network(width=3)).load_state_dict(make_training().state_dict())


def test_lists_of_batches_are_trained_on_like_streams():
    listed = Training(make_network(), list(islice(make_batches(0), 7)), validate, **SETTINGS)
    assert [facts(r) for r in run_to_end(listed)] == [facts(r) for r in run_to_end(make_training())]
