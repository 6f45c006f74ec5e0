"""Whether a search has decided anything: what alpha and beta say besides the genotype that they favour."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from irnas_ray.genotypes.decoding import TIE, Margin
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.supernet import SuperNet


@dataclass(frozen=True)
class Health:
    """What a search has come to, besides its genotype and its margins."""

    #: Share of skip among the edges that the genotype keeps, and that of genotypes that are sampled uniformly.
    skip_share: float
    skip_expected: float
    #: Mean entropy of the rows of alpha, and of the transitions of beta that have a choice, each as a share of the
    #: largest: 1 prefers nothing. 0 where there is no choice; None where alpha and beta are not trained.
    alpha_entropy: float | None
    beta_entropy: float | None
    #: The largest margin of an operator that Adam can reach in this search; None where nothing moves alpha.
    possible_margin: float | None
    #: How many of the decisions inside cells are ties. Paths of widths are left out: they differ in probability where
    #: beta prefers nothing, because levels at the border have fewer ways out.
    ties: int
    decisions: int
    #: Mean probability of each operator over the edges, and of halving, keeping and doubling over layers and levels;
    #: without alpha and beta the share of each operator in the best paths, and nothing.
    operators: dict[str, float]
    moves: list[float]

    def hopeless(self) -> str | None:
        """One line if the search will not decide anything, which is known before it ends; else None."""
        if self.possible_margin is None or self.possible_margin >= TIE:
            return None
        return (
            f"this search cannot decide anything: its largest possible margin is {self.possible_margin:.3f}, below "
            f"{TIE}, where ties begin; search.arch_lr=null, or more architecture steps, lets alpha travel further"
        )

    def warning(self) -> str | None:
        """One line if the search has decided nothing, else None."""
        if (hopeless := self.hopeless()) is not None:
            return hopeless
        if self.decisions and self.ties == self.decisions:
            return (
                f"this search has decided nothing: all {self.decisions} margins of its cells are ties; where gradients "
                "are small search.arch_weight_decay alone holds alpha at zero, and 0 lets it go"
            )
        return None

    def numbers(self) -> dict[str, float]:
        """What of it is a number at every validation."""
        named = {name: getattr(self, name) for name in ("skip_share", "alpha_entropy", "beta_entropy")}
        return {name: number for name, number in named.items() if number is not None}

    def course(self) -> dict[str, Any]:
        """What of it changes over a search, as plain values."""
        operators = {name: round(mean, 4) for name, mean in self.operators.items()}
        return {
            **{name: round(number, 4) for name, number in self.numbers().items()},
            "operators": operators,
            "moves": [round(mean, 4) for mean in self.moves],
        }

    def to_plain(self) -> dict[str, Any]:
        """Plain values, as they are kept in a study."""
        return asdict(self)


def health_of(net: SuperNet, genotype: Genotype, margins: Sequence[Margin], travel: float | None) -> Health:
    """The health of a search now; ``travel`` is how far its logits can move in all, None where nothing moves them."""
    alpha = torch.softmax(net.alpha.detach().double(), dim=-1)
    beta = net.log_beta().detach().double().exp()
    inside = [margin for margin in margins if not margin.decision.startswith("layer ")]
    means = alpha.mean(dim=(0, 1)).tolist()
    return Health(
        skip_share=shares_of([genotype], net.operators)["skip"],
        skip_expected=skip_expected(net.operators),
        alpha_entropy=entropy(alpha),
        beta_entropy=entropy(beta),
        possible_margin=None if travel is None else possible_margin(travel, len(net.operators)),
        ties=sum(margin.tie for margin in inside),
        decisions=len(inside),
        operators=dict(zip(net.operators, means, strict=True)),
        moves=beta.mean(dim=(0, 1)).tolist(),
    )


def shares_of(genotypes: Sequence[Genotype], operators: Sequence[str]) -> dict[str, float]:
    """The share of each operator among the edges that genotypes keep; skip is named in any case."""
    kept = [edge.operator for genotype in genotypes for cell in genotype.cells for node in cell for edge in node]
    return {name: kept.count(name) / len(kept) for name in dict.fromkeys([*operators, "skip"]) if name != "none"}


def skip_expected(operators: Sequence[str]) -> float:
    """The share of skip in genotypes that are sampled uniformly."""
    return ("skip" in operators) / sum(name != "none" for name in operators)


def entropy(probabilities: Float[Tensor, "*rows choices"]) -> float:
    """Mean entropy of the rows, each as a share of the largest among its possible choices; 0 where there is no choice.

    Choices of probability 0 are not possible.
    """
    rows = probabilities.reshape(-1, probabilities.shape[-1])
    choices = (rows > 0).sum(dim=1)
    rows, choices = rows[choices > 1], choices[choices > 1]
    if not len(rows):
        return 0.0
    return float((-torch.special.xlogy(rows, rows).sum(dim=1) / choices.double().log()).mean())


def possible_margin(travel: float, operators: int) -> float:
    """The largest margin between two of so many operators whose logits have travelled so far from where all are equal.

    The best one has gone up and all others down, so that for short ways it is about ``2 * travel / operators``.
    """
    if operators < 2:
        return 0.0
    # divided by exp(travel), which can be more than a float holds
    return -math.expm1(-2 * travel) / (1 + (operators - 1) * math.exp(-2 * travel))
