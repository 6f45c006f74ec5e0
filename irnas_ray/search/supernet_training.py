"""The steps of a supernet's search (section 3.3): of its weights, and of alpha and beta, with all remedies."""

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from irnas_ray.datasets.batches import Batch, EndlessBatches, State
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.search.paths import FairPaths, perturbed
from irnas_ray.settings.bounds import check_bounds
from irnas_ray.settings.study import Search
from irnas_ray.training.accumulation import Accumulation, Average
from irnas_ray.training.loss import restoration_loss
from irnas_ray.training.optimizers import SGD, Adam


class SupernetTraining:
    """A supernet with its optimizers, their schedule and its batches; knows nothing of scores and decisions."""

    def __init__(
        self, net: SuperNet, train_w: Iterable[Batch], train_a: Iterable[Batch], settings: Search | None, **changes: Any
    ) -> None:
        own = replace(settings or Search(), **changes)
        check_bounds(own)
        if not 0 <= own.warmup_epochs < own.epochs:
            raise ValueError(
                f"warmup_epochs: {own.warmup_epochs} of {own.epochs} epochs leaves none that trains alpha and beta"
            )
        self.settings, self.net = own, net
        self.train_w, self.train_a = EndlessBatches(train_w), EndlessBatches(train_a)
        self.weights, self.architecture = net.weight_parameters(), net.arch_parameters()
        self.weight_optimizer = SGD(
            self.weights, lr=own.weight_lr, momentum=own.momentum, weight_decay=own.weight_decay
        )
        betas = own.arch_beta1, 0.999
        self.arch_optimizer = Adam(
            self.architecture, lr=own.arch_rate(), betas=betas, weight_decay=own.arch_weight_decay
        )
        self.paths = FairPaths(net) if own.warmup_paths else None
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.weight_optimizer, T_max=own.epochs * own.steps_per_epoch, eta_min=own.weight_lr_min
        )
        self.accumulation = Accumulation(
            net, "a smaller search.crop or architecture.width needs less, architecture.recompute=true a tenth"
        )
        self.epoch = 0

    def _steps(self, train_architecture: bool) -> tuple[Tensor, Tensor]:
        device = self.net.alpha.device
        weight_loss, arch_loss = torch.zeros((), device=device), torch.zeros((), device=device)
        for _ in range(self.settings.steps_per_epoch):
            left = 1 - self._progress()
            if self.settings.auxiliary_skip or self.settings.skip_dropout:
                self.net.set_remedies(left * self.settings.auxiliary_skip, left * self.settings.skip_dropout)
            if train_architecture:
                arch_loss += self._step(next(self.train_a), self.architecture, self.weights, self.arch_optimizer)
            weight_loss += self._weight_step()
            self.schedule.step()
        return weight_loss / self.settings.steps_per_epoch, arch_loss / self.settings.steps_per_epoch

    def _progress(self) -> float:
        """Which share of the weight steps is done."""
        return self.schedule.last_epoch / self.schedule.T_max

    def _weight_step(self) -> Tensor:
        through: dict[str, Any] = {}
        if self.paths is not None and self.epoch < self.settings.warmup_epochs:
            through["path"] = self.paths.next()
        elif self.settings.alpha_noise > 0:
            radius = self.settings.alpha_noise * (0.1 + 0.9 * self._progress())
            through["alpha"] = perturbed(torch.softmax(self.net.alpha.detach(), dim=-1), radius)
        return self._step(next(self.train_w), self.weights, self.architecture, self.weight_optimizer, **through)

    def _step(
        self,
        batch: Batch,
        learned: list[nn.Parameter],
        frozen: list[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        **through: Any,
    ) -> Tensor:
        # what the step does not learn needs no gradient: a third of the backward pass of an architecture step
        for parameter in frozen:
            parameter.requires_grad_(False)
        loss = self.accumulation.backward(partial(self._loss, **through), optimizer, batch)
        if self.settings.beta_decay > 0 and learned is self.architecture:
            factor = self.settings.beta_decay * self._progress() * loss
            (factor * torch.logsumexp(self.net.alpha, dim=-1).mean()).backward()
        if self.settings.gradient_clip is not None and learned is self.weights:
            torch.nn.utils.clip_grad_norm_(learned, self.settings.gradient_clip)
        optimizer.step()
        for parameter in frozen:
            parameter.requires_grad_(True)
        return loss

    def _loss(self, degraded: Tensor, clean: Tensor, average: Average | None, **through: Any) -> Tensor:
        return restoration_loss(self.net(degraded, **through), clean, self.settings.ssim_weight, average)

    def _tune(self, weights: Tensor) -> None:
        self.net.train()
        for _ in range(self.settings.masking_steps):
            self._step(next(self.train_w), self.weights, self.architecture, self.weight_optimizer, alpha=weights)

    def state_dict(self) -> State:
        """Everything that the further steps depend on."""
        return {
            "net": self.net.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "arch_optimizer": self.arch_optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "train_w": self.train_w.state_dict(),
            "train_a": self.train_a.state_dict(),
            "epoch": self.epoch,
            "micro_batch": self.accumulation.micro_batch,
            "paths": {} if self.paths is None else self.paths.left,
            "random_state": torch.get_rng_state(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continue from a ``state_dict``; ValueError if it belongs to another supernet.

        This search's own rates hold from here on, on the schedule's same position.
        """
        try:
            self.net.load_state_dict(state["net"])
        except RuntimeError as error:
            first = str(error).strip().splitlines()[-1].strip()
            raise ValueError(f"the checkpoint belongs to another supernet ({first})") from None
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self.arch_optimizer.load_state_dict(state["arch_optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self._set_rates()
        self.train_w.load_state_dict(state["train_w"])
        self.train_a.load_state_dict(state["train_a"])
        self.epoch = int(state["epoch"])
        self.accumulation.micro_batch = state.get("micro_batch")
        if self.paths is not None:
            self.paths.left = {name: list(left) for name, left in state.get("paths", {}).items()}
        torch.set_rng_state(state["random_state"].cpu())

    def _set_rates(self) -> None:
        """Replace the rates that a loaded state brought by this search's own."""
        for group in self.arch_optimizer.param_groups:
            group["lr"] = self.settings.arch_rate()
        schedule = self.schedule
        if schedule.base_lrs == [self.settings.weight_lr]:
            # the schedule multiplies step by step: computed at once its rate would differ in the last bit
            return
        schedule.base_lrs = [self.settings.weight_lr]
        left = (1 + math.cos(math.pi * schedule.last_epoch / schedule.T_max)) / 2
        for group in self.weight_optimizer.param_groups:
            group["initial_lr"] = self.settings.weight_lr
            group["lr"] = schedule.eta_min + (self.settings.weight_lr - schedule.eta_min) * left
