"""Small networks with every operator, whose weights and statistics hide nothing."""

import torch
from torch import nn

import irnas_ray as ir
from irnas_ray.networks.derived import DerivedNetwork

#: The operators of two nodes.
OPERATORS = ("def sep dil skip", "conv gate dil def")
MACROS = (
    ir.Macro(),
    ir.Macro(unshuffle=2, normalisation="none", aspp=False, low_level=False, head="plain"),
    ir.Macro(unshuffle=4, lower_level=True),
    ir.Macro(normalisation="none", lower_level=True),
)


def small_network(
    macro: ir.Macro, operators: str, channels: int = 1, levels: tuple[int, ...] = (0, 1, 0)
) -> DerivedNetwork:
    """A network of one cell for every layer: n0 from both inputs, n1 from the last one and n0."""
    torch.manual_seed(0)
    names = operators.split()
    edges = [ir.genotypes.Edge(source, name) for source, name in zip((0, 1, 1, 2), names, strict=True)]
    genotype = ir.Genotype(((tuple(edges[:2]), tuple(edges[2:])),), levels, macro=macro)
    sizes = {"stem_channels": 6, "aspp_channels": 8, "low_level_channels": 4}
    return settled(DerivedNetwork(genotype, channels, 4, residual=True, sep_repeats=2, **sizes))


def settled(network: DerivedNetwork) -> DerivedNetwork:
    """The network in evaluation mode, with weights that are not zero and statistics that are not those of no data."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, 0, 0.1)
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()
