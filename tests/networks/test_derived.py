"""The final network: its wiring against an evaluation straight from the genotype, its size against the paper."""

import itertools
from typing import Any

import pytest
import torch
from reference_network import evaluate
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from irnas_ray.genotypes.cell import OPERATORS, Cell, Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.derived import DerivedNetwork, count_parameters, multiply_adds_per_pixel

SMALL = {"stem_channels": 6, "aspp_channels": 5, "low_level_channels": 4}


def cell_of(text: str) -> Cell:
    """A cell from "operator<-input operator<-input | ..."."""
    nodes = [[edge.split("<-") for edge in node.split()] for node in text.split("|")]
    one_two = [[Edge(int(source), operator) for operator, source in node] for node in nodes]
    return tuple((one, two) for one, two in one_two)


DENOISING = cell_of("conv<-0 conv<-1 | dil<-2 dil<-1 | skip<-0 def<-2 | def<-4 def<-0 | skip<-5 skip<-1")
DERAINING = cell_of("def<-1 skip<-0 | def<-0 conv<-1 | def<-2 skip<-0 | def<-2 conv<-1")
EVERYTHING = cell_of("conv<-0 sep<-1 | dil<-2 def<-0 | skip<-3 conv<-1 | sep<-4 skip<-0")
GENOTYPES = {
    "denoising": Genotype((DENOISING,), (0, 0, 1, 1)),
    "de-raining": Genotype((DERAINING,), (1, 2, 2)),
    "every operator, up and down": Genotype((EVERYTHING,), (0, 1, 0, 1, 2)),
    "a cell for each layer": Genotype((EVERYTHING[:2], DERAINING[:2]), (1, 0)),
    "one layer": Genotype((EVERYTHING,), (0,)),
}


def make_net(genotype: Genotype, seed: int = 0, width: int = 2, channels: int = 1, **arguments) -> Any:
    """A small network in float64 with nothing left at its initial value."""
    torch.manual_seed(seed)
    net = DerivedNetwork(genotype, channels, width, **(SMALL | arguments)).double().eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "predictor" in name:
                parameter.normal_(0, 0.1)  # offsets of about a pixel: none must leave the image altogether
            elif parameter.ndim == 1:
                parameter.normal_(0.5, 0.5)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    return net


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("arguments", [{}, {"activation": "leaky_relu", "sep_repeats": 2, "residual": True}], ids=str)
@pytest.mark.parametrize("name", GENOTYPES)
def test_wiring(name, arguments):
    net = make_net(GENOTYPES[name], channels=3, **arguments)
    image = images(2, 3, 9, 8)  # larger than the widest atrous rate, or its outer weights would see no pixel
    torch.testing.assert_close(net(image), evaluate(GENOTYPES[name], net, image), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", GENOTYPES)
def test_widths_follow_the_levels(name):
    genotype = GENOTYPES[name]
    net = make_net(genotype, width=4)
    seen: list[int] = []
    for cell in net.cells:
        cell.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    net(images(1, 1, 4, 4))
    assert seen == [genotype.nodes * 4 * 2**level for level in genotype.levels]


@pytest.mark.parametrize("height,width", [(1, 1), (1, 7), (5, 1), (2, 3), (13, 8)])
def test_any_size(height, width):
    output = make_net(GENOTYPES["every operator, up and down"])(images(1, 1, height, width))
    assert output.shape == (1, 1, height, width) and torch.isfinite(output).all()


def test_every_parameter_learns():
    net = make_net(GENOTYPES["every operator, up and down"]).train()
    net(images(2, 1, 6, 6)).square().sum().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def changed(cell: Cell, node: int, edge: int, new: Edge) -> Cell:
    edges = [*cell[node]]
    edges[edge] = new
    return (*cell[:node], (edges[0], edges[1]), *cell[node + 1 :])


def test_every_input_of_the_genotype_is_used():
    """Another input changes the output of a network with the very same parameters."""
    genotype, image = Genotype((EVERYTHING,), (0, 1)), images(1, 1, 6, 6)
    net = make_net(genotype)
    for node, edge in itertools.product(range(len(EVERYTHING)), range(2)):
        kept = genotype.cells[0][node]
        for source in set(range(node + 2)) - {one.source for one in kept}:
            pair = [*kept]
            pair[edge] = Edge(source, kept[edge].operator)
            if pair != sorted(pair):
                continue  # sorting would exchange the operators' parameters
            moved = Genotype((changed(genotype.cells[0], node, edge, pair[edge]),), genotype.levels)
            other = make_net(moved)
            other.load_state_dict(net.state_dict())
            assert (other(image) - net(image)).abs().max() > 1e-6, (node, edge, source)


def test_every_operator_of_the_genotype_is_used():
    genotype, image = Genotype((EVERYTHING,), (0, 1)), images(1, 1, 6, 6)
    for node, edge in itertools.product(range(len(EVERYTHING)), range(2)):
        kept = genotype.cells[0][node][edge]
        outputs = {}
        for name in OPERATORS[:-1]:
            cell = changed(genotype.cells[0], node, edge, Edge(kept.source, name))
            net = make_net(Genotype((cell,), genotype.levels))
            kinds = [type(e.operator).__name__ for e in net.cells[1].nodes[node]]
            outputs[name] = (kinds[edge], net(image))
        assert len({kind for kind, _ in outputs.values()}) == len(outputs)
        for (_, one), (_, two) in itertools.combinations(outputs.values(), 2):
            assert (one - two).abs().max() > 1e-6


def test_every_layer_has_its_own_cell():
    one, two = EVERYTHING[:2], DERAINING[:2]
    names = [
        [
            [type(e.operator).__name__ for e in node]
            for cell in make_net(Genotype(cells, (0, 0))).cells
            for node in cell.nodes
        ]
        for cells in ((one, two), (two, one), (one,))
    ]
    assert names[0] == names[1][2:] + names[1][:2] and names[2] == names[0][:2] * 2


def test_published_denoiser_has_the_size_of_table_1():
    net = DerivedNetwork(Genotype((DENOISING,), (0, 0, 1, 1)), 1, 20)
    assert count_parameters(net) == 628_325
    assert round(count_parameters(net) / 1e6, 2) == 0.63


@pytest.mark.parametrize("sep_repeats", [1, 2])
def test_multiply_adds_equal_the_counted_ones(sep_repeats):
    cell = cell_of("conv<-0 sep<-1 | dil<-2 skip<-0 | sep<-3 conv<-1")
    net = make_net(Genotype((cell,), (0, 1, 2)), channels=3, sep_repeats=sep_repeats)
    image = images(1, 3, 7, 9)
    with FlopCounterMode(display=False) as counter:
        net(image)
    assert counter.get_total_flops() == 2 * multiply_adds_per_pixel(net) * 7 * 9


def test_multiply_adds_of_a_deformable_operator():
    """27 predicted values, the convolution, and four multiply-adds and one mask for each sample."""
    plain, deformable = (
        make_net(Genotype((cell_of(f"{name}<-0 skip<-1"),), (1,)), width=3) for name in ("conv", "def")
    )
    channels = 6
    extra = 9 * channels * 27 + 9 * channels * 5
    assert multiply_adds_per_pixel(deformable) - multiply_adds_per_pixel(plain) == extra


def test_residual_predicts_the_degradation():
    nets = [make_net(GENOTYPES["one layer"], residual=residual) for residual in (False, True)]
    image = images(1, 1, 4, 4)
    torch.testing.assert_close(nets[0](image) + nets[1](image), image)


def test_arguments_build_the_same_network():
    net = make_net(GENOTYPES["one layer"], activation="leaky_relu", sep_repeats=2, residual=True)
    again = DerivedNetwork(net.genotype, **net.arguments()).double().eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(net(images(1, 1, 4, 4)), again(images(1, 1, 4, 4)))


@pytest.mark.parametrize(
    "arguments,words",
    [
        ({"channels": 0}, "channels: 0"),
        ({"width": 0}, "width: 0"),
        ({"width": 3}, "width: 3 times 1.5"),
        ({"width": 10**400}, "width: .*at most 1000000 channels"),
        *[({f"{part}_channels": 0}, f"{part}_channels: 0; at least 1") for part in ("stem", "aspp", "low_level")],
        ({"stem_channels": 10**400}, "a network of more than 1.0e.99 parameters; at most"),
        ({"sep_repeats": 0}, "sep_repeats: 0"),
        ({"activation": "gelu"}, "activation: .*gelu"),
    ],
    ids=str,
)
def test_impossible_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_net(Genotype((EVERYTHING,), (1,), (1, 1.5, 2)), **arguments)
