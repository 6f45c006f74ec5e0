"""The networks that an audit compares with: near what was found, one edit away from it, or of one kind."""

import dataclasses

import pytest
from audit_folders import settings

from irnas_ray.audit import networks as audit_networks
from irnas_ray.audit.networks import NEAR, UniformNetworks, controls, is_near, mutants
from irnas_ray.cli.command_line import compose_settings
from irnas_ray.genotypes.published import load_genotype
from irnas_ray.networks.building import make_encoding
from irnas_ray.networks.costs import size_of
from irnas_ray.settings.audit import AuditConfig
from irnas_ray.settings.study import with_values


@pytest.fixture(scope="module")
def compact():
    return compose_settings("audit", AuditConfig, [])


@pytest.fixture(scope="module")
def found(compact):
    return UniformNetworks(compact, seed=3).near([9000.0], 1)[0]


def test_uniform_networks_are_near_their_targets_and_never_the_same(compact):
    targets = [6000.0, 11000.0]
    networks = UniformNetworks(compact, seed=0)
    drawn = networks.near(targets, 5)
    assert [one.name for one in drawn] == [f"uniform {place}" for place in range(1, 6)]
    for place, one in enumerate(drawn):
        size = size_of(one.genotype, with_values(compact, one.settings))
        assert size == {"parameters": one.parameters, "multiply_adds_per_pixel": one.multiply_adds}
        assert is_near(one.multiply_adds, targets[place % 2])
    assert len({(one.genotype, str(one.settings)) for one in drawn}) == 5 <= networks.drawn
    assert (
        UniformNetworks(compact, seed=0).near(targets, 5) == drawn != UniformNetworks(compact, seed=1).near(targets, 5)
    )


def test_limits_hold_for_uniform_networks(compact, monkeypatch):
    most = with_values(compact, {"tune.max_multiply_adds": 5000, "tune.max_parameters": 20_000})
    networks = UniformNetworks(most, seed=0)
    drawn = [networks.draw() for _ in range(6)]
    assert all(one.multiply_adds <= 5000 and one.parameters <= 20_000 for one in drawn) and networks.drawn > 6
    monkeypatch.setattr(audit_networks, "MOST_REJECTIONS", 20)
    with pytest.raises(ValueError, match=r"tune\.max_\*: none of 20 random networks is within the limits"):
        UniformNetworks(with_values(settings(), {"tune.max_parameters": 1}), seed=0).draw()


def test_where_nothing_is_near_the_nearest_is_taken(monkeypatch):
    monkeypatch.setattr(audit_networks, "DRAWS", 20)
    config = settings()
    sizes = [size_of(genotype, config)["multiply_adds_per_pixel"] for genotype in make_encoding(config).enumerate()]
    (one,) = UniformNetworks(config, seed=0).near([100.0 * max(sizes)], 1)
    assert one.multiply_adds > sorted(sizes)[len(sizes) // 2] and not is_near(one.multiply_adds, 100.0 * max(sizes))


def test_near_is_fifteen_per_cent_of_the_target():
    assert NEAR == 0.15 and is_near(115, 100) and is_near(85, 100) and not is_near(116, 100) and not is_near(84, 100)


def test_mutants_are_one_edit_away(compact, found):
    others = mutants(found, compact, 4, seed=0)
    values = {"layers": found.genotype.layers} | dataclasses.asdict(found.genotype.macro)
    encoding = make_encoding(with_values(compact, {f"architecture.{key}": value for key, value in values.items()}))
    assert len({one.genotype for one in others}) == 4
    assert [encoding.distance(found.genotype, one.genotype) for one in others] == [1] * 4
    assert all(one.settings == found.settings for one in others)
    assert mutants(found, compact, 4, seed=0) == others
    # more are not there than there are
    assert len(mutants(found, compact, 10_000, 0)) == len(set(encoding.neighbours(found.genotype)) - {found.genotype})


def test_controls_cost_about_what_was_found(compact, found):
    conv, skip, paper, dncnn = controls(found, compact)
    assert [one.name for one in (conv, skip, paper, dncnn)] == [
        "all convolution",
        "all skip",
        "the paper's cell",
        "DnCNN",
    ]
    assert {edge.operator for node in conv.genotype.cells[0] for edge in node} == {"conv"}
    assert {edge.operator for node in skip.genotype.cells[0] for edge in node} == {"skip"}
    assert skip.settings == found.settings
    assert paper.genotype.cells == load_genotype("irnas_denoise").cells[:1]
    assert {one.genotype.macro for one in (conv, skip, paper)} == {found.genotype.macro}
    for one in (conv, paper, dncnn):
        assert abs(one.multiply_adds / found.multiply_adds - 1) < 0.25, one
    assert dncnn.arguments["width"] >= 16 and dncnn.candidate(1, 7, "controls").make_network(compact) is not None
    assert dncnn.candidate(1, 7, "controls").settings == {"final.seed": 7}
