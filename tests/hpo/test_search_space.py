"""Domains that exist only under conditions: what is proposed, what can never be, and extreme configurations."""

import itertools
from typing import Any
from unittest import mock

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from irnas_ray.hpo import search_space
from irnas_ray.hpo.domains import Conditional, Domains, distinct, values_of
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


@settings(max_examples=100, deadline=None)
@given(spaces(), st.integers(0, 3), st.integers(0, 6))
def test_any_two_ends_that_can_come_together_do_so_in_a_corner(domains: Domains, own: int, most: int) -> None:
    """The domains have no values but their ends and the one between, so that the grid is the oracle."""
    space = SearchSpace(domains, dict.fromkeys(NAMES, own))
    ends = {name: {0, max(values_of(space.distribution(name)) or [0])} for name in domains}
    whole = list(space.grid())
    with mock.patch.object(search_space, "MOST_CORNERS", most):
        found = space.corners()
        greatest = space.greatest(lambda values: sum(values.values()))
    assert all(values in whole for values in [*found, greatest]) and distinct(found) == found
    for one, two in itertools.combinations_with_replacement(domains, 2):
        for a, b in itertools.product(ends[one], ends[two]):
            pair = {one: a, two: b}.items()
            assert any(pair <= v.items() for v in found) == any(pair <= v.items() for v in whole)
    # what conditions leave out is looked at, too
    for name in domains:
        assert any(name not in values for values in found) == any(name not in values for values in whole)


def test_corners_of_very_many_domains_are_few() -> None:
    domains: Domains = {f"search.{number}": IntDistribution(0, 9) for number in range(20)}
    found = SearchSpace(domains).corners()
    assert len(found) < 30
    for one, two in itertools.combinations(domains, 2):
        assert {(values[one], values[two]) for values in found} == {(0, 0), (0, 9), (9, 0), (9, 9)}
    assert SearchSpace(domains).greatest(lambda values: sum(values.values())) == dict.fromkeys(domains, 9)


def test_corners_of_long_lists_are_no_more_than_their_choices() -> None:
    long: Any = CategoricalDistribution(range(100))
    found = SearchSpace({"search.a": long, "search.b": long, "search.c": IntDistribution(0, 1)}).corners()
    assert len(found) == 200
    assert all({values[name] for values in found} == {*range(100)} for name in ("search.a", "search.b"))


def test_one_is_not_taken_for_true() -> None:
    found = SearchSpace({"search.a": CategoricalDistribution((True, 1, 0))}).corners()
    assert [repr(values["search.a"]) for values in found] == ["True", "1", "0"]


def test_what_lies_between_the_ends_of_layers_is_looked_at() -> None:
    """Sizes go up and down with every third layer."""
    found = SearchSpace({LAYERS: IntDistribution(1, 20)}).corners()
    assert [values[LAYERS] for values in found] == [1, 2, 3, 18, 19, 20]


def test_an_end_that_a_condition_names_does_not_stand_for_what_lies_between() -> None:
    domains = {CLIP: Conditional(NUMBER, {LAYERS: (2, 9)}), LAYERS: IntDistribution(2, 9)}
    assert any(CLIP not in values for values in space_of(domains).corners())


@pytest.mark.filterwarnings("ignore:Choices for a categorical")
def test_a_condition_on_lists() -> None:
    """Lists, such as multipliers, are in no set or dictionary."""
    multipliers = "architecture.multipliers"
    choices: Any = ([1], [1, 2], [1, 2, 4])
    domains: Domains = {
        CLIP: Conditional(FloatDistribution(1, 10), {multipliers: ([1], [1, 2])}),
        multipliers: CategoricalDistribution(choices),
    }
    space = space_of(domains)
    space.check()
    for values in configurations(space, 40):
        assert (CLIP in values) == (values[multipliers] != [1, 2, 4])
    assert len(space.corners()) == 5
    with pytest.raises(ValueError, match=r"when architecture.multipliers in \[\[3\]\] can never hold: .*is tuned over"):
        space_of({**domains, CLIP: Conditional(NUMBER, {multipliers: ([3],)})}).check()


def test_ranges_without_end_are_not_listed() -> None:
    space = SearchSpace(
        {"search.batch": IntDistribution(1, 10**12), "final.width": IntDistribution(4, 10**12, step=4)}, {}
    )
    space.check()
    assert len(space.corners()) == 4 and space.kinds("search.batch") == [1]
