"""The bilevel search of section 3.3: weights on Train W, alpha and beta on Train A, alternating, first order."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

import torch

from irnas_ray.datasets.batches import Batch, State
from irnas_ray.genotypes.decoding import Margin
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.search.decodings import Decoding, inherited_score, masked_genotype, with_samples
from irnas_ray.search.health import Health, health_of
from irnas_ray.search.paths import PathNetwork
from irnas_ray.search.report import SearchReport, SearchResult
from irnas_ray.search.supernet_training import SupernetTraining
from irnas_ray.settings.study import Search
from irnas_ray.training.validation import Validate


class BilevelSearch(SupernetTraining):
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
        super().__init__(net, train_w, train_a, settings, **changes)
        self.validate = validate
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

    def state_dict(self) -> State:
        """Everything that the rest of the search depends on."""
        return super().state_dict() | {"seconds": self.seconds, "best": self.best, "history": self.history}

    def load_state_dict(self, state: State) -> None:
        """Continue from a ``state_dict``; ValueError if it belongs to another supernet.

        This search's own rates hold from here on, on the schedule's same position.
        """
        super().load_state_dict(state)
        # a state of an earlier release has no history
        self.seconds, self.best = float(state["seconds"]), dict(state["best"])
        self.history = list(state.get("history", []))


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
