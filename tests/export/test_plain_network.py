"""The plain copies restore what the networks do: every operator and macro choice, every size that they take."""

import pytest
import torch
from export_cases import MACROS, OPERATORS, small_network

import irnas_ray as ir
from irnas_ray.export.plain_network import AnySize, PlainDeformable, least_side, plain
from irnas_ray.kernels.sampled_product import SampledProduct
from irnas_ray.kernels.separable_conv import SeparableProduct
from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.networks.operators import DeformableConvolution


@pytest.mark.parametrize("macro", MACROS, ids=str)
@pytest.mark.parametrize("operators", OPERATORS)
def test_a_plain_copy_restores_the_same(macro: ir.Macro, operators: str) -> None:
    network = small_network(macro, operators)
    copy, least = plain(network), least_side(network)
    for height, width in ((least, least), (8, 16), (13, 10)):
        image = torch.rand(2, 1, height, width)
        with torch.no_grad():
            torch.testing.assert_close(copy(image), network(image), rtol=0, atol=2e-6)
    assert isinstance(copy, AnySize) == (macro.step() > 1)


@pytest.mark.parametrize("macro", MACROS[:2], ids=str)
def test_a_plain_copy_needs_nothing_that_is_differentiated_by_hand(macro: ir.Macro, monkeypatch) -> None:
    copy = plain(small_network(macro, OPERATORS[0]))
    for kind in (SampledProduct, SeparableProduct):
        monkeypatch.setattr(kind, "forward", lambda *_: pytest.fail("is used"))
    copy(torch.rand(1, 1, 9, 8))


def test_a_deformable_convolution_reads_where_offsets_say() -> None:
    """Far beyond the border, too, where there are zeros."""
    network = small_network(ir.Macro(), "def skip skip skip")
    operators = [module for module in network.modules() if isinstance(module, DeformableConvolution)]
    operator, image = operators[0], torch.rand(1, 4, 9, 12)
    plain_form = PlainDeformable(operator.predictor, operator.convolution.weight, None)
    for scale in (0.0, 1.0, 30.0, 1e9):
        with torch.no_grad():
            operator.predictor.weight.copy_(torch.randn_like(operator.predictor.weight) * scale)
            plain_form = PlainDeformable(operator.predictor, operator.convolution.weight, None)
            torch.testing.assert_close(plain_form(image), operator(image, image), rtol=0, atol=1e-4)


def test_the_network_itself_stays_as_it_was() -> None:
    network = small_network(ir.Macro(), OPERATORS[0]).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    plain(network)
    assert network.training and isinstance(network, DerivedNetwork)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
