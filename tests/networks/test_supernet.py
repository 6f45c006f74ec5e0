"""The fused supernet against the paper's equations evaluated operator by operator."""

from typing import Any

import pytest
import torch
from reference import ReferenceSuperNet
from supernet_cases import CASES, assert_equal, images, make_net, restoration
from torch import Tensor

from irnas_ray.networks.supernet import SuperNet
from irnas_ray.training.loss import restoration_loss


def compare(net: Any, image: Tensor, tolerance: float) -> None:
    """Outputs, the gradients in the image and in every parameter, and running statistics of net and reference."""
    reference = ReferenceSuperNet.from_supernet(net)
    mine: Any = image.clone().requires_grad_()
    theirs: Any = image.clone().requires_grad_()
    output, expected = net(mine), reference(theirs)
    assert_equal("output", output, expected, tolerance)
    restoration(output).backward()
    restoration(expected).backward()
    assert_equal("image", mine.grad, theirs.grad, tolerance)
    for link in reference.links:
        assert_equal(link.name, link.theirs[link.rows], link.mine, tolerance)
        if link.mine.requires_grad:
            assert_equal(f"gradient of {link.name}", link.theirs.grad[link.rows], link.mine.grad, tolerance)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_equations(case, training):
    net = make_net(**CASES[case]).train(training)
    compare(net, images(2, net.channels, 5, 7), 1e-9)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("size", [(1, 9, 3), (1, 1, 6), (3, 4, 4)], ids=str)
def test_any_size(size, training):
    batch, height, width = size
    compare(make_net().train(training), images(batch, 1, height, width), 1e-9)


def test_one_pixel():
    compare(make_net().eval(), images(1, 1, 1, 1), 1e-9)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_single_precision(training):
    compare(make_net(dtype=torch.float32).train(training), images(2, 1, 9, 8, torch.float32), 2e-4)


def test_a_second_step_starts_from_the_same_statistics():
    net = make_net()
    reference = ReferenceSuperNet.from_supernet(net)
    for size in (5, 6):
        assert_equal("output", net(images(2, 1, size, size)), reference(images(2, 1, size, size)), 1e-9)
    for link in reference.links:
        assert_equal(link.name, link.theirs[link.rows], link.mine, 1e-9)


@pytest.mark.parametrize("case", ["all operators", "eq. 6", "sep twice", "untied", "two widths", "further operators"])
def test_the_reference_holds_every_value_once(case):
    """Otherwise the comparison above could leave out what it should compare."""
    net = make_net(**CASES[case])
    seen = {
        id(tensor): torch.zeros_like(tensor)
        for name, tensor in net.state_dict(keep_vars=True).items()
        if "num_batches" not in name
    }
    reference = ReferenceSuperNet.from_supernet(net)
    linked = {id(link.mine) for link in reference.links}
    assert linked == {id(t) for n, t in reference.state_dict(keep_vars=True).items() if "num_batches" not in n}
    for link in reference.links:
        seen[id(link.theirs)].detach()[link.rows] += 1
    assert all((count == 1).all() for count in seen.values())


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("case", ["all operators", "eq. 6", "untied"])
def test_gradients_of_alpha_and_beta_are_finite_differences(case, training):
    net = make_net(**(CASES[case] | {"nodes": 1})).train(training)
    image, step = images(2, 1, 5, 4), 1e-5
    restoration(net(image)).backward()
    for parameter in net.arch_parameters():
        flat, difference = parameter.detach().view(-1), torch.zeros(parameter.numel(), dtype=parameter.dtype)
        for index in range(len(flat)):
            value, losses = flat[index].item(), []
            for sign in (1, -1):
                flat[index] = value + sign * step
                with torch.no_grad():
                    losses.append(restoration(net(image)).item())
            flat[index] = value
            difference[index] = (losses[0] - losses[1]) / (2 * step)
        assert difference.abs().max() > 1e-6
        torch.testing.assert_close(parameter.grad.view(-1), difference, rtol=1e-6, atol=1e-9)


def search_by_hand(net: Any, steps: int) -> None:
    """The alternating first-order search of section 3.3, one architecture and one weight step a turn."""
    architecture = [net.alpha, net.beta]
    weights = [parameter for name, parameter in net.named_parameters() if name not in ("alpha", "beta")]
    adam = torch.optim.Adam(architecture, lr=0.05, weight_decay=1e-3)
    sgd = torch.optim.SGD(weights, lr=0.025, momentum=0.9, weight_decay=3e-4)
    random = torch.Generator().manual_seed(3)
    for _ in range(steps):
        for optimizer in (adam, sgd):
            clean = torch.rand(1, 1, 11, 12, generator=random, dtype=torch.float64)
            noise = torch.randn(clean.shape, generator=random, dtype=torch.float64)
            net.zero_grad()
            restoration_loss(net(clean + 0.2 * noise), clean).backward()
            optimizer.step()


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_a_search_of_fifty_steps_finds_what_the_equations_find(recompute):
    net = make_net(layers=1, recompute=recompute)
    reference = ReferenceSuperNet.from_supernet(net)
    begun = net.genotype()
    for searched in (net, reference):
        search_by_hand(searched, 50)
    found = net.genotype()
    assert found != begun
    assert_equal("alpha", net.alpha, reference.alpha, 1e-6)
    assert_equal("beta", net.beta, reference.beta, 1e-6)
    with torch.no_grad():
        net.alpha.copy_(reference.alpha)
        net.beta.copy_(reference.beta)
    assert net.genotype() == found


@pytest.mark.parametrize("operators", [("conv", "sep", "dil", "def", "skip", "none"), ("conv", "skip")])
def test_within_autocast_the_mixture_and_its_derivatives_are_nearly_the_same(operators):
    """Operators give bfloat16 and float32 there, and are summed."""
    torch.manual_seed(0)
    net = SuperNet(1, layers=2, nodes=2, width=10, operators=operators, stem_channels=8)
    image = torch.rand(2, 1, 16, 16)
    exact = net(image)
    expected = torch.autograd.grad((exact - image).square().mean(), net.arch_parameters())
    with torch.autocast("cpu", torch.bfloat16):
        output = net(image)
    found = torch.autograd.grad((output.float() - image).square().mean(), net.arch_parameters())
    torch.testing.assert_close(output.float(), exact, atol=0.1, rtol=0)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 0.2 * other.norm()
