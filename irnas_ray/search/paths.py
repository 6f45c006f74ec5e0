"""Uniform paths through a supernet of one width, by which its weights are trained."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.genotypes.encoding import Encoding, Gene
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.supernet import SuperNet


def encoding_of(net: SuperNet) -> Encoding:
    """The genotypes that a supernet holds."""
    tied = len(net.alpha) == 1
    return Encoding(net.operators, net.nodes, net.layers, tied, net.multipliers, net.macro)


class FairPaths:
    """An endless stream of uniform paths in which every operator of an edge is trained equally often.

    Strict fairness (Chu et al. 2021): of as many paths over an edge as there are operators each has another one, in
    random order; likewise for the pairs of inputs of a node. Draws from torch's global generator. Raises ValueError
    where the supernet has several widths, through which there is no path.
    """

    def __init__(self, net: SuperNet) -> None:
        if len(net.widths) > 1:
            raise ValueError(
                f"paths need a supernet of one width, architecture.multipliers=[1]; this one has {len(net.widths)}"
            )
        self.encoding = encoding_of(net)
        #: Name of a decision -> the choices that are left before all have had their turn.
        self.left: dict[str, list[int]] = {}
        self._inputs: dict[str, list[str]] = {}

    def next(self) -> Genotype:
        """The next path."""
        return self.encoding.build(self._choose)

    def _choose(self, gene: Gene) -> str | int:
        node, _, kind = gene.name.rpartition(".")
        if kind == "inputs":
            pair = self._turn(gene.name, gene)
            self._inputs[node] = str(pair).split("+")
            return pair
        # an edge is known by its input, not by its place in the pair; the first node has one pair, which is no decision
        source = self._inputs.get(node, ["0", "1"])[0 if kind == "first" else 1]
        return self._turn(f"{node}.{source}", gene)

    def _turn(self, name: str, gene: Gene) -> str | int:
        left = self.left.setdefault(name, [])
        if not left:
            left += torch.randperm(len(gene.choices)).tolist()
        return gene.choices[left.pop()]


class PathNetwork(nn.Module):
    """One path of a supernet as a network of its own, which shares the weights."""

    def __init__(self, net: SuperNet, path: Genotype) -> None:
        super().__init__()
        self.net, self.path, self.pixel_step = net, path, net.pixel_step

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The restored image of a degraded one."""
        return self.net(image, path=self.path)


def perturbed(probabilities: Float[Tensor, "*edges operators"], radius: float) -> Tensor:
    """Probabilities with uniform noise from -radius to radius, which are probabilities again (Chen & Hsieh 2020).

    They are clamped to [0, 1] and divided by their sum; where nothing is left the largest one is 1.
    """
    moved = (probabilities + torch.empty_like(probabilities).uniform_(-radius, radius)).clamp(0, 1)
    largest = nn.functional.one_hot(probabilities.argmax(-1), probabilities.shape[-1]).to(moved.dtype)
    total = moved.sum(-1, keepdim=True)
    return torch.where(total > 0, moved / total, largest)
