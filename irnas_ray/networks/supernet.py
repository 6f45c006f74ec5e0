"""The differentiable supernet: supercells on paths of three widths (eq. 4-6)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.genotypes.cell import OPERATORS, Cell
from irnas_ray.genotypes.decoding import Margin, decode_cell, edges_of, viterbi, width_margins
from irnas_ray.genotypes.genotype import MOST_LAYERS, MOST_NODES, MULTIPLIERS, Genotype, plain_multipliers
from irnas_ray.genotypes.macro import Macro
from irnas_ray.kernels.mixed_batch_norm import normalised_sum
from irnas_ray.networks.operators import (
    activate,
    check_activation,
    check_operators,
    level_width,
    make_last,
    projection,
    resized,
)
from irnas_ray.networks.resolution import Down, Up, shuffled, unshuffled
from irnas_ray.networks.size import MOST_CANDIDATES, check_parameters, whole
from irnas_ray.networks.supercell import MixedEdges, SuperCell


class SuperNet(nn.Module):
    """The supernet that holds every candidate architecture; alpha and beta weight its operators and widths.

    Takes and gives images (b c h w) in [0, 1] of any size. ``share_cells=True`` is eq. 5 (one cell for each layer and
    width), ``False`` eq. 6 (one for each incoming path). ``tie_cells=False`` gives every layer its own alpha.
    ``residual=True`` predicts degraded - clean. ``recompute=True`` keeps little for the backward pass and computes it
    again there: a tenth of the memory for up to 40 % more time, with the same numbers. ``unshuffle``, ``normalisation``
    and the following are the choices of ``Macro``, which the genotype carries; the supernet itself has no pyramid, no
    low-level branch, and one convolution for a head. Raises ValueError naming the argument that is impossible. Source:
    sections 3.1 and 3.2.

    >>> import torch
    >>> import irnas_ray as ir
    >>> net = ir.SuperNet(channels=1, layers=2, nodes=2, width=2)
    >>> net(torch.rand(1, 1, 16, 16)).shape
    torch.Size([1, 1, 16, 16])
    >>> net.genotype().layers, len(net.genotype().cells[0])
    (2, 2)
    """

    border: Tensor
    stem: nn.Module
    entry: nn.Module

    def __init__(
        self,
        channels: int,
        layers: int,
        nodes: int,
        width: int,
        operators: Sequence[str] = OPERATORS,
        share_cells: bool = True,
        tie_cells: bool = True,
        residual: bool = False,
        multipliers: Sequence[float] = MULTIPLIERS,
        activation: str = "relu",
        sep_repeats: int = 1,
        stem_channels: int = 64,
        recompute: bool = False,
        unshuffle: int = 1,
        normalisation: str = "batch",
        aspp: bool = True,
        low_level: bool = True,
        head: str = "separable",
        lower_level: bool = False,
        normalise_skip: bool = False,
    ) -> None:
        super().__init__()
        self.macro = Macro(
            unshuffle=unshuffle,
            normalisation=normalisation,
            aspp=aspp,
            low_level=low_level,
            head=head,
            lower_level=lower_level,
        )
        self.pixel_step = self.macro.step()
        self.normalised, self.normalise_skip = normalisation == "batch", normalise_skip
        self.multipliers = plain_multipliers(multipliers)
        self._check_choices()
        channels, layers = whole("channels", channels), whole("layers", layers, most=MOST_LAYERS)
        nodes, width = whole("nodes", nodes, most=MOST_NODES), whole("width", width)
        stem_channels = whole("stem_channels", stem_channels)
        check_operators(list(operators))
        check_activation(activation)
        self.channels, self.layers, self.nodes, self.operators = channels, layers, nodes, tuple(operators)
        self.share_cells, self.residual = share_cells, residual
        self.activation, self.recompute = activation, recompute
        self.widths = [level_width(width, multiplier) for multiplier in self.multipliers]
        self._check_size(stem_channels)
        self.reach = [min(layer + 1, len(self.multipliers) - 1) for layer in range(layers)]

        self._build_stem(channels * unshuffle**2, stem_channels)
        self.widen = nn.ModuleDict()
        self.paths = nn.ModuleDict()
        self.cells = nn.ModuleDict()
        for layer in range(layers):
            self._build_layer(layer, sep_repeats)
        last = sum(self._wide(level) for level in range(self.reach[-1] + 1))
        self.head = make_last(last, channels * unshuffle**2, head == "linear" and residual)

        edges = edges_of(nodes)
        self.alpha = nn.Parameter(_nearly_zero(1 if tie_cells else layers, edges, len(operators)))
        self.beta = nn.Parameter(_nearly_zero(layers, len(self.multipliers), 3))
        self.register_buffer("border", self._border(), persistent=False)

    def _check_choices(self) -> None:
        """ValueError naming one of two choices that a supernet cannot have together."""
        if self.macro.lower_level and len(self.multipliers) > 1:
            raise ValueError(
                f"lower_level: a supernet with it has one width, not {len(self.multipliers)}; "
                "set architecture.multipliers=[1]"
            )
        if self.normalise_skip and not self.normalised:
            raise ValueError(
                "normalise_skip: architecture.normalisation=none normalises nothing else; leave out one of both"
            )

    def _check_size(self, stem_channels: int) -> None:
        edges = edges_of(self.nodes)
        candidates = self.layers * len(self.widths) * edges * len(self.operators)
        if candidates > MOST_CANDIDATES:
            raise ValueError(f"layers: {candidates} candidate operators on all edges; at most {MOST_CANDIDATES}")
        check_parameters(self.layers * edges * max(self.widths) ** 2 + stem_channels * self.channels)

    def _build_stem(self, inputs: int, stem_channels: int) -> None:
        wide = self._wide(0)
        if not self.normalised:
            self.stem, self.entry = nn.Conv2d(inputs, wide, 3, padding=1), nn.Identity()
            return
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, stem_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(stem_channels, affine=False),
            nn.ReLU(),
            nn.Conv2d(stem_channels, wide, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide, affine=False),
        )
        self.entry = self._projection(wide, self.widths[0])

    def _wide(self, level: int) -> int:
        """Channels of a cell's output: its nodes are concatenated, or joined where there is no normalisation."""
        return self.widths[level] * (self.nodes if self.normalised else 1)

    def _projection(self, inputs: int, outputs: int) -> nn.Module:
        return (
            projection(inputs, outputs, self.activation, affine=False) if self.normalised else resized(inputs, outputs)
        )

    def _build_layer(self, layer: int, sep_repeats: int) -> None:
        lower = self.macro.lower_layers(self.layers)
        scale = 2 if layer in lower else 1
        for target in range(self.reach[layer] + 1):
            width = self.widths[target] * scale
            for source in self._sources(layer, target):
                path = self._projection(self._wide(source) * scale, width)
                self.paths[f"layer{layer}_from{source}_to{target}"] = path
            if target > (self.reach[layer - 1] if layer else 0):
                self.widen[f"layer{layer}_to{target}"] = self._projection(self.widths[target - 1], width)
            for name in self._cell_names(layer, target):
                self.cells[name] = SuperCell(
                    width,
                    self.nodes,
                    self.operators,
                    self.activation,
                    sep_repeats,
                    self.recompute,
                    self.normalised,
                    self.normalise_skip,
                )
        if lower and layer == lower.start:
            self.down, self.down_first = Down(self._wide(0)), Down(self.widths[0])
        if lower and layer == lower.stop - 1:
            self.up, self.up_first = Up(2 * self._wide(0), self._wide(0)), Up(2 * self.widths[0], self.widths[0])

    def _sources(self, layer: int, target: int) -> list[int]:
        top = self.reach[layer - 1] if layer else 0
        return [source for source in (target - 1, target, target + 1) if 0 <= source <= top]

    def _cell_names(self, layer: int, target: int) -> list[str]:
        name = f"layer{layer}_level{target}"
        return [name] if self.share_cells else [f"{name}_from{source}" for source in self._sources(layer, target)]

    def _border(self) -> Tensor:
        """-inf where a transition would leave the width levels, else 0."""
        border = torch.zeros(self.layers, len(self.multipliers), 3)
        border[:, 0, 0] = -torch.inf
        border[:, -1, 2] = -torch.inf
        return border

    def forward(
        self,
        image: Float[Tensor, "b c h w"],
        path: Genotype | None = None,
        alpha: Float[Tensor, "cells edges operators"] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """The restored image of a degraded one, by the mixture or by one ``path`` through it.

        A path is a genotype of this space; its operators have the weights that they share with all other paths, and
        what is not on it is not computed. ``alpha`` weights the operators of the mixture in place of softmax(alpha).
        Raises ValueError where widths differ: a path has no second inputs then.
        """
        if path is not None and len(self.widths) > 1:
            raise ValueError(f"path: needs a supernet of one width, not of {len(self.widths)} multipliers")
        macro, (height, width) = self.macro, image.shape[-2:]
        alpha = torch.softmax(self.alpha, dim=-1) if alpha is None else alpha
        beta = torch.exp(self.log_beta())
        low = unshuffled(image, macro.unshuffle, macro.step())
        if path is not None and not self.normalised and image.device.type == "cpu":
            # the layout that final networks have; the mixture's many wide sums are slower in it
            low = low.contiguous(memory_format=torch.channels_last)
        stem = self.stem(low)
        outputs, firsts = [stem], [self.entry(stem)]
        lower, entered = macro.lower_layers(self.layers), (outputs, firsts)
        for layer in range(self.layers):
            if lower and layer == lower.start:
                entered = outputs, firsts
                outputs, firsts = [self.down(outputs[0])], [self.down_first(firsts[0])]
            if path is None:
                weights = alpha[layer if len(alpha) > 1 else 0]
                seconds = self._second_inputs(layer, firsts)
                outputs, firsts = self._layer(layer, outputs, seconds, weights, beta[layer])
            else:
                outputs, firsts = self._path_layer(layer, outputs[0], firsts[0], path.cell(layer))
            if lower and layer == lower.stop - 1:
                outputs = [entered[0][0] + self.up(outputs[0])]
                firsts = [entered[1][0] + self.up_first(firsts[0])]
        restored = shuffled(self.head(torch.cat(outputs, dim=1)), macro.unshuffle, height, width)
        return image - restored if self.residual else restored

    def _path_layer(self, layer: int, output: Tensor, second: Tensor, cell: Cell) -> tuple[list[Tensor], list[Tensor]]:
        """One cell of one path; where widths do not differ it reads what the mixture's cells read."""
        path = self.paths[f"layer{layer}_from0_to0"]
        if self.normalised:
            convolution = list(path.children())[1]
            first = F.batch_norm(convolution(activate(self.activation, output)), None, None, training=True)
        else:
            first = path(output)
        module = self.cells[self._cell_names(layer, 0)[0]]
        assert isinstance(module, SuperCell)
        return [module.path(second, first, cell)], [first]

    def _second_inputs(self, layer: int, firsts: list[Tensor]) -> list[Tensor]:
        """What the layer before had as first input; at a width that is new, the level below widened."""
        seconds = list(firsts)
        for target in range(len(firsts), self.reach[layer] + 1):
            seconds.append(self.widen[f"layer{layer}_to{target}"](firsts[target - 1]))
        return seconds

    def _layer(
        self, layer: int, outputs: list[Tensor], seconds: list[Tensor], weights: Tensor, beta: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs and first inputs of the layer's cells at every width; the paths to a width are mixed by beta."""
        new_outputs, firsts = [], []
        if self.normalised:
            # once for all the paths out of a width
            outputs = [activate(self.activation, output) for output in outputs]
        for target in range(self.reach[layer] + 1):
            sources = self._sources(layer, target)
            factors = torch.stack([beta[source, target - source + 1] for source in sources])
            cells = [self.cells[name] for name in self._cell_names(layer, target)]
            raw, norms = self._path_terms(layer, target, outputs)
            if self.share_cells:
                # eq. 4; terms without normalisation are just summed
                first = normalised_sum(raw, factors[:, None], norms) if norms else sum_weighted(raw, factors)
                output = cells[0](seconds[target], first, weights)  # eq. 5
            else:
                paths = [norm(term) for norm, term in zip(norms, raw, strict=True)] if norms else raw
                first = sum_weighted(paths, factors)
                each = [cell(seconds[target], path, weights) for cell, path in zip(cells, paths, strict=True)]
                output = sum_weighted(each, factors)  # eq. 6
            new_outputs.append(output)
            firsts.append(first)
        return new_outputs, firsts

    def _path_terms(self, layer: int, target: int, outputs: list[Tensor]) -> tuple[list[Tensor], list[nn.BatchNorm2d]]:
        """What each path brings to a width, before its normalisation, and these normalisations, if there are any."""
        raw, norms = [], []
        for source in self._sources(layer, target):
            path = self.paths[f"layer{layer}_from{source}_to{target}"]
            if self.normalised:
                _, path, norm = path.children()
                assert isinstance(norm, nn.BatchNorm2d)
                norms.append(norm)
            raw.append(path(outputs[source]))
        return raw, norms

    def set_remedies(self, auxiliary: float, skip_dropout: float) -> None:
        """From now on add every edge's input to it ``auxiliary`` times, and drop so much behind every skip."""
        for module in self.modules():
            if isinstance(module, MixedEdges):
                module.auxiliary, module.skip_dropout = auxiliary, skip_dropout

    def log_beta(self) -> Float[Tensor, "layers levels 3"]:
        """Log-probabilities of the transitions [halve, keep, double] out of each level; -inf over the border."""
        return torch.log_softmax(self.beta + self.border, dim=-1)

    def arch_parameters(self) -> list[nn.Parameter]:
        """alpha and beta."""
        return [self.alpha, self.beta]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything that is learned besides alpha and beta."""
        architecture = {id(parameter) for parameter in self.arch_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in architecture]

    def genotype(self) -> Genotype:
        """The discrete architecture that alpha and beta favour now."""
        cells = tuple(decode_cell(alpha, self.operators)[0] for alpha in self.alpha)
        return Genotype(cells, tuple(viterbi(self.log_beta())), self.multipliers, self.macro)

    def margins(self) -> list[Margin]:
        """How clearly every decision of ``genotype()`` was won."""
        margins = []
        for index, alpha in enumerate(self.alpha):
            prefix = f"cell {index} " if len(self.alpha) > 1 else ""
            for margin in decode_cell(alpha, self.operators)[1]:
                margins.append(Margin(prefix + margin.decision, margin.chosen, margin.runner_up, margin.margin))
        return margins + width_margins(self.log_beta())


def sum_weighted(tensors: list[Tensor], factors: Float[Tensor, " tensors"]) -> Tensor:
    """The sum of tensors, each times its scalar factor."""
    total = tensors[0] * factors[0]
    for tensor, factor in zip(tensors[1:], factors[1:], strict=True):
        total = total + tensor * factor
    return total


def _nearly_zero(*shape: int) -> Tensor:
    """Normal values with a standard deviation of 0.001, which favour nothing; of a tensor without values the shape."""
    values = torch.empty(shape)
    # there is nothing to draw or scale, and PyTorch would load its compiler to find out the shape of the product
    return values if values.is_meta else 1e-3 * values.normal_()
