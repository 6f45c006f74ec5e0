"""Random search gets what the search that it stands beside may spend."""

import pytest
import torch
from audit_folders import settings

from irnas_ray.audit import budgets
from irnas_ray.audit.budgets import (
    multiply_adds,
    planned_budget,
    random_search,
    supernet_multiply_adds,
    trial_multiply_adds,
    unit_of,
)
from irnas_ray.audit.ledger import TOLERANCE
from irnas_ray.networks.building import make_encoding, make_supernet
from irnas_ray.networks.costs import size_of
from irnas_ray.settings.study import with_values
from irnas_ray.study.trial import spent_on
from irnas_ray.training.validation import validation_pixels

#: A space of one genotype.
ONE = {"architecture.operators": ["conv"], "architecture.multipliers": [1]}


def test_beside_a_method_without_a_supernet_random_search_differs_in_nothing_else():
    config = settings("search.population=2")
    random = random_search(config)
    assert random.search.method == "random" and unit_of(config) == "steps"
    changed = {"search.method": "evolution", "search.population": 2, "search.proxy_steps": config.search.proxy_steps}
    assert with_values(random, changed) == config
    assert planned_budget(config, "steps") == planned_budget(random, "steps") == 4 * 3 * 120


def test_the_cost_of_a_trial_is_that_of_its_steps():
    config = with_values(settings(), ONE)
    (genotype,) = make_encoding(config).enumerate()
    size = size_of(genotype, config)["multiply_adds_per_pixel"]
    assert trial_multiply_adds(config) == spent_on(3 * 120, size, config.final)["training_multiply_adds"]


@pytest.mark.parametrize("proxy_steps", [0, 60])
def test_beside_a_supernet_random_search_spends_as_many_multiply_adds(proxy_steps, monkeypatch):
    monkeypatch.setattr(budgets, "SAMPLED", 10)
    monkeypatch.setattr(budgets, "SAMPLED_SUPERNETS", 1)
    config = settings("search.method=darts", f"search.proxy_steps={proxy_steps}")
    random = random_search(config)
    assert unit_of(config) == "multiply-adds" and random.search.proxy_steps == 0
    own, others = (planned_budget(one, "multiply-adds") for one in (config, random))
    assert abs(others / own - 1) <= TOLERANCE
    # trials are about as long as the trainings by which the other search chooses
    assert random.search.steps_per_epoch == pytest.approx((proxy_steps or 360) / 3, rel=0.5)


def cost(config, **values):
    return supernet_multiply_adds(with_values(config, {f"search.{key}": value for key, value in values.items()}))


def test_a_supernet_is_counted_step_by_step():
    config = with_values(settings("search.method=darts"), {"architecture.multipliers": [1], "search.crop": 16})
    net = make_supernet(config)
    one = 3 * 2 * 16**2 * multiply_adds(net, 1)
    # 360 weight steps, and as many of the architecture in all epochs but the first
    assert cost(config) == pytest.approx((360 + 240) * one)
    longer = with_values(config, {"search.steps_per_epoch": 240, "search.batch": 4})
    assert cost(longer) == pytest.approx(4 * cost(config))
    paths = cost(config, warmup_paths=True)
    assert 480 * one < paths < 600 * one
    # a cell of one node has two edges with six operators each, and none of its inputs is dropped
    scored = validation_pixels(0.05, 120 * config.search.validate_every, 2, 16)
    masked = cost(config, decoding="masking", masking_steps=7) - cost(config)
    assert masked == pytest.approx(2 * 7 * one + 2 * 6 * scored * multiply_adds(net, 1))
    with pytest.raises(ValueError, match="search.validation_share: 1; how much masking costs"):
        cost(config, decoding="masking", validation_share=1)


def test_single_path_is_counted_by_paths_and_by_those_that_it_scores():
    config = with_values(settings("search.method=single_path"), {"architecture.multipliers": [1]})
    few, many = cost(config, path_evaluations=1), cost(config, path_evaluations=101)
    scored = validation_pixels(0.05, 120 * config.search.validate_every, 2, config.search.crop)
    path = (many - few) / (100 * scored)
    assert few == pytest.approx(path * (360 * 3 * 2 * config.search.crop**2 + scored))
    assert 0 < path < multiply_adds(make_supernet(config), 1)
    with pytest.raises(ValueError, match="search.validation_share: 1; how much single_path costs"):
        cost(config, validation_share=1)


def test_passes_forward_are_counted_as_pytorch_does():
    network = torch.nn.Conv2d(3, 5, 3, padding=1)
    assert multiply_adds(network, 3) == 3 * 5 * 9
