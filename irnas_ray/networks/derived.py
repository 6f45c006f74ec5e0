"""The final network that a genotype describes (right side of figure 2, with ASPP), built to be trained from scratch."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.genotypes.cell import Cell, Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.operators import (
    ACTIVATIONS,
    OPERATIONS,
    DeformableConvolution,
    activate,
    check_activation,
    level_width,
    projection,
)

ASPP_RATES = (2, 4, 6)


class DerivedEdge(nn.Module):
    """One kept operator of a node, with learned affine batch normalisation."""

    def __init__(self, width: int, edge: Edge, activation: str, sep_repeats: int) -> None:
        super().__init__()
        self.activation = activation
        operator = OPERATIONS[edge.operator](width, 1, activation, sep_repeats, affine=True)
        self.operator = operator
        self.norm = nn.BatchNorm2d(width) if operator.normalised else None

    def forward(self, source: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if self.norm is None:
            return self.operator(source, source)
        return self.norm(self.operator(source, activate(self.activation, source)))


class DerivedCell(nn.Module):
    """A decoded cell: both inputs are projected to its width, each node adds its two edges, the nodes are joined."""

    def __init__(self, cell: Cell, before_last: int, last: int, width: int, activation: str, sep_repeats: int) -> None:
        super().__init__()
        self.sources = [[edge.source for edge in node] for node in cell]
        self.project_before_last = projection(before_last, width, activation, affine=True)
        self.project_last = projection(last, width, activation, affine=True)
        self.nodes = nn.ModuleList(
            nn.ModuleList(DerivedEdge(width, edge, activation, sep_repeats) for edge in node) for node in cell
        )

    def forward(
        self, before_last: Float[Tensor, "b c1 h w"], last: Float[Tensor, "b c2 h w"]
    ) -> Float[Tensor, "b out h w"]:
        features = [self.project_before_last(before_last), self.project_last(last)]
        for (first, second), (first_edge, second_edge) in zip(self.sources, self._edges(), strict=True):
            features.append(first_edge(features[first]) + second_edge(features[second]))
        return torch.cat(features[2:], dim=1)

    def _edges(self) -> list[list[nn.Module]]:
        return [list(edges.children()) for edges in self.nodes]


class DerivedNetwork(nn.Module):
    """The network of a genotype: stem, cells of the decoded widths, ASPP, and a head that sees low-level features.

    Takes and gives images (b c h w) in [0, 1] of any height and width. ``width`` is the basic width W; the paper
    retrains with 20 for denoising and 15 for de-raining. The other channel numbers follow the authors' releases.
    ``residual=True`` predicts degraded - clean. Raises ValueError if ``width`` times a multiplier is no whole number.
    Source: sections 3.1, 3.2, 4.1.

    >>> import torch
    >>> import irnas_ray as ir
    >>> network = ir.DerivedNetwork(ir.load_genotype("irnas_denoise"), channels=1, width=4)
    >>> network(torch.rand(1, 1, 17, 16)).shape
    torch.Size([1, 1, 17, 16])
    """

    def __init__(
        self,
        genotype: Genotype,
        channels: int,
        width: int,
        residual: bool = False,
        activation: str = "relu",
        sep_repeats: int = 1,
        stem_channels: int = 64,
        aspp_channels: int = 128,
        low_level_channels: int = 48,
    ) -> None:
        super().__init__()
        check_activation(activation)
        self.genotype, self.channels = genotype, channels
        self._arguments: dict[str, int | bool | str] = {
            "channels": channels,
            "width": width,
            "residual": residual,
            "activation": activation,
            "sep_repeats": sep_repeats,
            "stem_channels": stem_channels,
            "aspp_channels": aspp_channels,
            "low_level_channels": low_level_channels,
        }
        for name, value in self._arguments.items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ValueError(f"{name}: {value}; at least 1")
        self.residual = residual
        self.stem = nn.Sequential(
            nn.Conv2d(channels, stem_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(stem_channels),
            ACTIVATIONS[activation](),
            nn.Conv2d(stem_channels, stem_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(stem_channels),
        )
        self.cells = nn.ModuleList()
        before_last = last = stem_channels
        low_level = stem_channels
        self.low_level_layer: int | None = None
        for layer, level in enumerate(genotype.levels):
            cell_width = level_width(width, genotype.multipliers[level])
            cell = genotype.cell(layer)
            self.cells.append(DerivedCell(cell, before_last, last, cell_width, activation, sep_repeats))
            before_last, last = last, len(cell) * cell_width
            if level == 0:
                self.low_level_layer, low_level = layer, last
        self.aspp = AtrousPyramid(last, aspp_channels, activation)
        self.low_level = projection(low_level, low_level_channels, activation, affine=True)
        self.head = nn.Sequential(
            separable(aspp_channels + low_level_channels, aspp_channels, 1, activation),
            separable(aspp_channels, aspp_channels, 1, activation),
            ACTIVATIONS[activation](),
            nn.Conv2d(aspp_channels, channels, 3, padding=1),
        )

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The restored image of a degraded one."""
        low_level = before_last = last = self.stem(image)
        for layer, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last)
            if layer == self.low_level_layer:
                low_level = last
        restored = self.head(torch.cat([self.aspp(last), self.low_level(low_level)], dim=1))
        return image - restored if self.residual else restored

    def arguments(self) -> dict[str, int | bool | str]:
        """The constructor's arguments besides the genotype, as plain values."""
        return dict(self._arguments)


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid without pooling: a 1x1 branch and separable branches of rates 2, 4, 6, joined by 1x1."""

    def __init__(self, inputs: int, outputs: int, activation: str) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [projection(inputs, outputs, activation, affine=True)]
            + [separable(inputs, outputs, rate, activation) for rate in ASPP_RATES]
        )
        self.join = projection(len(self.branches) * outputs, outputs, activation, affine=True)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h w"]:
        return self.join(torch.cat([branch(features) for branch in self.branches], dim=1))


def separable(inputs: int, outputs: int, dilation: int, activation: str) -> nn.Sequential:
    """Activation, 3x3 depthwise and 1x1 pointwise convolution, batch normalisation."""
    return nn.Sequential(
        ACTIVATIONS[activation](),
        nn.Conv2d(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    )


def count_parameters(network: nn.Module) -> int:
    """Number of learned values of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds_per_pixel(network: nn.Module) -> int:
    """Multiplications with an addition for each output pixel of a network that keeps the resolution.

    Every convolution weight counts once; a deformable convolution adds four for each bilinear sample and one for its
    mask. Batch normalisation folds into the convolutions and counts nothing.
    """
    total = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            total += module.weight.numel()
        if isinstance(module, DeformableConvolution):
            total += 9 * module.destinations * (4 * module.width + 1 * module.width)
    return total
