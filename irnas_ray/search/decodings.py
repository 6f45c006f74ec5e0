"""What a trained supernet is decoded to: by its largest weights, by masking, and by samples of alpha and beta."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.decoding import decode_cell, edges_of, viterbi
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.kernels.mixed_batch_norm import statistics_kept
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.training.validation import Validate

#: Samples in a row that may be known already before no further ones are drawn.
MOST_KNOWN = 50

#: Probabilities (cells, edges, operators) of the mixture.
Weights = Float[Tensor, "cells edges operators"]


@dataclass(frozen=True)
class Decoding:
    """A genotype that a supernet was decoded to."""

    genotype: Genotype
    #: argmax, masking, a sample, or evolution.
    source: str
    #: PSNR on Train V of the supernet with the operators of this genotype alone; None where that was not asked for.
    inherited: float | None = None


class WeightedNetwork(nn.Module):
    """A supernet whose operators are weighted by something else than alpha, normalised by the batch at hand.

    The running statistics are those of the mixture, so that other weights cannot use them (as Wang et al. 2021).
    """

    def __init__(self, net: SuperNet, weights: Weights) -> None:
        super().__init__()
        self.net, self.weights, self.pixel_step = net, weights, net.pixel_step

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The restored image of a degraded one."""
        mode = self.net.training
        with statistics_kept(self.net):
            restored = self.net.train()(image, alpha=self.weights)
        self.net.train(mode)
        return restored


def one_hot(net: SuperNet, genotype: Genotype) -> Weights:
    """Weights that leave of the mixture's cells those of a genotype alone."""
    weights = torch.zeros_like(net.alpha)
    for index, cell in enumerate(genotype.cells):
        for node, edges in enumerate(cell):
            for edge in edges:
                weights[index, edges_of(node) + edge.source, net.operators.index(edge.operator)] = 1
    return weights


def inherited_score(net: SuperNet, genotype: Genotype, validate: Validate) -> float:
    """PSNR of the supernet with the operators of a genotype alone."""
    return float(validate(WeightedNetwork(net, one_hot(net, genotype)))["psnr"])


def masked_genotype(net: SuperNet, validate: Validate, tune: Callable[[Weights], None]) -> Genotype:
    """Decide edge by edge, in random order, for the operator whose absence hurts the supernet most (Wang et al. 2021).

    Then every node loses those inputs whose absence hurts least until two are left. ``tune`` is called with the weights
    after each decision, to train the supernet that is left. Paths of widths are those of beta.
    """
    weights = torch.softmax(net.alpha.detach(), dim=-1)
    possible = [column for column, name in enumerate(net.operators) if name != "none"]
    cells, edges, _ = weights.shape

    def score_without(place: tuple[int, ...]) -> float:
        masked = weights.clone()
        masked[place] = 0
        return float(validate(WeightedNetwork(net, masked))["psnr"])

    for cell, edge in _shuffled((cell, edge) for cell in range(cells) for edge in range(edges)):
        kept = possible[0]
        if len(possible) > 1:
            kept = min(possible, key=lambda column: score_without((cell, edge, column)))
        weights[cell, edge] = torch.eye(len(net.operators), dtype=weights.dtype, device=weights.device)[kept]
        tune(weights)
    for cell, node in _shuffled((cell, node) for cell in range(cells) for node in range(net.nodes)):
        left = [edges_of(node) + source for source in range(node + 2)]
        while len(left) > 2:
            dropped = max(left, key=lambda edge: score_without((cell, edge)))
            left.remove(dropped)
            weights[cell, dropped] = 0
            tune(weights)
    return _genotype_of(net, weights)


def _shuffled(places: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    listed = list(places)
    return [listed[index] for index in torch.randperm(len(listed))]


def _genotype_of(net: SuperNet, weights: Weights) -> Genotype:
    """The genotype of weights that are one-hot in two rows of every node and zero in all others."""
    cells = []
    for rows in weights:
        nodes = []
        for node in range(net.nodes):
            first, second = (
                Edge(source, net.operators[int(row.argmax())])
                for source, row in enumerate(rows[edges_of(node) : edges_of(node + 1)])
                if row.any()
            )
            nodes.append((first, second))
        cells.append(tuple(nodes))
    return Genotype(tuple(cells), tuple(viterbi(net.log_beta())), net.multipliers, net.macro)


def sampled_genotype(net: SuperNet) -> Genotype:
    """A genotype whose operators and transitions are drawn with their probabilities, and its inputs by what was drawn.

    A cell is decoded from alpha with Gumbel noise: the largest of such logits is distributed as softmax says.
    """
    alpha, beta = net.alpha.detach(), net.log_beta().detach().exp()
    # an exponential variable can be rounded to 0
    noise = -torch.empty_like(alpha).exponential_().clamp(min=1e-20).log()
    cells = tuple(decode_cell(rows, net.operators)[0] for rows in alpha + noise)
    levels = [0]
    for layer in beta:
        levels.append(levels[-1] + int(torch.multinomial(layer[levels[-1]], 1)) - 1)
    return Genotype(cells, tuple(levels[1:]), net.multipliers, net.macro)


def with_samples(net: SuperNet, known: list[Decoding], count: int) -> list[Decoding]:
    """Those that are known, distinct, and samples up to ``count`` of them, or until no new ones come."""
    found: dict[Genotype, Decoding] = {}
    for decoding in known:
        found.setdefault(decoding.genotype, decoding)
    repeated = 0
    while len(found) < count and repeated < MOST_KNOWN:
        genotype = sampled_genotype(net)
        repeated = repeated + 1 if genotype in found else 0
        found.setdefault(genotype, Decoding(genotype, "sample"))
    return list(found.values())[:count]
