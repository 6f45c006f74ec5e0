"""The folded network restores what the network restores."""

import pytest
import torch
from torch import nn

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.networks.folding import FoldedNetwork, folded
from irnas_ray.networks.inference import fast, restore, restorer

CELL = (
    (Edge(0, "conv"), Edge(1, "dil")),
    (Edge(2, "def"), Edge(0, "skip")),
    (Edge(3, "sep"), Edge(2, "skip")),
)
GENOTYPES = {
    "several widths": Genotype((CELL,), (0, 1, 2, 1)),
    "low level last": Genotype((CELL,), (0, 0)),
    "low level is the stem": Genotype((CELL,), (1,)),
    "only skips": Genotype((((Edge(0, "skip"), Edge(1, "skip")),),), (0, 1)),
}


def network(case: str, **arguments) -> DerivedNetwork:
    """A small network whose normalisations and offsets are not those of the start."""
    torch.manual_seed(0)
    small = {"channels": 1, "width": 3, "stem_channels": 8, "aspp_channels": 8, "low_level_channels": 4}
    net = DerivedNetwork(GENOTYPES[case], **(small | arguments))
    with torch.no_grad():
        for name, module in net.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
            if name.endswith("predictor"):
                module.weight.normal_(0, 0.3)  # type: ignore[operator,union-attr]
    return net.eval()


@pytest.mark.parametrize("size", [(13, 9), (1, 1), (8, 8)], ids=str)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("case", GENOTYPES)
def test_same_images(case, activation, size):
    net = network(case, activation=activation, sep_repeats=2)
    image = torch.rand(2, 1, *size)
    expected = net(image)
    torch.testing.assert_close(folded(net)(image), expected, rtol=0, atol=1e-5 * max(1.0, expected.abs().max().item()))


def test_colour_and_residual():
    net = network("several widths", channels=3, residual=True)
    image = torch.rand(1, 3, 10, 11)
    torch.testing.assert_close(folded(net)(image), net(image), rtol=1e-5, atol=1e-5)


def test_double_precision():
    net = network("several widths").double()
    image = torch.rand(1, 1, 10, 11, dtype=torch.float64)
    torch.testing.assert_close(folded(net)(image), net(image), rtol=1e-12, atol=1e-12)


def test_the_network_stays_as_it_was():
    net = network("several widths").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    folded(net)(torch.rand(1, 1, 6, 6))
    assert net.training and all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_large_outputs_are_made_in_blocks(monkeypatch):
    from irnas_ray.kernels import native

    net, image = network("low level last"), torch.rand(1, 1, 20, 30)
    expected = net(image)
    monkeypatch.setattr(native, "BLOCK_BYTES", 1)
    torch.testing.assert_close(folded(net)(image), expected, rtol=1e-5, atol=1e-5)


def test_images_are_restored_by_the_folded_network():
    net, image = (
        network("several widths", residual=True),
        torch.rand(1, 40, 33, generator=torch.Generator().manual_seed(1)),
    )
    assert isinstance(fast(net), FoldedNetwork)
    expected = restore(net, image, tile=16, overlap=4)
    assert ((expected > 0) & (expected < 1)).float().mean() > 0.1  # what is clipped says nothing
    torch.testing.assert_close(restorer(net, tile=16, overlap=4)(image), expected, rtol=0, atol=1e-5)
    other = nn.Conv2d(1, 1, 1)
    assert fast(other) is other
