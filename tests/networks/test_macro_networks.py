"""Networks at a lower resolution, without normalisation, with a lower level: every macro choice, at any size."""

import itertools
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import irnas_ray as ir
from irnas_ray.genotypes.macro import HEADS, NORMALISATIONS, UNSHUFFLES
from irnas_ray.networks.derived import DerivedNetwork, multiply_adds_per_pixel
from irnas_ray.networks.inference import fast
from irnas_ray.networks.operators import DeformableConvolution, joined
from irnas_ray.networks.resolution import shuffled, unshuffled

CELL = (
    (ir.genotypes.Edge(0, "conv"), ir.genotypes.Edge(1, "sep")),
    (ir.genotypes.Edge(1, "dil"), ir.genotypes.Edge(2, "skip")),
)
COMPACT = ir.Macro(unshuffle=2, normalisation="none", aspp=False, low_level=False, head="plain")


def network(macro: ir.Macro, levels: tuple[int, ...] = (0, 1, 0), channels: int = 1, **more: Any) -> DerivedNetwork:
    torch.manual_seed(0)
    genotype = ir.Genotype((CELL,), levels, macro=macro)
    small = {"stem_channels": 6, "aspp_channels": 8, "low_level_channels": 4}
    made = DerivedNetwork(genotype, channels, width=4, **small, **more)
    for module in made.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, 0, 0.1)  # what begins at zero would hide what is behind it
    return made


MACROS = [
    ir.Macro(*choices)
    for choices in itertools.product(UNSHUFFLES, NORMALISATIONS, (True, False), (True, False), HEADS, (True, False))
]


@pytest.mark.parametrize("macro", MACROS[::5], ids=str)
def test_every_size_is_kept_and_every_weight_is_used(macro: ir.Macro) -> None:
    made = network(macro)
    for height, width in ((1, 1), (3, 9), (8, 8), (13, 6)):
        image = torch.rand(2, 1, height, width)
        assert made(image).shape == image.shape
    made(torch.rand(2, 1, 16, 16)).square().sum().backward()
    unused = [name for name, parameter in made.named_parameters() if parameter.grad is None]
    assert not unused
    twin = DerivedNetwork(made.genotype, **made.arguments())
    twin.load_state_dict(made.state_dict())
    image = torch.rand(1, 1, 9, 7)
    torch.testing.assert_close(twin.eval()(image), made.eval()(image))


@pytest.mark.parametrize("factor", UNSHUFFLES)
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 3), (8, 16)])
def test_unshuffling_undoes_itself_and_mirrors(factor: int, size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size)
    low = unshuffled(image, factor, 2 * factor)
    assert low.shape[-1] % 2 == low.shape[-2] % 2 == 0 and low.shape[1] == 3 * factor**2
    torch.testing.assert_close(shuffled(low, factor, *size), image, rtol=0, atol=0)
    whole = F.pixel_shuffle(low, factor) if factor > 1 else low
    more = [whole.shape[-1] - size[1], whole.shape[-2] - size[0]]
    if more[0] < size[1] and more[1] < size[0]:
        torch.testing.assert_close(whole, F.pad(image, (0, more[0], 0, more[1]), mode="reflect"), rtol=0, atol=0)


def test_a_cell_without_normalisation_begins_as_identity() -> None:
    genotype = ir.Genotype((CELL,), (0, 0), (1,), COMPACT)
    made = DerivedNetwork(genotype, 1, 4)
    features = torch.rand(1, 4, 6, 6)
    assert torch.equal(made.cells[0](features * 2, features), features)
    assert not joined(2, 4).weight.any()


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_only_a_network_with_normalisation_normalises_between_the_pairs_of_sep(normalisation: str) -> None:
    macro = replace(COMPACT, normalisation=normalisation)
    final = network(macro, sep_repeats=3)
    supernet = ir.SuperNet(1, layers=1, nodes=1, width=2, sep_repeats=3, multipliers=[1], **asdict(macro))
    for made in (final, supernet):
        assert any(isinstance(module, nn.BatchNorm2d) for module in made.modules()) == (normalisation == "batch")
        assert made(torch.rand(1, 1, 8, 8)).isfinite().all()


@pytest.mark.parametrize("unshuffle", UNSHUFFLES)
def test_with_a_linear_head_and_a_residual_connection_network_and_supernet_begin_as_identity(unshuffle: int) -> None:
    macro = ir.Macro(unshuffle, "none", aspp=False, low_level=False, head="linear")
    image = torch.rand(2, 1, 9, 7)
    genotype = ir.Genotype((CELL,), (0, 0), (1,), macro)
    assert torch.equal(DerivedNetwork(genotype, 1, 4, residual=True)(image), image)
    assert not torch.equal(DerivedNetwork(genotype, 1, 4, residual=False)(image), image)
    small: dict[str, Any] = {"channels": 1, "layers": 2, "nodes": 2, "width": 4, "multipliers": (1,)}
    supernet = ir.SuperNet(**small, **asdict(macro), residual=True)
    assert torch.equal(supernet(image), image)


def test_a_narrow_network_with_a_linear_head_learns_at_the_rate_of_compact() -> None:
    """With an activation before the head, 8 of 16 random networks never changed the image again."""
    macro = ir.Macro(4, "none", aspp=False, low_level=False, head="linear")
    torch.manual_seed(0)
    made = DerivedNetwork(ir.Genotype((CELL,), (0, 0), (1,), macro), 1, 20, residual=True)
    optimizer = torch.optim.AdamW(made.parameters(), 0.008, (0.9, 0.99))
    for _ in range(100):
        clean = torch.rand(4, 1, 1, 1).expand(4, 1, 16, 16)
        noisy = clean + 0.2 * torch.randn(clean.shape)
        loss = F.mse_loss(made(noisy), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.75 * 0.2**2


def test_a_residual_cell_is_its_plain_form() -> None:
    """n0 conv<-0 sep<-1 | n1 dil<-1 skip<-2, written out."""
    made = network(COMPACT, levels=(0,)).double()
    before, last = torch.randn(1, 4, 7, 6).double(), torch.randn(1, 4, 7, 6).double()
    cell = made.cells[0]
    (conv, sep), (dil, _) = ([edge.operator for edge in node] for node in cell.nodes)

    def of(source: Tensor) -> Tensor:
        return torch.relu(source)

    first = F.conv2d(of(before), conv.convolution.weight, padding=1)
    depth = F.conv2d(of(last), sep.depthwise.weight, padding=1, groups=4)
    first = first + F.conv2d(depth, sep.pointwise.weight)
    second = F.conv2d(of(last), dil.convolution.weight, padding=2, dilation=2) + first
    expected = last + F.conv2d(torch.cat([first, second], 1), cell.join.weight, cell.join.bias)
    torch.testing.assert_close(cell(before, last), expected)


@pytest.mark.parametrize("macro", MACROS[::3], ids=str)
def test_multiply_adds_are_what_convolutions_do(macro: ir.Macro) -> None:
    """Counted from the shapes that each convolution meets in an image whose sides every step divides."""
    made, counted = network(macro, channels=3), 0.0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        assert isinstance(module, nn.Conv2d)
        counted += module.weight.numel() * output.shape[-1] * output.shape[-2]

    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
        assert not isinstance(module, DeformableConvolution)
    pairs = [edge.operator for cell in made.cells for node in cell.nodes for edge in node]
    made(torch.rand(1, 3, 24, 48))
    # separable convolutions are computed by one function, not by their modules
    for name, module in made.named_modules():
        if module in pairs and hasattr(module, "depthwise"):
            weights = module.depthwise.weight.numel() + module.pointwise.weight.numel()
            counted += weights * 24 * 48 * made.pixel_share(f"{name}.depthwise")
    assert multiply_adds_per_pixel(made) == round(counted / (24 * 48))


def test_what_is_restored_fast_is_the_same() -> None:
    for macro in (COMPACT, ir.Macro(unshuffle=2), ir.Macro(lower_level=True)):
        made = network(macro).eval()
        image = torch.rand(1, 19, 22)
        restored = ir.restore(fast(made), image)
        torch.testing.assert_close(restored, ir.restore(made, image), rtol=0, atol=1e-5)


def test_a_network_file_carries_the_choices(tmp_path) -> None:
    made = network(COMPACT, levels=(0, 0), residual=True).eval()
    ir.save_network(made, tmp_path / "network.pt", notes={"sigma": 50})
    loaded, _ = ir.load_network(tmp_path / "network.pt")
    image = torch.rand(1, 1, 11, 14)
    assert loaded.macro == COMPACT and torch.equal(loaded(image), made(image))
