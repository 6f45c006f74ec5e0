"""Domains that exist only under conditions: what is proposed, what can never be, and extreme configurations."""

import itertools
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from irnas_ray.hpo.domains import Conditional, Domains, values_of
from irnas_ray.hpo.search_space import MOST_CORNERS, SearchSpace
from irnas_ray.settings.study import StudyConfig

CLIP, WEIGHT, LAYERS = "search.gradient_clip", "search.ssim_weight", "architecture.layers"
#: A chain: the clip depends on the weight, which depends on the layers, which are listed last.
CHAIN: Domains = {
    CLIP: Conditional(FloatDistribution(1, 10), {WEIGHT: (0.5, 0.7)}),
    WEIGHT: Conditional(CategoricalDistribution((0.1, 0.7)), {LAYERS: (2, 3)}),
    LAYERS: IntDistribution(2, 9),
}


def space_of(domains: Domains, **values: Any) -> SearchSpace:
    config = StudyConfig(domains=dict(domains))
    for name, value in values.items():
        setattr(config.search, name, value)
    return SearchSpace.of(config)


def configurations(space: SearchSpace, count: int = 200) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.propose(study.ask()) for _ in range(count)]


def test_domains_come_after_what_they_depend_on() -> None:
    assert SearchSpace(CHAIN).in_order() == [LAYERS, WEIGHT, CLIP]


@pytest.mark.parametrize(("own", "elsewhere"), [(0.5, True), (0.6, False)])
def test_what_is_proposed_follows_the_conditions(own: float, elsewhere: bool) -> None:
    """A domain whose condition does not hold is left out, and the study's own setting decides for those after it."""
    space = space_of(CHAIN, ssim_weight=own)
    found = configurations(space)
    for values in found:
        assert list(values) == [name for name in CHAIN if name in values]
        assert (WEIGHT in values) == (values[LAYERS] in (2, 3))
        if WEIGHT in values:
            assert (CLIP in values) == (values[WEIGHT] == 0.7)
        else:
            assert (CLIP in values) == elsewhere
        assert space.settle(values) == values
        assert space.settle({CLIP: 5.0, WEIGHT: 0.7} | values).keys() == {
            name for name in CHAIN if name in values or (name == CLIP and values.get(WEIGHT, 0.7) == 0.7 == own)
        }
    assert {len(values) for values in found} == ({2, 3} if elsewhere else {1, 2, 3})
    assert all(type(value) in (int, float) for values in found for value in values.values())


def test_a_study_keeps_what_was_proposed() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = space_of(CHAIN)
    proposed = [space.propose(study.ask()) for _ in range(20)]
    assert [trial.params for trial in study.trials] == proposed


def test_a_condition_on_a_fixed_setting() -> None:
    domains: Domains = {CLIP: Conditional(FloatDistribution(1, 10), {WEIGHT: (0.5,), "search.tile": (None, 64)})}
    assert configurations(space_of(domains), 1)[0].keys() == {CLIP}
    assert configurations(space_of(domains, tile=None), 1)[0].keys() == {CLIP}
    assert configurations(space_of(domains, tile=32), 1) == [{}]


NUMBER, CHOICE = FloatDistribution(0, 1), CategoricalDistribution((0.1, 0.7))
REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {CLIP: Conditional(NUMBER, {"search.ssim": (1,)})},
        "domains.search.gradient_clip: when: search.ssim: there is no",
    ),
    ({"search.clip": NUMBER}, "domains.search.clip: search.clip: there is no such setting; possible: method"),
    ({CLIP: Conditional(NUMBER, {WEIGHT: (0.4,)})}, "never hold: search.ssim_weight is not tuned and is 0.5"),
    ({CLIP: Conditional(NUMBER, {WEIGHT: (0.4,)}), WEIGHT: CHOICE}, "gradient_clip: .*can never hold: .*is tuned over"),
    ({CLIP: Conditional(NUMBER, {WEIGHT: (0.5,)}), WEIGHT: NUMBER}, "search.ssim_weight is continuous"),
    ({CLIP: Conditional(NUMBER, {CLIP: (1.0,)})}, r"a circle \(search.gradient_clip -> search.gradient_clip\)"),
    (
        {CLIP: Conditional(NUMBER, {WEIGHT: (0.1,)}), WEIGHT: Conditional(CHOICE, {CLIP: (5.0,)})},
        "search.gradient_clip.*go in a circle|go in a circle.*search.gradient_clip",
    ),
    (
        {
            CLIP: Conditional(NUMBER, {WEIGHT: (0.1,), LAYERS: (5,)}),
            WEIGHT: Conditional(CHOICE, {LAYERS: (2, 3)}),
            LAYERS: IntDistribution(2, 9),
        },
        "domains.search.gradient_clip: its conditions can never hold together",
    ),
]


@pytest.mark.parametrize(("domains", "message"), REFUSED)
def test_conditions_that_make_no_sense_are_refused_by_name(domains: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchSpace(domains).in_order()
        space_of(domains).check()


def test_conditions_that_can_hold_are_not_refused() -> None:
    space_of(CHAIN).check()
    # the weight is 0.5 only where it is not tuned
    domains = {**CHAIN, CLIP: Conditional(NUMBER, {WEIGHT: (0.5,)})}
    space_of(domains).check()


NAMES = [f"search.{name}" for name in ("batch", "crop", "tile", "momentum")]


@st.composite
def spaces(draw: st.DrawFn) -> Domains:
    """Up to four domains of small numbers; each may depend on those before it."""
    domains: dict[str, BaseDistribution | Conditional] = {}
    for index in range(draw(st.integers(1, 4))):
        distribution = IntDistribution(0, draw(st.integers(0, 2)))
        when = {}
        for earlier in draw(st.lists(st.sampled_from(NAMES[:index]), unique=True)) if index else []:
            when[earlier] = tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=2)))
        domains[NAMES[index]] = Conditional(distribution, when) if when else distribution
    return domains


@settings(max_examples=60, deadline=None)
@given(spaces(), st.integers(0, 3))
def test_grids_corners_and_refusals_agree_with_enumeration(domains: Domains, own: int) -> None:
    """The oracle: all full products, each cut down to what is tuned under it."""
    space = SearchSpace(domains, dict.fromkeys(NAMES, own))
    names = list(domains)
    products = itertools.product(*(values_of(space.distribution(name)) or [] for name in names))
    expected = {str(sorted(space.settle(dict(zip(names, p, strict=True))).items())) for p in products}
    found = [str(sorted(values.items())) for values in space.grid()]
    assert set(found) == expected and len(found) == len(expected)
    reached = {name for name in names if any(f"'{name}'" in text for text in expected)}
    try:
        space.check()
        assert reached == set(names)
    except ValueError as error:
        assert any(f"domains.{name}" in str(error) for name in set(names) - reached)
    ends = {str(sorted(values.items())) for values in space.corners()}
    assert ends <= expected and all(any(f"'{name}'" in text for text in ends) for name in reached)


def test_corners_of_many_domains_reach_every_end() -> None:
    many: dict[str, Any] = {f"search.{name}": NUMBER for name in ("weight_lr", "arch_lr", "momentum", "weight_decay")}
    many |= {f"final.{name}": NUMBER for name in ("lr", "sigma")} | {**CHAIN}
    found = space_of(many).corners()
    assert len(found) <= MOST_CORNERS
    for name in many:
        ends = {values[name] for values in found if name in values}
        assert ends >= (
            {0.1, 0.7} if name == WEIGHT else {2, 9} if name == LAYERS else {0, 1} if name != CLIP else {1, 10}
        )
