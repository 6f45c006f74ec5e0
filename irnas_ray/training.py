"""Training of a final network from scratch (section 4.1)."""

import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from irnas_ray.batches import Batch, EndlessBatches, State
from irnas_ray.losses import restoration_loss
from irnas_ray.validation import Validate

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "polynomial", "constant")


@dataclass(frozen=True)
class TrainingReport:
    """Where a training stands after a validation."""

    step: int
    loss: float
    psnr: float
    ssim: float
    seconds: float


class Training:
    """The state of a training, which can be saved and continued bit for bit on CPU; see ``train`` for the arguments."""

    def __init__(
        self,
        network: nn.Module,
        batches: Iterable[Batch],
        validate: Validate,
        *,
        steps: int,
        optimizer: str = "adam",
        lr: float = 1e-3,
        schedule: str = "cosine",
        weight_decay: float = 0.0,
        ssim_weight: float = 0.5,
        gradient_clip: float | None = 1.0,
        validate_every: int = 5000,
    ) -> None:
        if steps < 1 or validate_every < 1:
            raise ValueError(f"steps: {steps}, validate_every: {validate_every}; both must be at least 1")
        warn_of_rate(optimizer, lr)
        self.network, self.validate = network, validate
        self.batches = EndlessBatches(batches)
        self.steps, self.ssim_weight = steps, ssim_weight
        self.gradient_clip, self.validate_every = gradient_clip, validate_every
        self.optimizer = _optimizer(optimizer, network, lr, weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, _schedule(schedule, steps))
        self.step = 0
        self.seconds = 0.0

    def run(self) -> TrainingReport:
        """Train up to the next validation and validate. Raises FloatingPointError if the loss is not finite."""
        start = time.perf_counter()
        until = min(self.steps, (self.step // self.validate_every + 1) * self.validate_every)
        count = max(1, until - self.step)
        self.network.train()
        total: Tensor | float = 0.0
        while self.step < until:
            degraded, clean = next(self.batches)
            loss = restoration_loss(self.network(degraded), clean, self.ssim_weight)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if self.gradient_clip is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)
            self.optimizer.step()
            self.schedule.step()
            total = total + loss.detach()
            self.step += 1
        mean = float(total) / count
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss became {mean} before step {self.step}; a smaller final.lr usually helps"
            )
        scores = self.validate(self.network)
        self.seconds += time.perf_counter() - start
        return TrainingReport(self.step, mean, float(scores["psnr"]), float(scores["ssim"]), self.seconds)

    def state_dict(self) -> State:
        """Everything that the rest of the training depends on."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "batches": self.batches.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "random_state": torch.get_rng_state(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continue from a ``state_dict``; ValueError if it belongs to another network."""
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            first = str(error).strip().splitlines()[-1].strip()
            raise ValueError(f"the checkpoint belongs to another network ({first})") from None
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.batches.load_state_dict(state["batches"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        torch.set_rng_state(state["random_state"].cpu())


def train(
    network: nn.Module,
    batches: Iterable[Batch],
    validate: Validate,
    *,
    steps: int,
    on_report: Callable[[TrainingReport, Training], None] | None = None,
    state: State | None = None,
    optimizer: str = "adam",
    lr: float = 1e-3,
    schedule: str = "cosine",
    weight_decay: float = 0.0,
    ssim_weight: float = 0.5,
    gradient_clip: float | None = 1.0,
    validate_every: int = 5000,
) -> TrainingReport:
    """Train a network in place for ``steps`` batches and return the report of the last validation.

    Args:
        network: Takes and gives images (b c h w) in [0, 1].
        batches: (degraded, clean) on the network's device; started over when they end.
        validate: Scores the network, giving a dict with `psnr` and `ssim`.
        steps: Batches to train on. Paper: 600,000.
        on_report: Called with the report and the training after each validation, for example to save a checkpoint.
        state: ``Training.state_dict()`` of a training to continue.
        optimizer: `adam`, or `sgd` with momentum 0.9.
        lr: Initial rate.
        schedule: `cosine` to zero, `polynomial` with power 0.9, or `constant`.
        weight_decay: L2 penalty of the optimizer.
        ssim_weight: lambda of the loss (eq. 7).
        gradient_clip: Largest gradient norm; None does not clip.
        validate_every: Steps between validations.

    Raises:
        ValueError: if a setting is unknown or impossible, or ``state`` belongs to another network.
        FloatingPointError: if the loss is no longer finite.
    """
    training = Training(
        network,
        batches,
        validate,
        steps=steps,
        optimizer=optimizer,
        lr=lr,
        schedule=schedule,
        weight_decay=weight_decay,
        ssim_weight=ssim_weight,
        gradient_clip=gradient_clip,
        validate_every=validate_every,
    )
    if state is not None:
        training.load_state_dict(state)
    while True:
        report = training.run()
        if on_report is not None:
            on_report(report, training)
        if training.step >= steps:
            return report


def warn_of_rate(optimizer: str, lr: float) -> None:
    """Warn of a rate at which Adam diverges, among them the one that the paper prints."""
    if optimizer == "adam" and lr >= 0.02:
        warnings.warn(
            f"Adam with a rate of {lr} diverges on these networks, though the paper prints 0.05; about 1e-3 works",
            stacklevel=2,
        )


def _optimizer(name: str, network: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    if name == "adam":
        return torch.optim.Adam(network.parameters(), lr=lr, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    raise ValueError(f"optimizer: unknown {name!r}; possible: {', '.join(OPTIMIZERS)}")


def _schedule(name: str, steps: int) -> Callable[[int], float]:
    if name not in SCHEDULES:
        raise ValueError(f"schedule: unknown {name!r}; possible: {', '.join(SCHEDULES)}")

    def factor(step: int) -> float:
        done = min(1.0, step / steps)
        if name == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return (1 - done) ** 0.9 if name == "polynomial" else 1.0

    return factor
