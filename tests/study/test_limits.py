"""Limits of what final networks cost: the smallest of a space, spaces that cannot meet them, and what is retrained."""

import itertools
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, IntDistribution
from test_checks import make_config

from irnas_ray.hpo.domains import Conditional, distinct
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.networks.building import make_encoding
from irnas_ray.networks.costs import least_size, size_of
from irnas_ray.search.decodings import Decoding
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.study import limits as limits_module
from irnas_ray.study.candidates import choose
from irnas_ray.study.checks import check_search
from irnas_ray.study.limits import affordable, check_limits, known_costs, limits_of

TINY: dict[str, Any] = {
    "final.width": 4,
    "final.stem_channels": 4,
    "final.aspp_channels": 4,
    "final.low_level_channels": 2,
}
NODES: dict[str, Any] = {"architecture.nodes": IntDistribution(1, 2)}


def tiny(values: dict[str, Any] | None = None, domains: dict[str, Any] | None = None) -> StudyConfig:
    return make_config(TINY | (values or {}), domains if domains is not None else NODES)


METRICS = {"parameters": "tune.max_parameters", "multiply_adds_per_pixel": "tune.max_multiply_adds"}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"architecture.operators": ["conv", "sep", "dil"]},
        {"architecture.multipliers": [1, 0.5]},
        {"architecture.multipliers": [2, 4, 1]},
        {"architecture.normalisation": "none", "architecture.aspp": False, "architecture.unshuffle": 2},
        # where a layer is narrow one operator is the cheapest, where it is wide another one
        {"architecture.lower_level": True, "architecture.layers": 3, "architecture.tie_cells": False}
        | {"architecture.operators": ["conv", "sep"], "architecture.sep_repeats": 3, "architecture.multipliers": [1]},
    ],
)
def test_no_network_of_a_space_is_smaller_than_the_smallest(values):
    config = tiny(values)
    encoding, least = make_encoding(config), least_size(config)
    sizes = [size_of(encoding.sample(Random(seed)), config) for seed in range(20)]
    for metric in least:
        assert 0 < least[metric] <= min(size[metric] for size in sizes)


@pytest.mark.parametrize("multipliers", [[1, 2], [1, 0.5], [1, 4, 0.5], [2, 1]], ids=str)
@pytest.mark.parametrize("low_level", [True, False])
def test_the_smallest_network_is_that_of_brute_force(multipliers: list[float], low_level: bool):
    """Wherever narrow levels lie: all genotypes of one operator."""
    own = {"multipliers": multipliers, "low_level": low_level, "operators": ["skip"], "layers": 3, "nodes": 1}
    config = tiny({f"architecture.{name}": value for name, value in own.items()} | {"final.width": 4})
    sizes = [size_of(genotype, config) for genotype in make_encoding(config).enumerate()]
    assert least_size(config) == {metric: min(size[metric] for size in sizes) for metric in METRICS}


def test_a_limit_that_no_configuration_meets_is_refused_before_any_work():
    least = {nodes: least_size(tiny({"architecture.nodes": nodes})) for nodes in (1, 2)}
    small, large = least[1]["parameters"], least[2]["parameters"]
    assert small < large
    check_search(tiny({"tune.max_parameters": small}))
    with pytest.raises(ValueError, match=rf"tune.max_parameters={small - 1} \({small}\): no configuration can meet"):
        check_search(tiny({"tune.max_parameters": small - 1}))
    costs = least[1]["multiply_adds_per_pixel"]
    with pytest.raises(ValueError, match=rf"^tune.max_multiply_adds=1 \({costs}\): no configuration can meet this"):
        check_search(tiny({"tune.max_parameters": small, "tune.max_multiply_adds": 1}))
    with pytest.raises(ValueError, match="tune.max_parameters: 0; at least 1"):
        check_search(tiny({"tune.max_parameters": 0}))
    # the channels of final networks can be tuned, so that they keep a limit
    narrow: dict[str, Any] = {"final.aspp_channels": CategoricalDistribution((4, 2))}
    check_search(tiny({"tune.max_parameters": small - 1}, narrow | {"architecture.nodes": IntDistribution(1, 1)}))


def test_a_limit_that_only_many_domains_together_meet_is_met():
    """More extremes than are all looked at, of which the first leaves one domain at a time."""
    domains: dict[str, Any] = {
        "architecture.unshuffle": CategoricalDistribution((1, 4)),
        "architecture.layers": CategoricalDistribution((3, 1)),
        "architecture.nodes": CategoricalDistribution((2, 1)),
        "final.width": CategoricalDistribution((8, 4)),
        "final.aspp_channels": CategoricalDistribution((4, 2)),
        "final.low_level_channels": CategoricalDistribution((4, 2)),
        "final.stem_channels": CategoricalDistribution((4, 2)),
    }
    least = least_size(tiny({key: domain.choices[-1] for key, domain in domains.items()}))["multiply_adds_per_pixel"]
    check_search(tiny({"tune.max_multiply_adds": least}, domains))
    with pytest.raises(ValueError, match=rf"tune.max_multiply_adds={least - 1} \({least}\): no configuration"):
        check_search(tiny({"tune.max_multiply_adds": least - 1}, domains))


def test_a_grid_is_as_large_as_what_keeps_the_limits(capsys):
    limit = least_size(tiny({"architecture.nodes": 2}))["parameters"]
    for most, trials in ((limit, 2), (limit - 1, 1)):
        config = tiny({"tune.sampler": "grid", "tune.trials": 9, "tune.max_parameters": most})
        check_search(config)
        assert config.tune.trials == trials and f"within tune.max_* is {trials}" in capsys.readouterr().out
    # more than are looked at to be certain that nothing keeps a limit
    many: dict[str, Any] = {
        "architecture.layers": IntDistribution(1, 3),
        "architecture.unshuffle": CategoricalDistribution((1, 2, 4)),
        "architecture.aspp": CategoricalDistribution((True, False)),
        "architecture.low_level": CategoricalDistribution((True, False)),
        "architecture.head": CategoricalDistribution(("separable", "plain")),
    }
    with pytest.raises(ValueError, match=r"tune.max_\*: no configuration of the grid keeps these limits"):
        check_search(tiny({"tune.sampler": "grid", "tune.max_parameters": 1}, many))
    huge = {f"search.{name}": IntDistribution(1, 20) for name in ("batch", "tile", "steps_per_epoch")}
    with pytest.raises(ValueError, match="a grid of 8000 configurations is too large"):
        check_search(tiny({"tune.sampler": "grid", "tune.max_parameters": limit}, huge))


def test_of_what_a_supernet_decodes_only_what_keeps_the_limits_is_trained_if_anything_does():
    config = tiny({"architecture.operators": ["conv", "skip"]}, {})
    found = [Decoding(make_encoding(config).sample(Random(seed)), "sample") for seed in range(6)]
    sizes = [size_of(decoding.genotype, config)["parameters"] for decoding in found]
    middle = sorted(sizes)[3]
    within = affordable(found, with_values(config, {"tune.max_parameters": middle}))
    assert within == [one for one, size in zip(found, sizes, strict=True) if size <= middle] and len(within) < 6
    assert affordable(found, config) == found
    assert affordable(found, with_values(config, {"tune.max_parameters": 1})) == found


def test_a_password_is_not_kept_with_the_limits():
    limits = limits_of(tiny({"tune.max_parameters": 9999, "tune.storage": "postgresql://me:secret@host/db"}))
    assert limits is not None and "secret" not in repr(limits)
    assert limits_of(tiny()) is None


def found(config: StudyConfig, *trials: tuple[str, float, int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Records of finished trials that found one genotype: name, score, parameters and configuration of each."""
    genotype = json.loads(make_encoding(config).sample(Random(0)).to_json())
    return [
        {
            "state": "COMPLETE",
            "genotype": genotype,
            "id": name,
            "configuration": number,
            "score": score,
            "parameters": parameters,
            "config": own,
        }
        for number, (name, score, parameters, own) in enumerate(trials)
    ]


def test_finals_keep_the_limits_and_are_built_as_their_trials_were():
    config = tiny({"search.method": "random", "final.count": 2})
    small = {"final.width": 4, "final.lr": 0.01, "search.ssim_weight": 0.5, "seed": 2}
    records = found(config, ("large", 30.0, 900, {"final.width": 8, "seed": 1}), ("small", 29.0, 300, small))
    assert [candidate.trial for candidate in choose(records, config)] == ["large", "small"]
    (kept,) = choose(records, with_values(config, {"tune.max_parameters": 300}))
    assert (kept.trial, kept.settings) == ("small", {"final.width": 4, "final.lr": 0.01})
    assert kept.make_network(with_values(config, kept.settings)).arguments()["width"] == 4
    with pytest.raises(ValueError, match=r"within .*the least: 300 of 299 parameters\); raise them and continue"):
        choose(records, with_values(config, {"tune.max_parameters": 299}))


def test_the_limits_are_those_of_the_networks_that_will_be_trained():
    """A resume may widen final networks where the trials of a supernet have not trained any."""
    config = tiny({"final.count": 2})
    genotype = make_encoding(config).sample(Random(0))
    wide = with_values(config, {"final.width": 12})
    narrow, widened = (size_of(genotype, settings)["parameters"] for settings in (config, wide))
    records = found(config, ("own", 30.0, narrow, {"final.width": 4}), ("common", 31.0, narrow, {}))
    most = {"tune.max_parameters": narrow}
    assert [one.trial for one in choose(records, with_values(config, most))] == ["common", "own"]
    assert [one.trial for one in choose(records, with_values(wide, most))] == ["own"]
    said = rf"the least: {widened} of {narrow} parameters\); raise them, or build smaller networks \(final.width\), and"
    with pytest.raises(ValueError, match=said):
        choose(records[1:], with_values(wide, most))


#: Domain -> values that make networks smaller or larger, not always in this order.
VALUES: dict[str, list[Any]] = {
    "architecture.unshuffle": [1, 2, 3],
    "architecture.layers": [1, 2, 3, 4, 5],
    "architecture.nodes": [2, 1, 3],
    "architecture.normalisation": ["batch", "none"],
    "architecture.aspp": [True, False],
    "architecture.low_level": [True, False],
    "architecture.head": ["separable", "plain", "linear"],
    "architecture.lower_level": [True, False],
    "architecture.tie_cells": [True, False],
    "final.width": [6, 2, 4],
    "final.stem_channels": [8, 2],
    "final.aspp_channels": [8, 2],
    "search.batch": [1, 2],
}


@st.composite
def domains_of_costs(draw: st.DrawFn) -> dict[str, Any]:
    """Up to three domains; each may be tuned only where one before it has some value."""
    domains: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=3, unique=True)):
        values = draw(st.lists(st.sampled_from(VALUES[name]), min_size=1, max_size=3, unique=True))
        domain: Any = CategoricalDistribution(values)
        if domains and draw(st.booleans()):
            other = draw(st.sampled_from(list(domains)))
            domain = Conditional(domain, {other: (draw(st.sampled_from(VALUES[other])),)})
        domains[name] = domain
    return domains


@settings(max_examples=30, deadline=None)
@given(domains_of_costs(), st.data())
def test_a_limit_is_refused_exactly_where_brute_force_finds_no_configuration(domains, data):
    own = {"architecture.multipliers": [1], "architecture.operators": ["sep", "skip"], "architecture.lower_level": True}
    config = tiny(own, domains)
    space = SearchSpace.of(config)
    sizes = [known_costs(config, values) for values in space.grid()]
    for metric, name in METRICS.items():
        size = data.draw(st.sampled_from(distinct(size[metric] for size in sizes)))
        config = with_values(config, {name: size - data.draw(st.integers(0, 1))})
    met = any(
        all(size[metric] <= getattr(config.tune, name.removeprefix("tune.")) for metric, name in METRICS.items())
        for size in sizes
    )
    try:
        check_limits(config, space)
        assert met
    except ValueError as error:
        assert not met and "no configuration can meet this" in str(error)
        said = [f"({min(size[metric] for size in sizes)})" for metric in METRICS]
        assert any(text in str(error) for text in said)


def test_limits_that_one_of_many_configurations_meets_exactly_are_not_refused():
    """Costs that pull in two directions: what saves parameters may take arithmetic."""
    names = ("unshuffle", "normalisation", "aspp", "head")
    domains: dict[str, Any] = {
        f"architecture.{name}": CategoricalDistribution(VALUES[f"architecture.{name}"]) for name in names
    }
    domains["final.width"] = CategoricalDistribution((8, 4))
    config = tiny({"architecture.operators": ["sep", "skip"]}, domains)
    space = SearchSpace.of(config)
    for unshuffle, head in itertools.product((2, 3), VALUES["architecture.head"]):
        values = {"architecture.unshuffle": unshuffle, "architecture.head": head, "final.width": 4}
        values |= {"architecture.normalisation": "none", "architecture.aspp": False}
        size = known_costs(config, values)
        check_limits(with_values(config, {name: size[metric] for metric, name in METRICS.items()}), space)


def test_fewer_layers_need_not_make_a_smaller_network():
    """Of two layers both are at the lower level, twice as wide; of three, one."""
    own = {"architecture.multipliers": [1], "architecture.lower_level": True, "architecture.aspp": False}
    own |= {"architecture.normalisation": "none", "architecture.head": "linear", "architecture.low_level": False}
    own |= {"architecture.operators": ["skip", "sep"], "final.width": 16}
    layers: dict[str, Any] = {"architecture.layers": IntDistribution(2, 6)}
    sizes = [least_size(tiny(own | {"architecture.layers": count}))["parameters"] for count in range(2, 7)]
    assert min(sizes) == sizes[1] < sizes[0]
    check_search(tiny(own | {"tune.max_parameters": sizes[1]}, layers))
    with pytest.raises(ValueError, match=rf"\({sizes[1]}\): no configuration can meet this"):
        check_search(tiny(own | {"tune.max_parameters": sizes[1] - 1}, layers))


def test_nothing_is_said_where_not_all_that_may_be_smallest_were_looked_at(monkeypatch):
    config = tiny({"tune.max_parameters": 1}, {"architecture.layers": IntDistribution(1, 3)} | NODES)
    with pytest.raises(ValueError, match="no configuration can meet this"):
        check_limits(config, SearchSpace.of(config))
    monkeypatch.setattr(limits_module, "MOST_LOOKED", 2)
    check_limits(config, SearchSpace.of(config))


def test_finals_that_differ_in_what_their_networks_do_not_read_are_trained_once():
    config = tiny({"architecture.aspp": False, "architecture.head": "plain", "final.count": 4})
    tried = [("final.aspp_channels", 2), ("final.aspp_channels", 4), ("final.stem_channels", 2), ("final.width", 8)]
    records = found(config, *[(key, score, 0, {key: value}) for score, (key, value) in enumerate(tried, start=1)])
    assert [candidate.settings for candidate in choose(records, config)] == [
        {"final.width": 8},
        {"final.stem_channels": 2},
        {"final.aspp_channels": 4},
    ]
