"""The paper's equations written out: the definition against which the fused modules are measured.

Every edge has its own operators and every operator its own ReLU, convolution, BatchNorm, multiplication and addition.
Nothing here is fast, and nothing should be made so.
"""

from collections.abc import Sequence
from typing import Any

import torch
from reference_deformable import plain_deform_conv2d, torchvision_deform_conv2d
from reference_links import Link, links_between
from torch import Tensor, nn

from irnas_ray.genotypes.cell import Cell
from irnas_ray.networks.supernet import SuperNet


class Deformable(nn.Module):
    """3x3 modulated deformable convolution whose offsets and sigmoid mask a 3x3 convolution predicts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.predictor = nn.Conv2d(width, 27, 3, padding=1)
        self.convolution = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        deform = torchvision_deform_conv2d or plain_deform_conv2d
        offset, mask = self.predictor(x).split([18, 9], dim=1)
        return deform(x, offset, self.convolution.weight, padding=(1, 1), mask=mask.sigmoid())


class Gate(nn.Module):
    """The first half of a 3x3 convolution's channels times the second half."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.convolution = width, nn.Conv2d(width, 2 * width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        return y[:, : self.width] * y[:, self.width :]


class Zero(nn.Module):
    """``none``: no connection."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def activation_of(name: str) -> nn.Module:
    return nn.ReLU() if name == "relu" else nn.LeakyReLU(0.2)


def operator(name: str, width: int, activation: str, sep_repeats: int, normalise_skip: bool = False) -> nn.Module:
    """One O^k of section 3.1: each convolution starts with a ReLU and is followed by a batch normalization."""
    if name == "none":
        return Zero()
    if name == "skip":
        return nn.BatchNorm2d(width, affine=False) if normalise_skip else nn.Identity()
    norm = nn.BatchNorm2d(width, affine=False)
    if name == "conv":
        return nn.Sequential(activation_of(activation), nn.Conv2d(width, width, 3, padding=1, bias=False), norm)
    if name == "dil":
        dilated = nn.Conv2d(width, width, 3, padding=2, dilation=2, bias=False)
        return nn.Sequential(activation_of(activation), dilated, norm)
    if name == "def":
        return nn.Sequential(activation_of(activation), Deformable(width), norm)
    if name == "gate":
        return nn.Sequential(activation_of(activation), Gate(width), norm)
    if name != "sep":
        raise ValueError(f"{name}: has no plain form here")
    layers: list[nn.Module] = []
    for _ in range(sep_repeats):
        depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        pointwise = nn.Conv2d(width, width, 1, bias=False)
        layers += [activation_of(activation), depthwise, pointwise, nn.BatchNorm2d(width, affine=False)]
    return nn.Sequential(*layers)


def project(inputs: int, outputs: int, activation: str) -> nn.Sequential:
    """The 1x1 convolution that makes f from h."""
    convolution = nn.Conv2d(inputs, outputs, 1, bias=False)
    return nn.Sequential(activation_of(activation), convolution, nn.BatchNorm2d(outputs, affine=False))


class ReferenceCell(nn.Module):
    """C: eq. 1-3."""

    def __init__(
        self, width: int, nodes: int, operators: Sequence[str], activation: str, sep_repeats: int, normalise_skip: bool
    ) -> None:
        super().__init__()
        self.nodes, self.operators = nodes, tuple(operators)
        self.edges: Any = nn.ModuleDict(
            {
                f"{source}_to_{node}": nn.ModuleList(
                    operator(name, width, activation, sep_repeats, normalise_skip) for name in operators
                )
                for node in range(nodes)
                for source in range(node + 2)
            }
        )

    def forward(self, before_last: Tensor, last: Tensor, alpha: Tensor) -> Tensor:
        inputs, edge = [before_last, last], 0
        for node in range(self.nodes):
            x = torch.zeros_like(last)
            for source in range(node + 2):  # eq. 1: the sum over I
                for k, operation in enumerate(self.edges[f"{source}_to_{node}"]):
                    x = x + alpha[edge, k] * operation(inputs[source])  # eq. 2
                edge += 1
            inputs.append(x)
        return torch.cat(inputs[2:], dim=1)  # eq. 3

    def chosen(self, before_last: Tensor, last: Tensor, cell: Cell) -> Tensor:
        """What is left of the cell when every alpha is one or zero: two operators a node."""
        inputs = [before_last, last]
        for node, kept in enumerate(cell):
            one, two = (self.edges[f"{e.source}_to_{node}"][self.operators.index(e.operator)] for e in kept)
            inputs.append(one(inputs[kept[0].source]) + two(inputs[kept[1].source]))
        return torch.cat(inputs[2:], dim=1)


class ReferenceSuperNet(nn.Module):
    """Eq. 4-6 with the parameters of a ``SuperNet``; build it with ``from_supernet``."""

    links: list[Link]

    def __init__(self, net: SuperNet) -> None:
        super().__init__()
        any_cell: Any = next(iter(net.cells.values()))
        mixed = next(iter(any_cell.edges.values()))
        activation = mixed.activation
        repeats = len(mixed.operators["sep"].repeats) + 1 if "sep" in mixed.operators else 1
        self.layers, self.nodes, self.widths = net.layers, net.nodes, net.widths
        self.share_cells, self.residual = net.share_cells, net.residual
        stem_convolution: Any = net.stem[0]
        middle, stem, first = stem_convolution.out_channels, net.nodes * net.widths[0], net.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(net.channels, middle, 3, padding=1, bias=False),
            nn.BatchNorm2d(middle, affine=False),
            nn.ReLU(),
            nn.Conv2d(middle, stem, 3, padding=1, bias=False),
            nn.BatchNorm2d(stem, affine=False),
        )
        self.entry = project(stem, first, activation)
        self.f: Any = nn.ModuleDict()
        self.widen: Any = nn.ModuleDict()
        self.cells: Any = nn.ModuleDict()
        for layer in range(self.layers):
            for i in self.levels(layer):
                width = self.widths[i]
                for k in self.sources(layer, i):
                    self.f[f"{layer}_{k}_{i}"] = project(self.nodes * self.widths[k], width, activation)
                    cell = ReferenceCell(width, self.nodes, net.operators, activation, repeats, net.normalise_skip)
                    self.cells[self.cell_name(layer, k, i)] = cell
                if i not in self.levels(layer - 1):
                    self.widen[f"{layer}_{i}"] = project(self.widths[i - 1], width, activation)
        last = sum(self.nodes * self.widths[i] for i in self.levels(self.layers - 1))
        self.head = nn.Conv2d(last, net.channels, 3, padding=1)
        self.alpha, self.beta = nn.Parameter(torch.zeros_like(net.alpha)), nn.Parameter(torch.zeros_like(net.beta))

    def levels(self, layer: int) -> range:
        """The width levels that can be reached in a layer, one more each time; the stem, layer -1, is at level 0."""
        return range(min(layer + 2, len(self.widths)))

    def sources(self, layer: int, i: int) -> list[int]:
        """The levels k of the layer before from which level i is reached."""
        return [k for k in (i - 1, i, i + 1) if k in self.levels(layer - 1)]

    def cell_name(self, layer: int, k: int, i: int) -> str:
        return f"{layer}_{i}" if self.share_cells else f"{layer}_{i}_{k}"

    def transitions(self, layer: int) -> dict[tuple[int, int], Tensor]:
        """beta of every transition k -> i: a softmax over those that leave k and stay inside the widths."""
        beta = {}
        for k in range(len(self.widths)):
            targets = [i for i in (k - 1, k, k + 1) if 0 <= i < len(self.widths)]
            logits = torch.stack([self.beta[layer, k, i - k + 1] for i in targets])
            beta.update({(k, i): weight for i, weight in zip(targets, torch.softmax(logits, dim=0), strict=True)})
        return beta

    def forward(self, image: Tensor) -> Tensor:
        h = [self.stem(image)]
        first = [self.entry(h[0])]
        for layer in range(self.layers):
            logits = self.alpha[layer if len(self.alpha) > 1 else 0]
            alpha = torch.softmax(logits, dim=1)
            beta, before = self.transitions(layer), h
            second, first, h = self.second_inputs(layer, first), [], []
            for i in self.levels(layer):
                sources = self.sources(layer, i)
                f = {k: self.f[f"{layer}_{k}_{i}"](before[k]) for k in sources}
                cell = {k: self.cells[self.cell_name(layer, k, i)] for k in sources}
                mixed = sum((beta[k, i] * f[k] for k in sources), torch.zeros_like(second[i]))
                if self.share_cells:
                    h.append(cell[sources[0]](second[i], mixed, alpha))  # eq. 5
                else:
                    parts = [beta[k, i] * cell[k](second[i], f[k], alpha) for k in sources]  # eq. 6
                    h.append(torch.stack(parts).sum(dim=0))
                first.append(mixed)
        return self.finish(image, h)

    def chosen(self, image: Tensor, cells: Sequence[Cell], moves: Sequence[Sequence[int]]) -> Tensor:
        """The network when every probability is one or zero: level k goes to level ``moves[layer][k]`` alone."""
        h = [self.stem(image)]
        first = [self.entry(h[0])]
        for layer in range(self.layers):
            before, second = h, self.second_inputs(layer, first)
            first, h = [], []
            for i in self.levels(layer):
                arriving = [k for k in self.sources(layer, i) if moves[layer][k] == i]
                f = {k: self.f[f"{layer}_{k}_{i}"](before[k]) for k in arriving}
                first.append(sum(f.values(), torch.zeros_like(second[i])))
                if self.share_cells:
                    h.append(self.cells[f"{layer}_{i}"].chosen(second[i], first[i], cells[layer]))
                else:
                    parts = (self.cells[f"{layer}_{i}_{k}"].chosen(second[i], f[k], cells[layer]) for k in arriving)
                    h.append(sum(parts, torch.zeros_like(second[i]).repeat(1, self.nodes, 1, 1)))
        return self.finish(image, h)

    def second_inputs(self, layer: int, first: list[Tensor]) -> list[Tensor]:
        """f_{l-2}: what the layer before had as first input; the level below, widened, where there was none."""
        new = self.levels(layer)[len(first) :]
        return first + [self.widen[f"{layer}_{i}"](first[i - 1]) for i in new]

    def finish(self, image: Tensor, h: list[Tensor]) -> Tensor:
        restored = self.head(torch.cat(h, dim=1))
        return image - restored if self.residual else restored

    @staticmethod
    def from_supernet(net: SuperNet) -> "ReferenceSuperNet":
        """A reference with copies of the parameters and running statistics of a supernet, and links to compare them."""
        reference = ReferenceSuperNet(net).to(net.alpha.dtype).train(net.training)
        reference.links = links_between(reference, net)
        with torch.no_grad():
            for link in reference.links:
                link.mine.copy_(link.theirs[link.rows])
        return reference
