"""Training of a final network from scratch (section 4.1)."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.datasets.batches import Batch, EndlessBatches, ResumableBatches, State
from irnas_ray.settings.bounds import check_bounds
from irnas_ray.settings.study import Final
from irnas_ray.training.accumulation import Accumulation, Average
from irnas_ray.training.loss import restoration_loss
from irnas_ray.training.loss_curve import LossCurve
from irnas_ray.training.optimizers import make_average, make_optimizer
from irnas_ray.training.precision import check_precision, is_bfloat16
from irnas_ray.training.schedules import Budget, check_schedule, rate_factor
from irnas_ray.training.validation import Validate


@dataclass(frozen=True)
class TrainingReport:
    """Where a training stands after a validation."""

    step: int
    #: Mean training loss since the last validation.
    loss: float
    #: Scores of the validated weights: their average over the training where that is on.
    psnr: float
    ssim: float
    #: Wall-clock time of the whole training so far, validations and whatever is done between them included.
    seconds: float
    #: Rate of the last step.
    rate: float
    #: Best validation PSNR so far, and its step.
    best_psnr: float
    best_step: int
    #: Share of the budget that is used up, and whether that is all.
    used: float
    finished: bool
    #: The training loss since the last validation: last step and mean loss of every ``loss_curve.STRETCH`` steps.
    curve: tuple[tuple[int, float], ...]
    #: Most images that are computed at a time; None where whole batches fit into memory.
    micro_batch: int | None = None


class Training:
    """The state of a training, which can be saved and continued bit for bit on CPU.

    Args:
        network: Takes and gives images (b c h w) in [0, 1]; trained in place.
        batches: (degraded, clean) on the network's device; started over when they end.
        validate: Scores a network, giving a dict with `psnr` and `ssim`.
        settings: What is trained for how long and how: steps or minutes, optimizer and rates, loss, precision.
        changes: Single fields of ``settings`` that replace its own, such as ``steps=500``.
        clock: Seconds from any origin; to be replaced in tests.

    Raises:
        ValueError: if a setting is unknown or impossible.
    """

    def __init__(
        self,
        network: nn.Module,
        batches: Iterable[Batch],
        validate: Validate,
        settings: Final | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
        **changes: Any,
    ) -> None:
        own = replace(settings or Final(), **changes)
        check_bounds(own)
        check_schedule(own.schedule, own.warmup)
        check_precision(own.precision)
        self.settings = own
        self.budget = Budget(own.steps) if own.minutes is None else Budget(minutes=own.minutes)
        self.network, self.validate = network, validate
        self.batches: ResumableBatches = EndlessBatches(batches)
        #: What a training step calls: the network, or what joins several processes around it.
        self.called = network
        self.clock = clock
        self.optimizer = make_optimizer(own.optimizer, network, own.lr, own.weight_decay, own.beta2)
        self.average = make_average(network, own.ema_decay)
        self.accumulation = Accumulation(network, "a smaller final.crop or final.width needs less")
        self.step, self.seconds, self.finished = 0, 0.0, False
        self.best: State = {"step": 0, "psnr": -math.inf, "ssim": -math.inf, "weights": {}}
        self._began: float | None = None

    @property
    def validated(self) -> nn.Module:
        """The network that is validated and kept: the averaged one where averaging is on."""
        return self.network if self.average is None else self.average.module

    def run(self) -> TrainingReport:
        """Train up to the next validation and validate. Raises FloatingPointError if the loss is not finite."""
        curve = self._train_until_validation()
        loss = curve.mean()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss} before step {self.step}; a smaller final.lr usually helps"
            )
        scores = self.validate(self.validated)
        psnr, ssim = float(scores["psnr"]), float(scores["ssim"])
        self._keep_best(psnr, ssim)
        used = self._used()
        self.finished = used >= 1
        return TrainingReport(
            step=self.step,
            loss=loss,
            psnr=psnr,
            ssim=ssim,
            seconds=self.seconds,
            rate=self.optimizer.param_groups[0]["lr"],
            best_psnr=self.best["psnr"],
            best_step=self.best["step"],
            used=used,
            finished=self.finished,
            curve=curve.points(),
            micro_batch=self.accumulation.micro_batch,
        )

    def _train_until_validation(self) -> LossCurve:
        self.network.train()
        own, curve, part = self.settings, LossCurve(), self.budget.part(self._used())
        while (used := self._used()) < 1:
            loss = self._train_step(own.lr * rate_factor(own.schedule, used, own.warmup))
            curve.add(self.step, loss)
            if self.step % own.validate_every == 0 or self.budget.part(self._used()) > part:
                break
        return curve

    def _train_step(self, rate: float) -> Float[Tensor, ""]:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.accumulation.backward(self._loss_of, self.optimizer, next(self.batches))
        if self.settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.step += 1
        return loss

    def _loss_of(
        self, degraded: Float[Tensor, "b c h w"], clean: Float[Tensor, "b c h w"], average: Average | None
    ) -> Float[Tensor, ""]:
        return self.loss(self._restore(degraded), clean, average)

    def loss(
        self, restored: Float[Tensor, "b c h w"], clean: Float[Tensor, "b c h w"], average: Average | None = None
    ) -> Float[Tensor, ""]:
        """The loss of a batch, which the training lowers; ``average`` as for ``restoration_loss``."""
        return restoration_loss(restored, clean, self.settings.ssim_weight, average)

    def _restore(self, degraded: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if not is_bfloat16(self.settings.precision, degraded.device):
            return self.called(degraded)
        with torch.autocast(degraded.device.type, torch.bfloat16):
            restored = self.called(degraded)
        # SSIM's variances are differences of nearly equal numbers
        return restored.float()

    def _used(self) -> float:
        """Brings ``seconds`` up to date and returns the share of the budget that is used up."""
        now = self.clock()
        self.seconds += now - (now if self._began is None else self._began)
        self._began = now
        return self.budget.used(self.step, self.seconds)

    def _keep_best(self, psnr: float, ssim: float) -> None:
        if psnr > self.best["psnr"]:
            weights = {name: tensor.detach().clone() for name, tensor in self.validated.state_dict().items()}
            self.best = {"step": self.step, "psnr": psnr, "ssim": ssim, "weights": weights}

    def state_dict(self) -> State:
        """Everything that the rest of the training depends on."""
        return {
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "batches": self.batches.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "micro_batch": self.accumulation.micro_batch,
            "random_state": torch.get_rng_state(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continue from a ``state_dict``; ValueError if it belongs to another network, or only one of both averages."""
        if (self.average is None) != (state["average"] is None):
            raise ValueError("the checkpoint was made with another ema_decay; averages cannot be begun in the middle")
        try:
            self.network.load_state_dict(state["network"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
        except RuntimeError as error:
            first = str(error).strip().splitlines()[-1].strip()
            raise ValueError(f"the checkpoint belongs to another network ({first})") from None
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.load_state_dict(state["batches"])
        self.best = dict(state["best"])
        self.step, self.seconds, self._began = int(state["step"]), float(state["seconds"]), None
        self.finished = self.budget.used(self.step, self.seconds) >= 1
        # states of earlier releases have none
        self.accumulation.micro_batch = state.get("micro_batch")
        torch.set_rng_state(state["random_state"].cpu())


def train(
    network: nn.Module,
    batches: Iterable[Batch],
    validate: Validate,
    settings: Final | None = None,
    *,
    on_report: Callable[[TrainingReport, Training], None] | None = None,
    state: State | None = None,
    kind: type[Training] = Training,
    **changes: Any,
) -> TrainingReport:
    """Train a network in place and return the report of the last validation.

    Args:
        network, batches, validate, settings, changes: As for ``Training``.
        on_report: Called with the report and the training after each validation, for example to save a checkpoint.
        state: ``Training.state_dict()`` of a training to continue.
        kind: ``Training``, or ``distributed.DistributedTraining`` in each of several processes.

    Raises:
        ValueError: if a setting is unknown or impossible, or ``state`` belongs to another network.
        FloatingPointError: if the loss is no longer finite.

    Example:
        >>> import torch
        >>> import irnas_ray as ir
        >>> from skimage import data
        >>> clean = torch.from_numpy(data.camera()[:64]).unfold(1, 64, 64).transpose(0, 1)[:, None]  # uint8
        >>> patches = ir.datasets.ResidentPatches(clean, None, batch=4, seed=0)
        >>> degrade = ir.make_degradation(ir.Degradation(sigmas=[25]))
        >>> batches = ir.TrainingBatches(patches, crop=32, degradation=degrade, seed=0)
        >>> images = [ir.datasets.ImageRecord("camera", data.camera()[None, 64:128, :64], None)]
        >>> validate = ir.validator(images, degradations=[25])
        >>> network = ir.DnCNN(channels=1, depth=3, width=4)
        >>> report = ir.train(network, batches, validate, steps=4, validate_every=2)
        >>> report.step, report.finished, report.best_psnr > 20
        (4, True, True)
    """
    training = kind(network, batches, validate, settings, **changes)
    if state is not None:
        training.load_state_dict(state)
    while True:
        report = training.run()
        if on_report is not None:
            on_report(report, training)
        if report.finished:
            return report
