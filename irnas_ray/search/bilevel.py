"""The bilevel search of section 3.3: weights on Train W, alpha and beta on Train A, alternating, first order."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from irnas_ray.datasets.batches import Batch, EndlessBatches, State
from irnas_ray.genotypes.decoding import Margin
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.search.decodings import DECODINGS, Decoding, inherited_score, masked_genotype, with_samples
from irnas_ray.search.health import Health, health_of
from irnas_ray.search.paths import FairPaths, PathNetwork, perturbed
from irnas_ray.search.report import SearchReport, SearchResult
from irnas_ray.settings.bounds import check_bounds
from irnas_ray.settings.study import Search
from irnas_ray.training.accumulation import Accumulation, Average
from irnas_ray.training.loss import restoration_loss
from irnas_ray.training.validation import Validate


class BilevelSearch:
    """The state of a search, which can be saved and continued bit for bit on CPU; arguments as ``bilevel_search``."""

    def __init__(
        self,
        net: SuperNet,
        train_w: Iterable[Batch],
        train_a: Iterable[Batch],
        validate: Validate,
        settings: Search | None = None,
        **changes: Any,
    ) -> None:
        own = replace(settings or Search(), **changes)
        check_bounds(own)
        if not 0 <= own.warmup_epochs < own.epochs:
            raise ValueError(
                f"warmup_epochs: {own.warmup_epochs} of {own.epochs} epochs leaves none that trains alpha and beta"
            )
        if own.decoding not in DECODINGS:
            raise ValueError(f"decoding: unknown {own.decoding!r}; possible: {', '.join(DECODINGS)}")
        self.settings = own
        self.net, self.validate = net, validate
        self.train_w, self.train_a = EndlessBatches(train_w), EndlessBatches(train_a)
        self.weights, self.architecture = net.weight_parameters(), net.arch_parameters()
        self.weight_optimizer = torch.optim.SGD(
            self.weights, lr=own.weight_lr, momentum=own.momentum, weight_decay=own.weight_decay
        )
        betas = own.arch_beta1, 0.999
        self.arch_optimizer = torch.optim.Adam(
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
        self.seconds = 0.0
        self.best: State = {}
        #: Epoch, entropies and mean probabilities at every validation so far, as plain values.
        self.history: list[State] = []

    def run_epoch(self) -> SearchReport | None:
        """Train one epoch; the report if the epoch ends with a validation, else None.

        Raises FloatingPointError if the loss is no longer finite.
        """
        start = time.perf_counter()
        self.net.train()
        weight_loss, arch_loss = self._steps(train_architecture=self.epoch >= self.settings.warmup_epochs)
        self.epoch += 1
        if not torch.isfinite(weight_loss + arch_loss):
            raise FloatingPointError(
                f"the loss became {float(weight_loss)} (weights) and {float(arch_loss)} (alpha, beta) in epoch "
                f"{self.epoch}; a smaller search.weight_lr or a search.gradient_clip usually helps"
            )
        report = None
        if self.epoch % self.settings.validate_every == 0 or self.epoch == self.settings.epochs:
            scores = self._scores()
            report = self._report(float(weight_loss), float(arch_loss), scores, time.perf_counter() - start)
        else:
            self.seconds += time.perf_counter() - start
        return report

    def _scores(self) -> dict[str, float]:
        # the statistics of the mixture are not trained on paths
        on_path = self.paths is not None and self.epoch <= self.settings.warmup_epochs
        return self.validate(PathNetwork(self.net, self.net.genotype()) if on_path else self.net)

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

    def _report(self, weight_loss: float, arch_loss: float, scores: dict[str, float], elapsed: float) -> SearchReport:
        genotype, margins, health = self._decision()
        self.history.append({"epoch": self.epoch, "psnr": float(scores["psnr"]), **health.course()})
        if self._wins(float(scores["psnr"])):
            self.best = {
                "searched": self.epoch > self.settings.warmup_epochs,
                "psnr": float(scores["psnr"]),
                "ssim": float(scores["ssim"]),
                "genotype": genotype.to_json(),
                "margins": [vars(margin).copy() for margin in margins],
                "health": health.to_plain(),
            }
        self.seconds += elapsed
        return SearchReport(
            epoch=self.epoch,
            psnr=float(scores["psnr"]),
            ssim=float(scores["ssim"]),
            weight_loss=weight_loss,
            arch_loss=arch_loss,
            best_psnr=self.best["psnr"],
            best_ssim=self.best["ssim"],
            genotype=Genotype.from_json(self.best["genotype"]),
            margins=[Margin(**margin) for margin in self.best["margins"]],
            seconds=self.seconds,
            micro_batch=self.accumulation.micro_batch,
            health=health,
        )

    def _decision(self) -> tuple[Genotype, list[Margin], Health]:
        """What is favoured now."""
        genotype, margins = self.net.genotype(), self.net.margins()
        travel = self.settings.arch_rate() * self.settings.arch_steps()
        return genotype, margins, health_of(self.net, genotype, margins, travel)

    def _wins(self, psnr: float) -> bool:
        """Whether what is favoured now is better than at the best validation so far."""
        # alpha and beta of the warm-up are random, so that its validations do not compete
        searched = self.epoch > self.settings.warmup_epochs
        return not self.best or (searched and (not self.best["searched"] or psnr > self.best["psnr"]))

    def result(self) -> SearchResult:
        """The best of all validations so far; ValueError before the first."""
        if not self.best:
            raise ValueError("the search has not been validated yet")
        return SearchResult(
            genotype=Genotype.from_json(self.best["genotype"]),
            margins=[Margin(**margin) for margin in self.best["margins"]],
            psnr=self.best["psnr"],
            ssim=self.best["ssim"],
            seconds=self.seconds,
            micro_batch=self.accumulation.micro_batch,
            health=Health(**self.best["health"]) if "health" in self.best else None,
        )

    def decodings(self) -> list[Decoding]:
        """The genotypes that are worth a short training: as many as ``candidates``, or fewer where alpha has decided.

        That of the best validation comes first, or that which masking decides on; then samples. Trains the supernet
        further where masking does. Raises ValueError before the first validation.
        """
        own, best = self.settings, self.result().genotype
        if own.decoding == "argmax" and own.candidates == 1:
            return [Decoding(best, "argmax")]
        # what is weighed here are the operators themselves
        self.net.set_remedies(0.0, 0.0)
        known = [Decoding(best, "argmax")]
        if own.decoding == "masking":
            known.insert(0, Decoding(masked_genotype(self.net, self.validate, self._tune), "masking"))
        found = with_samples(self.net, known, own.candidates)
        if own.candidates == 1:
            return found
        return [replace(one, inherited=inherited_score(self.net, one.genotype, self.validate)) for one in found]

    def _tune(self, weights: Tensor) -> None:
        self.net.train()
        for _ in range(self.settings.masking_steps):
            self._step(next(self.train_w), self.weights, self.architecture, self.weight_optimizer, alpha=weights)

    def state_dict(self) -> State:
        """Everything that the rest of the search depends on."""
        return {
            "net": self.net.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "arch_optimizer": self.arch_optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "train_w": self.train_w.state_dict(),
            "train_a": self.train_a.state_dict(),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "best": self.best,
            "history": self.history,
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
        self.epoch, self.seconds, self.best = int(state["epoch"]), float(state["seconds"]), dict(state["best"])
        # states of earlier releases have neither
        self.history = list(state.get("history", []))
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


#: A search by a supernet, which differs from the bilevel one in how it trains and decides.
SupernetSearch = TypeVar("SupernetSearch", bound=BilevelSearch)


def bilevel_search(
    net: SuperNet,
    train_w: Iterable[Batch],
    train_a: Iterable[Batch],
    validate: Validate,
    settings: Search | None = None,
    *,
    on_report: Callable[[SearchReport, BilevelSearch], None] | None = None,
    state: State | None = None,
    **changes: Any,
) -> SearchResult:
    """Search an architecture with a supernet and return the genotype of the best validation (sections 3.3, 4.1).

    Args:
        net: The supernet; its weights, alpha and beta are trained in place.
        train_w: Batches (degraded, clean) for the weights, each (b c h w) in [0, 1] on the supernet's device; started
            over when it ends.
        train_a: The same, of other images, for alpha and beta.
        validate: Scores the supernet, giving a dict with `psnr` and `ssim`.
        settings: Length, rates and loss of the search; the defaults are the paper's.
        on_report: Called with the report and the search after each validation, for example to save a checkpoint.
        state: ``BilevelSearch.state_dict()`` of a search to continue.
        changes: Single fields of ``settings`` that replace its own, such as ``epochs=50``.

    Raises:
        ValueError: if a setting is impossible or ``state`` belongs to another supernet.
        FloatingPointError: if the loss is no longer finite.
    """
    return run_search(BilevelSearch(net, train_w, train_a, validate, settings, **changes), on_report, state)


def run_search(
    search: SupernetSearch,
    on_report: Callable[[SearchReport, SupernetSearch], None] | None = None,
    state: State | None = None,
) -> SearchResult:
    """Run a search to its end; ``on_report`` and ``state`` as for ``bilevel_search``."""
    if state is not None:
        search.load_state_dict(state)
    reports = []
    while search.epoch < search.settings.epochs:
        report = search.run_epoch()
        if report is not None:
            reports.append(report)
            if on_report is not None:
                on_report(report, search)
    result = search.result()
    result.reports = reports
    return result
