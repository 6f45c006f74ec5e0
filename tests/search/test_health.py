"""What says that a search has decided something: entropies, the share of skip, and the largest possible margin."""

import math

import pytest
import torch
from searching_cases import SETTINGS, make_batches, make_net, validate

from irnas_ray.genotypes.decoding import Margin
from irnas_ray.search.bilevel import bilevel_search
from irnas_ray.search.health import Health, entropy, health_of, possible_margin


@pytest.mark.parametrize("rate,steps,operators", [(0.01, 8, 6), (0.01, 60, 5), (0.3, 40, 3)])
def test_no_margin_is_larger_than_what_adam_can_reach(rate, steps, operators):
    """A gradient that never changes its sign moves Adam the farthest."""
    logits = torch.zeros(operators, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=rate)
    for _ in range(steps):
        logits.grad = torch.ones(operators, dtype=torch.float64)
        logits.grad[0] = -1
        adam.step()
    probabilities = torch.softmax(logits.detach(), dim=0)
    reached = float(probabilities[0] - probabilities[1])
    assert reached == pytest.approx(possible_margin(rate * steps, operators), rel=1e-6)


def test_the_largest_margin_of_short_and_long_ways():
    # the numbers of budget=trial and of the quickstart in search-facts
    assert possible_margin(0.08, 6) == pytest.approx(2 / 6 * 0.08, rel=0.1)
    assert possible_margin(0.0, 6) == 0 and possible_margin(1000.0, 6) == 1 and possible_margin(3.0, 1) == 0


def test_entropy_is_a_share_of_the_largest():
    rows = [[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.7, 0.0, 0.3]]
    shares = []
    for row in rows:
        positive = [p for p in row if p > 0]
        if len(positive) > 1:
            shares.append(-sum(p * math.log(p) for p in positive) / math.log(len(positive)))
    assert entropy(torch.tensor(rows)) == pytest.approx(sum(shares) / 3)
    assert entropy(torch.full((2, 4, 5), 0.2)) == pytest.approx(1)
    assert entropy(torch.eye(3)) == 0


def test_a_decided_supernet_and_an_undecided_one():
    net = make_net(nodes=2)
    with torch.no_grad():
        net.alpha.zero_()
        net.beta.zero_()
    health = health_of(net, net.genotype(), net.margins(), 0.01)
    assert (health.alpha_entropy, health.beta_entropy) == pytest.approx((1, 1))
    # of conv, skip and none skip is half of what an edge can be
    assert health.skip_expected == 0.5 and health.ties == health.decisions == len(net.margins()) - 2
    assert health.operators == pytest.approx(dict.fromkeys(("conv", "skip", "none"), 1 / 3))
    assert "cannot decide anything: its largest possible margin is 0.007" in str(health.warning())
    assert "all 5 margins of its cells are ties" in str(health_of(net, net.genotype(), net.margins(), 2.0).warning())
    with torch.no_grad():
        net.alpha[..., 1] = 100
        net.beta[..., 1] = 100
    health = health_of(net, net.genotype(), net.margins(), 2.0)
    assert health.skip_share == 1 and health.alpha_entropy < 1e-9 and health.operators["skip"] == 1
    assert health.moves == pytest.approx([0, 1, 0]) and health.warning() is None
    assert health == Health(**health.to_plain())


def test_one_width_has_no_entropy_of_beta():
    net = make_net(multipliers=(1,))
    assert health_of(net, net.genotype(), net.margins(), None).beta_entropy == 0


def test_reports_tell_the_health_of_the_moment_and_the_result_that_of_its_genotype():
    net = make_net(nodes=2)
    settings = SETTINGS | {"arch_lr": 0.5}
    result = bilevel_search(net, make_batches(0), make_batches(1), validate, **settings)
    entropies = [report.health.alpha_entropy for report in result.reports if report.health]
    assert len(set(entropies)) == 3 and entropies[0] == entropies[1] > 0.999  # alpha rests in the warm-up
    best = [report.psnr for report in result.reports].index(result.psnr)
    assert result.health == result.reports[best].health
    assert result.health is not None and result.health.possible_margin == possible_margin(0.5 * 4, 3)
    assert all(isinstance(margin, Margin) for margin in result.margins)
