"""What a supernet is decoded to: masking against every choice tried out, samples against probabilities."""

import itertools
from collections import Counter
from typing import Any

import pytest
import torch
from searching_cases import SETTINGS, make_batches, make_net, validate

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.decoding import edges_of
from irnas_ray.networks.checkpoints import load_state, save_state
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.search.bilevel import BilevelSearch
from irnas_ray.search.decodings import (
    Decoding,
    WeightedNetwork,
    inherited_score,
    masked_genotype,
    one_hot,
    sampled_genotype,
    with_samples,
)
from irnas_ray.search.paths import PathNetwork


def untrained(weights: torch.Tensor) -> None:
    """No training between decisions."""


class Valued:
    """A validation that adds up a given value of every weight, so that what each absence costs is known."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values, self.asked = values, 0

    def __call__(self, network: Any) -> dict[str, float]:
        self.asked += 1
        return {"psnr": float((self.values * network.weights).sum()), "ssim": 0.5}


@pytest.mark.parametrize("tied", [True, False])
def test_masking_keeps_what_costs_most(tied):
    """With alpha equal everywhere: the most valuable operator of each edge, and the two most valuable edges."""
    net = make_net(nodes=3, operators=("none", "conv", "skip", "dil"), tie_cells=tied, multipliers=(1,))
    with torch.no_grad():
        net.alpha.zero_()
    values = torch.rand(net.alpha.shape, generator=torch.Generator().manual_seed(4))
    values[..., 0] = 5  # none is worth most, and no choice
    score = Valued(values)
    found = masked_genotype(net, score, untrained)
    for index, cell in enumerate(found.cells):
        for node, edges in enumerate(cell):
            rows = values[index, edges_of(node) : edges_of(node + 1), 1:]
            best = rows.max(dim=1).values.argsort(descending=True)[:2].sort().values.tolist()
            expected = tuple(Edge(source, net.operators[1 + int(rows[source].argmax())]) for source in best)
            assert edges == expected
    # three operators of nine edges, then 3 inputs, and 4 and 3, in each cell
    assert score.asked == len(net.alpha) * (9 * 3 + 3 + 4 + 3)


def test_after_a_decision_what_is_left_is_trained():
    net = make_net(nodes=2, operators=("conv", "skip"))
    seen: list[torch.Tensor] = []
    masked_genotype(net, Valued(torch.rand(net.alpha.shape)), lambda weights: seen.append(weights.clone()))
    decided = [int(((weights == 0) | (weights == 1)).all(dim=-1).sum()) for weights in seen]
    assert decided == [1, 2, 3, 4, 5, 5] and (seen[-1].sum(dim=-1) == 1).sum() == 4


def test_masking_does_not_move_running_statistics_and_leaves_the_mode():
    net = make_net(nodes=2).eval()
    before = {name: value.clone() for name, value in net.state_dict().items() if "num_batches" not in name}
    masked_genotype(net, validate, untrained)
    assert not net.training
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_one_hot_weights_are_a_path():
    """In a supernet of one width with batch statistics everywhere."""
    net = make_net(nodes=3, multipliers=(1,), operators=("conv", "skip", "dil", "none"))
    torch.manual_seed(1)
    image = torch.rand(2, 1, 8, 8)
    for _ in range(3):
        genotype = sampled_genotype(net.train())
        mixture = WeightedNetwork(net, one_hot(net, genotype))(image)
        torch.testing.assert_close(mixture, PathNetwork(net, genotype)(image), rtol=1e-4, atol=1e-5)
        expected = validate(WeightedNetwork(net, one_hot(net, genotype)))["psnr"]
        assert inherited_score(net, genotype, validate) == expected


def frequencies(net: SuperNet, draws: int) -> Counter:
    torch.manual_seed(0)
    return Counter(sampled_genotype(net) for _ in range(draws))


def test_samples_have_the_probabilities_of_alpha_and_beta():
    """One node of two inputs: every pair of operators and every path of levels by the product of its probabilities."""
    net = make_net(operators=("conv", "skip", "dil"), multipliers=(1, 2))
    with torch.no_grad():
        net.alpha.copy_(torch.tensor([[[0.0, 1.0, -1.0], [0.5, 0.0, 0.3]]]))
        net.beta.normal_(generator=torch.Generator().manual_seed(1))
    counts, draws = frequencies(net, 1500), 1500
    alpha, beta = torch.softmax(net.alpha, dim=-1)[0].tolist(), net.log_beta().exp().tolist()
    total = 0.0
    for (first, second), levels in itertools.product(
        itertools.product(range(3), repeat=2), itertools.product((0, 1), repeat=2)
    ):
        expected = alpha[0][first] * alpha[1][second]
        for layer, (before, after) in enumerate(itertools.pairwise((0, *levels))):
            expected *= beta[layer][before][after - before + 1]
        total += expected
        cell = (Edge(0, net.operators[first]), Edge(1, net.operators[second]))
        found = sum(n for genotype, n in counts.items() if genotype.cells == ((cell,),) and genotype.levels == levels)
        assert abs(found / draws - expected) < 5 * (expected / draws) ** 0.5 + 1e-3
    assert total == pytest.approx(1)


def test_samples_fill_up_what_is_known_without_repeating_it():
    net = make_net(nodes=2)
    torch.manual_seed(0)
    known = [Decoding(net.genotype(), "masking"), Decoding(net.genotype(), "argmax")]
    found = with_samples(net, known, 4)
    assert [one.source for one in found] == ["masking", "sample", "sample", "sample"]
    assert len({one.genotype for one in found}) == 4
    with torch.no_grad():
        net.alpha[..., 0], net.beta[..., 1] = 1000, 1000
    assert with_samples(net, [Decoding(net.genotype(), "argmax")], 4) == [Decoding(net.genotype(), "argmax")]


def make_search(seed: int = 0, **settings: Any) -> BilevelSearch:
    return BilevelSearch(make_net(seed, nodes=2), make_batches(0), make_batches(1), validate, **(SETTINGS | settings))


def test_one_decoding_by_argmax_costs_nothing():
    search = make_search()
    search.run_epoch()
    before, search.validate = torch.get_rng_state(), lambda net: pytest.fail("it is not validated again")
    assert search.decodings() == [Decoding(search.result().genotype, "argmax")]
    assert torch.equal(before, torch.get_rng_state())


def test_a_restart_decodes_to_the_same(tmp_path):
    settings: dict[str, Any] = {"decoding": "masking", "candidates": 3, "masking_steps": 1}
    first = make_search(**settings, auxiliary_skip=1.0, skip_dropout=0.3)
    for _ in range(4):
        first.run_epoch()
    save_state(first.state_dict(), tmp_path / "state.pt")
    expected = first.decodings()
    second = make_search(5, **settings, auxiliary_skip=1.0, skip_dropout=0.3)
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    assert second.decodings() == expected and len(expected) == 3
    assert expected[0].source == "masking" and all(one.inherited is not None for one in expected)


def test_an_unknown_decoding_is_refused():
    with pytest.raises(ValueError, match="decoding: unknown 'best'; possible: argmax, masking"):
        make_search(decoding="best")
