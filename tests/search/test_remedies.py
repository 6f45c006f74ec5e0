"""The remedies against collapse, each against its formula written out, and their rates over a search."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from searching_cases import SETTINGS, facts, make_batches, make_net, validate
from torch import Tensor

import irnas_ray as ir
from irnas_ray.networks.building import make_supernet
from irnas_ray.networks.checkpoints import load_state, save_state
from irnas_ray.networks.supercell import MixedEdges, SuperCell
from irnas_ray.search.bilevel import BilevelSearch
from irnas_ray.search.paths import perturbed

ALL: dict[str, Any] = {
    "arch_lr": None,
    "arch_beta1": 0.5,
    "warmup_paths": True,
    "beta_decay": 2.0,
    "auxiliary_skip": 1.0,
    "alpha_noise": 0.3,
    "skip_dropout": 0.5,
}


def make_search(seed: int = 0, **settings: Any) -> BilevelSearch:
    net = make_net(seed, multipliers=(1,), nodes=2)
    return BilevelSearch(net, make_batches(0), make_batches(1), validate, **(SETTINGS | settings))


def test_without_a_rate_alpha_can_travel_by_six():
    bilevel = make_search(arch_lr=None, arch_beta1=0.5)
    adam = bilevel.arch_optimizer.param_groups[0]
    assert adam["lr"] == 6 / 4 and adam["betas"] == (0.5, 0.999)
    other = make_search(arch_lr=0.007)
    other.load_state_dict(bilevel.state_dict())
    assert other.arch_optimizer.param_groups[0]["lr"] == 0.007
    bilevel.load_state_dict(other.state_dict())
    assert bilevel.arch_optimizer.param_groups[0]["lr"] == 6 / 4


def arch_gradients(bilevel: BilevelSearch) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of alpha and beta in an architecture step on a batch that is always the same."""
    loss = bilevel._step(next(iter(make_batches(5))), bilevel.architecture, bilevel.weights, bilevel.arch_optimizer)
    gradients = [parameter.grad for parameter in bilevel.architecture]
    return loss, [torch.zeros(()) if gradient is None else gradient.clone() for gradient in gradients]


@pytest.mark.parametrize("epochs", [0, 3])
def test_beta_decay_adds_the_gradient_of_logsumexp(epochs):
    """The derivative of the mean over rows of logsumexp is softmax divided by the number of rows."""
    plain, decayed = make_search(warmup_epochs=3), make_search(warmup_epochs=3, beta_decay=2.0)
    for search in (plain, decayed):
        for _ in range(epochs):
            search.run_epoch()
    softmax = torch.softmax(plain.net.alpha.detach(), dim=-1)
    (loss, before), (same_loss, after) = arch_gradients(plain), arch_gradients(decayed)
    expected = 2.0 * epochs / 4 * loss * softmax / softmax[..., 0].numel()
    assert loss == same_loss and torch.equal(before[1], after[1])
    torch.testing.assert_close(after[0] - before[0], expected, rtol=1e-4, atol=1e-7)
    assert (after[0] != before[0]).any() == (epochs > 0)


def mixed_edges(operators: tuple[str, ...], **arguments: Any) -> MixedEdges:
    torch.manual_seed(0)
    return MixedEdges(2, 3, operators, "relu", 1, **arguments).double()


def random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("operators", [("conv", "skip", "none"), ("conv", "sep")])
@pytest.mark.parametrize("normalised", [True, False])
def test_an_auxiliary_skip_adds_the_source_to_every_edge(operators, normalised):
    mixed, source, weights = (
        mixed_edges(operators, normalised=normalised),
        random(2, 2, 5, 4),
        random(3, len(operators)),
    )
    plain = mixed(source, weights)
    mixed.auxiliary = 0.3
    for destination, output in enumerate(mixed(source, weights).unbind(1)):
        torch.testing.assert_close(output, plain[:, destination] + 0.3 * source)


@pytest.mark.parametrize("normalise_skip", [True, False])
def test_dropout_behind_skip_is_drawn_for_every_edge(normalise_skip):
    mixed = mixed_edges(("conv", "skip"), normalise_skip=normalise_skip)
    source, weights = random(2, 2, 6, 5), random(3, 2)
    plain = mixed(source, weights)
    mixed.skip_dropout = 0.4
    torch.manual_seed(3)
    dropped = mixed(source, weights)
    torch.manual_seed(3)
    mask = F.dropout(torch.ones(2, 3, 2, 6, 5, dtype=torch.float64), 0.4)
    assert not torch.equal(mask[:, 0], mask[:, 1]) and 0 < (mask == 0).sum() < mask.numel()
    skip = F.batch_norm(source, None, None, training=True) if normalise_skip else source
    for destination in range(3):
        weighted = weights[destination, 1] * skip
        expected = plain[:, destination] - weighted + mask[:, destination] * weighted
        torch.testing.assert_close(dropped[:, destination], expected)
    mixed.eval()
    once, again = mixed(source, weights), mixed(source, weights)
    assert torch.equal(once, again)


def test_a_recomputed_cell_drops_the_same_again():
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        cell = SuperCell(2, 2, ("conv", "skip"), "relu", 1, recompute).double()
        for mixed in cell.edges.values():
            assert isinstance(mixed, MixedEdges)
            mixed.skip_dropout, mixed.auxiliary = 0.5, 0.7
        source, weights = random(2, 2, 6, 5).requires_grad_(), random(5, 2)
        torch.manual_seed(1)
        cell(source, 2 * source, weights).square().sum().backward()
        assert source.grad is not None
        gradients.append(source.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_perturbed_probabilities_are_what_the_authors_write():
    probabilities = torch.softmax(3 * torch.randn(2, 40, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    torch.manual_seed(2)
    found = perturbed(probabilities, 0.3)
    torch.manual_seed(2)
    noise = torch.empty_like(probabilities).uniform_(-0.3, 0.3)
    assert noise.min() < -0.29 and noise.max() > 0.29
    for row, moved, now in zip(probabilities.view(-1, 4), noise.view(-1, 4), found.view(-1, 4), strict=True):
        clamped = [min(max(float(p + n), 0.0), 1.0) for p, n in zip(row, moved, strict=True)]
        torch.testing.assert_close(now, torch.tensor([value / sum(clamped) for value in clamped]))


def test_where_noise_leaves_nothing_the_largest_stays():
    row = torch.tensor([[0.25, 0.45, 0.3]])
    found = torch.cat([perturbed(row, 1.0) for _ in range(2000)])
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2000))
    # all three fall below 0 with probability 0.375 * 0.275 * 0.35, about 0.036
    assert 40 < (found == torch.tensor([0.0, 1.0, 0.0])).all(dim=1).sum() < 400


def seen_by(bilevel: BilevelSearch, monkeypatch: Any) -> list[dict[str, Any]]:
    """What every forward pass of training is told, and the remedies that hold then."""
    seen, forward = [], bilevel.net.forward

    def followed(image: Tensor, **through: Any) -> Tensor:
        if bilevel.net.training:
            mixed: Any = next(module for module in bilevel.net.modules() if isinstance(module, MixedEdges))
            now = {"auxiliary": mixed.auxiliary, "dropout": mixed.skip_dropout}
            seen.append(now | {"weights": not bilevel.net.alpha.requires_grad} | through)
        return forward(image, **through)

    monkeypatch.setattr(bilevel.net, "forward", followed)
    return seen


def test_every_remedy_has_its_rate_and_its_steps(monkeypatch):
    bilevel = make_search(**ALL)
    radii: list[float] = []

    def recorded(probabilities: Tensor, radius: float) -> Tensor:
        radii.append(radius)
        return perturbed(probabilities, radius)

    monkeypatch.setattr("irnas_ray.search.supernet_training.perturbed", recorded)
    seen = seen_by(bilevel, monkeypatch)
    for _ in range(4):
        bilevel.run_epoch()
    # four weight steps of the warm-up, then architecture and weights in turn; eight weight steps in all
    assert [now["weights"] for now in seen] == [True] * 4 + [False, True] * 4
    done = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert [now["auxiliary"] for now in seen] == pytest.approx([1 - step / 8 for step in done])
    assert [now["dropout"] for now in seen] == pytest.approx([0.5 * (1 - step / 8) for step in done])
    assert ["path" in now for now in seen] == [True] * 4 + [False] * 8
    assert ["alpha" in now for now in seen] == [False] * 4 + [False, True] * 4
    assert radii == pytest.approx([0.3 * (0.1 + 0.9 * step / 8) for step in (4, 5, 6, 7)])


def test_what_is_off_is_not_there(monkeypatch):
    bilevel = make_search()
    seen = seen_by(bilevel, monkeypatch)
    before = torch.get_rng_state()
    bilevel.run_epoch()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(now == {"auxiliary": 0, "dropout": 0, "weights": True} for now in seen) and seen


@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_search_with_all_remedies_goes_on_bit_for_bit(tmp_path, killed_after):
    whole = make_search(**ALL)
    reports = [facts(whole.run_epoch()) for _ in range(4)]
    first = make_search(**ALL)
    for _ in range(killed_after):
        first.run_epoch()
    save_state(first.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(999)
    second = make_search(7, **ALL)
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    assert [facts(second.run_epoch()) for _ in range(killed_after, 4)] == reports[killed_after:]
    expected, found = whole.net.state_dict(), second.net.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert whole.result().health == second.result().health is not None


def test_a_warm_up_on_paths_needs_one_width():
    with pytest.raises(ValueError, match=r"one width, architecture.multipliers=\[1\]; this one has 3"):
        BilevelSearch(make_net(), make_batches(0), make_batches(1), validate, **SETTINGS, warmup_paths=True)


@pytest.mark.parametrize("settings, least, most", [((), 1.0, 6.0), (("search.arch_weight_decay=0.001",), 0.0, 0.01)])
def test_in_the_recommended_space_alpha_follows_gradients_that_the_papers_decay_outweighs(settings, least, most):
    small = "search_spaces=compact search.method=darts architecture.layers=2 architecture.width=4 search.epochs=4"
    small += " search.warmup_epochs=1 search.steps_per_epoch=10 search.validate_every=4"
    config = ir.compose("search", [*small.split(), *settings])
    torch.manual_seed(0)

    def flat_images():
        while True:
            clean = torch.rand(2, 1, 1, 1).expand(2, 1, 16, 16)
            yield (clean + 0.2 * torch.randn(2, 1, 16, 16)).clamp(0, 1), clean

    search = BilevelSearch(make_supernet(config), flat_images(), flat_images(), validate, config.search)
    while search.epoch < config.search.epochs:
        search.run_epoch()
    assert least <= max(float(logits.detach().abs().max()) for logits in search.architecture) <= most
