"""The final network that a genotype describes (right side of figure 2, with ASPP), built to be trained from scratch."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.genotypes.cell import Cell, Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.operators import (
    ACTIVATIONS,
    OPERATIONS,
    DeformableConvolution,
    DilatedConv2d,
    activate,
    check_activation,
    joined,
    level_width,
    make_last,
    projection,
    resized,
)
from irnas_ray.networks.resolution import Down, Up, shuffled, unshuffled
from irnas_ray.networks.size import check_parameters, whole

ASPP_RATES = (2, 4, 6)
#: Parameters of an edge for each pair of its channels, where they are many.
_EDGE_PARAMETERS = {"conv": 9, "dil": 9, "def": 9, "sep": 1}


class DerivedEdge(nn.Module):
    """One kept operator of a node, with learned affine batch normalisation unless the network has none."""

    def __init__(self, width: int, edge: Edge, activation: str, sep_repeats: int, normalised: bool = True) -> None:
        super().__init__()
        self.activation = activation
        norm = nn.BatchNorm2d if normalised else nn.Identity
        operator = OPERATIONS[edge.operator](width, 1, activation, sep_repeats, norm)
        self.operator = operator
        self.norm = nn.BatchNorm2d(width) if operator.normalised and normalised else None

    def forward(self, source: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if not self.operator.normalised:
            return self.operator(source, source)
        output = self.operator(source, activate(self.activation, source))
        return output if self.norm is None else self.norm(output)


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


class ResidualCell(nn.Module):
    """A decoded cell without normalisation: what its nodes make is added to its last input (see ``joined``)."""

    def __init__(self, cell: Cell, before_last: int, last: int, width: int, activation: str, sep_repeats: int) -> None:
        super().__init__()
        self.sources = [[edge.source for edge in node] for node in cell]
        self.project_before_last, self.project_last = resized(before_last, width), resized(last, width)
        self.nodes = nn.ModuleList(
            nn.ModuleList(DerivedEdge(width, edge, activation, sep_repeats, normalised=False) for edge in node)
            for node in cell
        )
        self.join = joined(len(cell), width)

    def forward(
        self, before_last: Float[Tensor, "b c1 h w"], last: Float[Tensor, "b c2 h w"]
    ) -> Float[Tensor, "b out h w"]:
        last = self.project_last(last)
        features = [self.project_before_last(before_last), last]
        for (first, second), edges in zip(self.sources, self.nodes, strict=True):
            one, two = edges.children()
            features.append(one(features[first]) + two(features[second]))
        return last + self.join(torch.cat(features[2:], dim=1))


class DerivedNetwork(nn.Module):
    """The network of a genotype: stem, cells of the decoded widths, and a head, as its macro choices say.

    Takes and gives images (b c h w) in [0, 1] of any height and width. ``width`` is the basic width W; the paper
    retrains with 20 for denoising and 15 for de-raining. The other channel numbers follow the authors' releases; a
    network without normalisation has a stem of W channels. ``residual=True`` predicts degraded - clean. Raises
    ValueError naming the argument that is impossible, such as a ``width`` that times a multiplier is no whole number.
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
        channels, width = whole("channels", channels), whole("width", width)
        sep_repeats, stem_channels = whole("sep_repeats", sep_repeats), whole("stem_channels", stem_channels)
        aspp_channels = whole("aspp_channels", aspp_channels)
        low_level_channels = whole("low_level_channels", low_level_channels)
        self.genotype, self.channels, self.macro = genotype, channels, genotype.macro
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
        check_parameters(self._least_parameters())
        self.residual = residual
        self.pixel_step = self.macro.step()
        self.normalised = self.macro.normalisation == "batch"
        stem_width = stem_channels if self.normalised else level_width(width, genotype.multipliers[0])
        self.stem = make_stem(channels * self.macro.unshuffle**2, stem_width, activation, self.normalised)
        self.low_level_layer: int | None = None
        last, low_level = self._make_cells(width, stem_width, activation, sep_repeats)
        inputs = last
        if self.macro.aspp:
            self.aspp = AtrousPyramid(last, aspp_channels, activation, self.normalised)
            inputs = aspp_channels
        if self.macro.low_level:
            self.low_level = _projection(low_level, low_level_channels, activation, self.normalised)
            inputs += low_level_channels
        self.head = self._make_head(inputs, aspp_channels, activation)

    def _least_parameters(self) -> int:
        """Parameters of the edges, stem and pyramid, without what a closer look would add."""
        own: Any = self._arguments
        genotype, stem = self.genotype, own["stem_channels"]
        least = 9 * self.channels * stem + own["aspp_channels"] ** 2 + own["low_level_channels"]
        for layer, level in enumerate(genotype.levels):
            edges = [_EDGE_PARAMETERS.get(edge.operator, 0) for node in genotype.cell(layer) for edge in node]
            least += (sum(edges) + 1) * level_width(own["width"], genotype.multipliers[level]) ** 2
        return least

    def _make_cells(self, width: int, stem_width: int, activation: str, sep_repeats: int) -> tuple[int, int]:
        """Build the cells; the channels of the last one's output, and of the low-level features."""
        genotype, lower = self.genotype, self.macro.lower_layers(self.genotype.layers)
        self.cells = nn.ModuleList()
        before_last = last = low_level = entered = stem_width
        for layer, level in enumerate(genotype.levels):
            if lower and layer == lower.start:
                entered, self.down = last, Down(last)
                before_last = last = 2 * last
            cell_width = level_width(width, genotype.multipliers[level]) * (2 if layer in lower else 1)
            cell = genotype.cell(layer)
            kind = DerivedCell if self.normalised else ResidualCell
            self.cells.append(kind(cell, before_last, last, cell_width, activation, sep_repeats))
            before_last, last = last, len(cell) * cell_width if self.normalised else cell_width
            if lower and layer == lower.stop - 1:
                self.up = Up(last, entered)
                before_last = last = entered
            if level == 0 and layer not in lower:
                self.low_level_layer, low_level = layer, last
        return last, low_level

    def _make_head(self, inputs: int, width: int, activation: str) -> nn.Sequential:
        outputs = self.channels * self.macro.unshuffle**2
        blocks: list[nn.Module] = []
        if self.macro.head == "separable":
            blocks = [separable(inputs, width, 1, activation, self.normalised)]
            blocks.append(separable(width, width, 1, activation, self.normalised))
            inputs = width
        if self.macro.head == "linear":
            return nn.Sequential(make_last(inputs, outputs, zero=self.residual))
        return nn.Sequential(*blocks, ACTIVATIONS[activation](), make_last(inputs, outputs))

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The restored image of a degraded one."""
        macro, (height, width) = self.macro, image.shape[-2:]
        features = self._features(self.stem(unshuffled(image, macro.unshuffle, macro.step())))
        restored = shuffled(self.head(features), macro.unshuffle, height, width)
        return image - restored if self.residual else restored

    def _features(self, stem: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h w"]:
        """What the head reads."""
        lower = self.macro.lower_layers(len(self.cells))
        low_level = before_last = last = entered = stem
        for layer, cell in enumerate(self.cells):
            if lower and layer == lower.start:
                entered = last
                before_last = last = self.down(last)
            before_last, last = last, cell(before_last, last)
            if lower and layer == lower.stop - 1:
                before_last = last = entered + self.up(last)
            if layer == self.low_level_layer:
                low_level = last
        features = self.aspp(last) if self.macro.aspp else last
        return torch.cat([features, self.low_level(low_level)], dim=1) if self.macro.low_level else features

    def arguments(self) -> dict[str, int | bool | str]:
        """The constructor's arguments besides the genotype, as plain values."""
        return dict(self._arguments)

    def pixel_share(self, name: str) -> float:
        """At how many places the module of this name works, for each pixel of the image."""
        lower = self.macro.lower_layers(len(self.cells))
        is_lower = name.startswith("up.") or any(name.startswith(f"cells.{layer}.") for layer in lower)
        # a convolution of stride 2 counts where its results are
        return 1 / (self.macro.unshuffle * (2 if is_lower or name.startswith("down.") else 1)) ** 2


def make_stem(inputs: int, width: int, activation: str, normalised: bool) -> nn.Module:
    """Two convolutions with batch normalisation, or one convolution without."""
    if not normalised:
        return nn.Conv2d(inputs, width, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        ACTIVATIONS[activation](),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
    )


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid without pooling: a 1x1 branch and separable branches of rates 2, 4, 6, joined by 1x1."""

    def __init__(self, inputs: int, outputs: int, activation: str, normalised: bool = True) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [_projection(inputs, outputs, activation, normalised)]
            + [separable(inputs, outputs, rate, activation, normalised) for rate in ASPP_RATES]
        )
        self.join = _projection(len(self.branches) * outputs, outputs, activation, normalised)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h w"]:
        return self.join(torch.cat([branch(features) for branch in self.branches], dim=1))


def separable(inputs: int, outputs: int, dilation: int, activation: str, normalised: bool = True) -> nn.Sequential:
    """Activation, 3x3 depthwise and 1x1 pointwise convolution, and batch normalisation if it is wanted."""
    depthwise = nn.Conv2d if dilation == 1 else DilatedConv2d
    layers = [
        ACTIVATIONS[activation](),
        depthwise(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=not normalised),
    ]
    return nn.Sequential(*layers, *([nn.BatchNorm2d(outputs)] if normalised else []))


def _projection(inputs: int, outputs: int, activation: str, normalised: bool) -> nn.Sequential:
    if normalised:
        return projection(inputs, outputs, activation, affine=True)
    return nn.Sequential(ACTIVATIONS[activation](), nn.Conv2d(inputs, outputs, 1))


def count_parameters(network: nn.Module) -> int:
    """Number of learned values of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds_per_pixel(network: nn.Module) -> int:
    """Multiplications with an addition for each pixel of the image, rounded.

    Every convolution weight counts once for each place where the convolution works; a deformable convolution adds four
    for each bilinear sample and one for its mask. Batch normalisation folds into the convolutions and counts nothing.
    """
    share = network.pixel_share if isinstance(network, DerivedNetwork) else lambda name: 1.0
    total = 0.0
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            total += share(name) * module.weight.numel()
        if isinstance(module, DeformableConvolution):
            total += share(name) * 9 * module.destinations * (4 * module.width + 1 * module.width)
    return round(total)
