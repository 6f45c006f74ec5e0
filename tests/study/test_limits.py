"""Limits of what final networks cost: the smallest of a space, spaces that cannot meet them, and what is retrained."""

import json
from random import Random
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from test_checks import make_config

from irnas_ray.networks.building import make_encoding
from irnas_ray.networks.costs import least_size, size_of
from irnas_ray.search.decodings import Decoding
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.study.candidates import choose
from irnas_ray.study.checks import check_search
from irnas_ray.study.limits import affordable, limits_of

TINY: dict[str, Any] = {
    "final.width": 4,
    "final.stem_channels": 4,
    "final.aspp_channels": 4,
    "final.low_level_channels": 2,
}
NODES: dict[str, Any] = {"architecture.nodes": IntDistribution(1, 2)}


def tiny(values: dict[str, Any] | None = None, domains: dict[str, Any] | None = None) -> StudyConfig:
    return make_config(TINY | (values or {}), domains if domains is not None else NODES)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"architecture.operators": ["conv", "sep", "dil"]},
        {"architecture.multipliers": [1, 0.5]},
        {"architecture.multipliers": [2, 4, 1]},
        {"architecture.normalisation": "none", "architecture.aspp": False, "architecture.unshuffle": 2},
    ],
)
def test_no_network_of_a_space_is_smaller_than_the_smallest(values):
    config = tiny(values)
    encoding, least = make_encoding(config), least_size(config)
    sizes = [size_of(encoding.sample(Random(seed)), config) for seed in range(20)]
    for metric in least:
        assert 0 < least[metric] <= min(size[metric] for size in sizes)


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
