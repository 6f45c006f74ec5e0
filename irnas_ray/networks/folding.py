"""The final network rearranged for inference: the same function in fewer and larger steps.

Exact, because in evaluation batch normalisation is affine and so part of the convolution before it; because all readers
of a feature share its activation; because 1x1 convolutions of one feature are one convolution with more outputs; and
because a 1x1 convolution of joined features is a sum of products.
"""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from irnas_ray.genotypes.macro import PAPER
from irnas_ray.kernels.geometry import Geometry
from irnas_ray.kernels.sampled_product import SampledProduct
from irnas_ray.networks.derived import AtrousPyramid, DerivedCell, DerivedEdge, DerivedNetwork
from irnas_ray.networks.operators import Convolution, DeformableConvolution, SeparableConvolution

#: The layout that convolutions of few channels like best, and that depthwise ones need most.
CHANNELS_LAST = torch.channels_last


def folded(network: DerivedNetwork) -> nn.Module:
    """A copy of a network that restores the same images to 1e-5, faster; it can neither be trained nor saved."""
    own = copy.deepcopy(network).eval()
    # what is rearranged is the form of the paper's network; of others only the layout changes
    fast = FoldedNetwork(own) if network.macro == PAPER else own.to(memory_format=CHANNELS_LAST)
    return fast.requires_grad_(False)


class FoldedNetwork(nn.Module):
    """What ``folded`` makes of a ``DerivedNetwork``; takes and gives the same images."""

    def __init__(self, network: DerivedNetwork) -> None:
        super().__init__()
        self.channels, self.residual = network.channels, network.residual
        slope = 0.0 if network.arguments()["activation"] == "relu" else 0.2
        self.activate = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
        first, first_norm, _, second, second_norm = network.stem.children()
        self.stem = nn.Sequential(_fold(first, first_norm), self.activate, _fold(second, second_norm))
        self.projections = nn.ModuleList(JointProjection(readers) for readers in _readers(network))
        cells = [cell for cell in network.cells if isinstance(cell, DerivedCell)]
        self.cells = nn.ModuleList(FoldedCell(cell, self.activate) for cell in cells)
        self.pyramid = FoldedPyramid(network.aspp, self.activate)
        one, two, _, last = network.head.children()
        self.head = nn.Sequential(_fold_separable(one), self.activate, _fold_separable(two), self.activate, last)
        self.to(memory_format=CHANNELS_LAST)

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The restored image of a degraded one."""
        feature = self.stem(image.contiguous(memory_format=CHANNELS_LAST))
        read: dict[str, Tensor] = {}
        for layer, projection in enumerate(self.projections):
            feature = self.activate(feature)
            read |= projection(feature)
            if layer < len(self.cells):
                feature = self.cells[layer](read.pop(f"before_last {layer}"), read.pop(f"last {layer}"))
        pyramid = self.pyramid(feature, read.pop("pyramid"))
        restored = self.head(self.activate(torch.cat([pyramid, read.pop("low_level")], dim=1)))
        return image - restored if self.residual else restored


class JointProjection(nn.Module):
    """All 1x1 convolutions that read one feature, as one."""

    def __init__(self, readers: dict[str, nn.Module]) -> None:
        super().__init__()
        convolutions = [_fold(*list(projection.children())[1:]) for projection in readers.values()]
        self.names, self.widths = list(readers), [convolution.out_channels for convolution in convolutions]
        self.convolution = nn.Conv2d(convolutions[0].in_channels, sum(self.widths), 1)
        self.convolution.weight = nn.Parameter(torch.cat([convolution.weight for convolution in convolutions]))
        biases = [convolution.bias for convolution in convolutions if convolution.bias is not None]
        self.convolution.bias = nn.Parameter(torch.cat(biases))

    def forward(self, activated: Float[Tensor, "b c h w"]) -> dict[str, Float[Tensor, "b _ h w"]]:
        """What each reader gets, by its name."""
        return dict(zip(self.names, self.convolution(activated).split(self.widths, dim=1), strict=True))


def _readers(network: DerivedNetwork) -> list[dict[str, nn.Module]]:
    """For the stem and every cell, the projections that read it."""
    readers: list[dict[str, nn.Module]] = [{} for _ in range(len(network.cells) + 1)]
    for layer, cell in enumerate(network.cells):
        assert isinstance(cell, DerivedCell)
        readers[max(0, layer - 1)][f"before_last {layer}"] = cell.project_before_last
        readers[layer][f"last {layer}"] = cell.project_last
    readers[-1]["pyramid"] = network.aspp.branches[0]
    readers[0 if network.low_level_layer is None else network.low_level_layer + 1]["low_level"] = network.low_level
    return readers


class FoldedCell(nn.Module):
    """A cell whose inputs are projected already and whose edges share the activations of their sources."""

    def __init__(self, cell: DerivedCell, activate: nn.Module) -> None:
        super().__init__()
        self.sources, self.activate = cell.sources, activate
        self.nodes = nn.ModuleList(
            nn.ModuleList(FoldedEdge(edge, activate) for edge in node.children() if isinstance(edge, DerivedEdge))
            for node in cell.nodes
        )

    def forward(self, before_last: Float[Tensor, "b c h w"], last: Float[Tensor, "b c h w"]) -> Tensor:
        """The joined nodes."""
        features = [before_last, last]
        activated: dict[int, Tensor] = {}
        for sources, edges in zip(self.sources, self.nodes, strict=True):
            outputs = []
            for source, edge in zip(sources, edges.children(), strict=True):
                if source not in activated:
                    activated[source] = self.activate(features[source].clone(memory_format=CHANNELS_LAST))
                outputs.append(edge(features[source], activated[source]))
            features.append(outputs[0] + outputs[1])
        return torch.cat(features[2:], dim=1)


class FoldedEdge(nn.Module):
    """An operator with its normalisation folded in; an operator that is not known here stays as it is."""

    def __init__(self, edge: DerivedEdge, activate: nn.Module) -> None:
        super().__init__()
        operator, norm = edge.operator, edge.norm
        self.edge: nn.Module | None = None
        self.step: nn.Module = nn.Identity()
        if norm is None:
            self.edge = edge
        elif isinstance(operator, Convolution):
            self.step = _fold(operator.convolution, norm)
        elif isinstance(operator, SeparableConvolution):
            self.step = _fold_pairs(operator, norm, activate)
        elif isinstance(operator, DeformableConvolution):
            self.step = FoldedDeformable(operator, norm)
        else:
            self.edge = edge

    def forward(self, source: Float[Tensor, "b c h w"], activated: Float[Tensor, "b c h w"]) -> Tensor:
        """The edge's output."""
        return self.step(activated) if self.edge is None else self.edge(source)


class FoldedDeformable(nn.Module):
    """A deformable convolution with its normalisation in kernel and bias."""

    def __init__(self, operator: DeformableConvolution, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.predictor = operator.predictor
        assert norm.running_mean is not None and norm.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            operator.convolution.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, activated: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The output of the operator and its normalisation."""
        predicted = self.predictor(activated)
        offset, mask = predicted[:, None, :18].unflatten(2, (9, 2)), predicted[:, None, 18:].sigmoid_()
        geometry = Geometry((3, 3), (1, 1), (1, 1), (1, 1), (activated.shape[2], activated.shape[3]))
        kernel = self.weight.flatten(1).unsqueeze(0)
        product = SampledProduct.apply(activated[:, None], offset, mask, kernel, geometry)[:, 0]
        return product.add_(self.bias[:, None, None]).contiguous(memory_format=CHANNELS_LAST)


class FoldedPyramid(nn.Module):
    """The atrous pyramid; the convolution that joins its branches adds each as it comes, so that none is copied."""

    def __init__(self, pyramid: AtrousPyramid, activate: nn.Module) -> None:
        super().__init__()
        self.activate = activate
        self.branches = nn.ModuleList(_fold_separable(branch) for branch in list(pyramid.branches)[1:])
        self.join = _fold(*list(pyramid.join.children())[1:])

    def forward(self, activated: Float[Tensor, "b c h w"], first: Float[Tensor, "b o h w"]) -> Tensor:
        """The joined branches; ``first`` is the output of the 1x1 branch."""
        weights = self.join.weight.chunk(len(self.branches) + 1, dim=1)
        total = F.conv2d(self.activate(first.clone(memory_format=CHANNELS_LAST)), weights[0], self.join.bias)
        for weight, branch in zip(weights[1:], self.branches, strict=True):
            total += F.conv2d(self.activate(branch(activated)), weight)
        return total


def _fold(convolution: nn.Module, norm: nn.Module) -> nn.Conv2d:
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(convolution, norm)


def _fold_separable(block: nn.Module) -> nn.Sequential:
    """Depthwise and pointwise convolution of a block whose activation is left to the caller."""
    _, depthwise, pointwise, norm = block.children()
    return nn.Sequential(depthwise, _fold(pointwise, norm))


def _fold_pairs(operator: SeparableConvolution, norm: nn.Module, activate: nn.Module) -> nn.Sequential:
    """All pairs of a separable convolution; each takes the normalisation before the next one, the last the edge's."""
    repeats = [list(repeat.children()) for repeat in operator.repeats]
    pairs = [(operator.depthwise, operator.pointwise), *((repeat[2], repeat[3]) for repeat in repeats)]
    steps: list[nn.Module] = []
    for (depthwise, pointwise), following in zip(pairs, [*(repeat[0] for repeat in repeats), norm], strict=True):
        steps += [activate, depthwise, _fold(pointwise, following)]
    return nn.Sequential(*steps[1:])
