"""The final network evaluated straight from its genotype: the definition that its wiring is measured against."""

import torch
import torch.nn.functional as F
from reference_deformable import plain_deform_conv2d
from torch import Tensor

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.derived import DerivedNetwork


def act(x: Tensor, net: DerivedNetwork) -> Tensor:
    return F.relu(x) if net.arguments()["activation"] == "relu" else F.leaky_relu(x, 0.2)


def norm(x: Tensor, layer) -> Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)


def separable(x: Tensor, depthwise, pointwise, rate: int = 1) -> Tensor:
    x = F.conv2d(x, depthwise.weight, padding=rate, dilation=rate, groups=x.shape[1])
    return F.conv2d(x, pointwise.weight)


def apply_edge(name: str, x: Tensor, edge, net: DerivedNetwork) -> Tensor:
    """The operator of this name with the parameters of an edge."""
    operator, active = edge.operator, act(x, net)
    if name == "skip":
        return x
    if name in ("conv", "dil"):
        rate = 1 if name == "conv" else 2
        return norm(F.conv2d(active, operator.convolution.weight, padding=rate, dilation=rate), edge.norm)
    if name == "sep":
        y = separable(active, operator.depthwise, operator.pointwise)
        for between, _, depthwise, pointwise in operator.repeats:
            y = separable(act(norm(y, between), net), depthwise, pointwise)
        return norm(y, edge.norm)
    if name != "def":
        raise ValueError(f"{name}: has no plain form here")
    predicted = F.conv2d(active, operator.predictor.weight, operator.predictor.bias, padding=1)
    offset, mask = predicted[:, :18], predicted[:, 18:].sigmoid()
    weight = operator.convolution.weight
    return norm(plain_deform_conv2d(active, offset, weight, padding=(1, 1), mask=mask), edge.norm)


def evaluate(genotype: Genotype, net, image: Tensor) -> Tensor:
    """The network from its genotype: stem, cells, ASPP and head, with the parameters of ``net``."""

    def project(x: Tensor, block) -> Tensor:
        return norm(F.conv2d(act(x, net), block[1].weight), block[2])

    def separable_block(x: Tensor, block, rate: int) -> Tensor:
        return norm(separable(act(x, net), block[1], block[2], rate), block[3])

    first, first_norm, _, second, second_norm = net.stem
    stem = norm(F.conv2d(image, first.weight, padding=1), first_norm)
    stem = norm(F.conv2d(act(stem, net), second.weight, padding=1), second_norm)
    h = [stem, stem]  # h(-1) and h(0)
    low_level = stem
    for layer, level in enumerate(genotype.levels):
        built = net.cells[layer]
        inputs = [project(h[-2], built.project_before_last), project(h[-1], built.project_last)]
        for edges, kept in zip(built.nodes, genotype.cell(layer), strict=True):
            parts = [apply_edge(k.operator, inputs[k.source], e, net) for e, k in zip(edges, kept, strict=True)]
            inputs.append(parts[0] + parts[1])
        h.append(torch.cat(inputs[2:], dim=1))
        if level == 0:
            low_level = h[-1]
    one, *atrous = net.aspp.branches
    pyramid = [project(h[-1], one)] + [separable_block(h[-1], b, r) for b, r in zip(atrous, (2, 4, 6), strict=True)]
    x = torch.cat([project(torch.cat(pyramid, dim=1), net.aspp.join), project(low_level, net.low_level)], dim=1)
    for block in net.head[:2]:
        x = separable_block(x, block, 1)
    restored = F.conv2d(act(x, net), net.head[3].weight, net.head[3].bias, padding=1)
    return image - restored if net.arguments()["residual"] else restored
