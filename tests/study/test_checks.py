"""What is checked before hours of work: every impossible setting is named, a possible one is completed."""

import re
from dataclasses import fields, is_dataclass
from typing import Any, get_args

import pytest
from command_line_cases import leaves
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from irnas_ray.datasets.manifest import ImageEntry, Manifest
from irnas_ray.hpo.domains import Conditional
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.study.checks import SMALLEST_CROP, check_data, check_search, check_settings

SMALL: dict[str, Any] = {
    "architecture.layers": 2,
    "architecture.nodes": 1,
    "architecture.width": 4,
    "architecture.stem_channels": 4,
}
SMALL |= {"architecture.operators": ["conv", "skip", "none"]}


def make_config(values: dict[str, Any] | None = None, domains: dict[str, Any] | None = None) -> StudyConfig:
    """A small study that is possible, with some settings replaced."""
    config = with_values(StudyConfig(), SMALL | (values or {}))
    config.domains = domains or {}
    return config


def refused(values: dict[str, Any] | None = None, domains: dict[str, Any] | None = None) -> str:
    with pytest.raises(ValueError) as caught:
        check_settings(make_config(values, domains))
    return str(caught.value)


PROTOCOLS: list[tuple[dict[str, Any], str]] = [
    ({}, "photographs-gray"),
    ({"data.color": "rgb", "architecture.channels": 3}, "photographs-rgb"),
    ({"data.form": "images"}, "images-gray"),
    ({"data.form": "images", "data.color": "rgb", "architecture.channels": 3}, "images-rgb"),
    ({"data.form": "pairs", "degradation.kind": "paired"}, "pairs-gray"),
    (
        {"data.form": "halves", "degradation.kind": "paired", "data.color": "rgb", "architecture.channels": 3},
        "pairs-rgb",
    ),
]


@pytest.mark.parametrize(("values", "protocol"), PROTOCOLS)
def test_a_possible_study_passes_and_gets_the_protocol_that_fits(values, protocol):
    config = make_config(values)
    check_settings(config)
    assert config == make_config(values | {"final.protocol": protocol})


def test_a_protocol_that_is_given_stays():
    config = make_config({"final.protocol": "bsd200-gray-full"})
    check_settings(config)
    assert config.final.protocol == "bsd200-gray-full"


def bounds(settings: Any, prefix: str = "") -> dict[str, dict[str, float]]:
    """Dotted key -> bounds of every setting that has some."""
    found: dict[str, dict[str, float]] = {}
    for field in fields(settings):
        value, key = getattr(settings, field.name), f"{prefix}{field.name}"
        found |= bounds(value, f"{key}.") if is_dataclass(value) else {}
        found |= {key: field.metadata["bounds"]} if "bounds" in field.metadata else {}
    return found


LEAST = {key: own["at_least"] for key, own in bounds(StudyConfig()).items() if "at_least" in own}


@pytest.mark.parametrize(("key", "least"), LEAST.items())
def test_a_number_that_is_too_small_is_named(key, least):
    warmup = {"search.warmup_epochs": 0}
    for value in (least - 1, -5):
        assert refused(warmup | {key: value}).startswith(f"{key}: {value}; at least {least}")
    if key != "architecture.channels":
        check_settings(make_config(warmup | {key: least}))


#: Values that a number may come near to and not have.
BEYOND = [
    (key, own[name], f"{name.replace('_', ' ')} {own[name]}")
    for key, own in bounds(StudyConfig()).items()
    for name in ("more_than", "less_than")
    if name in own
]


@pytest.mark.parametrize(("key", "bound", "message"), BEYOND)
def test_a_number_that_may_not_be_its_bound_is_named(key, bound, message):
    said = refused({key: bound})
    assert said.startswith(f"{key}: {bound}; ") and message in said


def test_most_settings_have_a_bound():
    assert len(LEAST) + len(BEYOND) >= 48
    assert {"final.beta2", "final.gradient_clip", "search.gradient_clip"} <= {key for key, _, _ in BEYOND}


#: Seeds may be anything, Ray retries for ever at -1, and a step between patches is checked when data are prepared.
MAY_BE_NEGATIVE = {"tune.seed", "final.seed", "data.split_seed", "tune.max_failures", "data.stride"}


def test_no_other_whole_number_may_be_negative():
    for key, hint in leaves(StudyConfig).items():
        if (hint is int or int in get_args(hint)) and key not in MAY_BE_NEGATIVE:
            message = refused({key: -1})
            assert key in message and "-1" in message


WRONG: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"architecture.channels": 3}, ("architecture.channels is 3", "data.color=gray has 1")),
    ({"data.color": "rgb"}, ("architecture.channels is 1", "data.color=rgb has 3")),
    ({"search.crop": SMALLEST_CROP - 1}, ("search.crop: 10; from 11", "data.patch=96")),
    ({"final.crop": SMALLEST_CROP - 1}, ("final.crop: 10; from 11", "data.patch=96")),
    ({"search.crop": 97}, ("search.crop: 97", "data.patch=96")),
    ({"final.width": 10**6}, ("final.width: 1000000; a network of more than", "at most 1e+09 are built")),
    ({"architecture.nodes": 10**4}, ("architecture.nodes: 10000; at most 100",)),
    ({"architecture.layers": 10**4}, ("architecture.layers: 10000; at most 100",)),
    ({"final.crop": 97}, ("final.crop: 97", "data.patch=96")),
    ({"search.warmup_epochs": 100}, ("search.warmup_epochs: 100; 0 to 99",)),
    ({"search.warmup_epochs": -1}, ("search.warmup_epochs: -1",)),
    ({"search.method": "single_path"}, ("search.method=single_path", "of 3", "architecture.multipliers=[1]")),
    (
        {"search.method": "single_path", "architecture.multipliers": [1], "search.beta_decay": 1.0},
        ("search.beta_decay", "no alpha"),
    ),
    ({"search.candidates": 2}, ("search.candidates: 2", "search.proxy_steps")),
    (
        {"architecture.normalise_skip": True, "architecture.normalisation": "none"},
        ("architecture.normalise_skip", "architecture.normalisation=none", "leave out one"),
    ),
    ({"search.warmup_paths": True}, ("search.warmup_paths", "of 3", "architecture.multipliers=[1]")),
    ({"architecture.nodes": 0}, ("architecture.nodes: 0",)),
    ({"architecture.width": 0}, ("architecture.width: 0",)),
    ({"architecture.operators": ["conv", "conf"]}, ("architecture.operators", "'conf'", "possible: conv, sep, dil")),
    ({"architecture.operators": ["none"]}, ("architecture.operators",)),
    ({"architecture.multipliers": []}, ("architecture.multipliers",)),
    ({"architecture.multipliers": [1e308]}, ("architecture.multipliers: 1e+308", "at most 1000000")),
    ({"search.method": "random", "architecture.multipliers": [1e300]}, ("architecture.multipliers: 1e+300",)),
    ({"final.width": 10**400}, ("final.width: 1000", "a level has at most 1000000 channels")),
    ({"architecture.multipliers": [1, 1.3]}, ("architecture.width: 4 times 1.3",)),
    ({"architecture.activation": "tanh"}, ("architecture.activation: unknown 'tanh'; possible: relu, leaky_relu",)),
    ({"architecture.operators": ["sep"], "architecture.sep_repeats": 0}, ("architecture.sep_repeats: 0",)),
    ({"final.width": 0}, ("final.width: 0",)),
    ({"final.width": 7, "architecture.multipliers": [1, 1.5]}, ("final.width: 7 times 1.5",)),
    ({"degradation.sigmas": []}, ("degradation.sigmas", "at least one")),
    ({"degradation.sigmas": [30, -1]}, ("degradation.sigmas", "-1")),
    ({"final.sigma": float("nan")}, ("final.sigma", "nan")),
    ({"degradation.kind": "snow"}, ("degradation.kind: unknown 'snow'; possible: gaussian, camera",)),
    ({"degradation.ranged": True}, ("degradation.sigmas", "not a range", "two noise levels")),
    ({"degradation.ranged": True, "degradation.sigmas": [50, 10]}, ("degradation.sigmas", "[50.0, 10.0]")),
    ({"degradation.kind": "camera", "degradation.camera.shot": [1, 0]}, ("degradation.camera.shot: [1, 0]",)),
    ({"degradation.rain.opacity": [0, 2]}, ("degradation.rain.opacity: [0, 2]", "between 0 and 1")),
    ({"degradation.kind": "rain", "final.blind": True}, ("final.blind", "degradation.kind=rain")),
    ({"degradation.kind": "rain", "final.protocol": "images-gray"}, ("final.protocol: images-gray is gaussian",)),
    ({"final.minutes": 0.0}, ("final.minutes: 0.0; more than 0",)),
    ({"final.warmup": 1.0}, ("final.warmup: 1.0; a share of the training",)),
    ({"final.ema_decay": 1.0}, ("final.ema_decay: 1.0; between 0 and 1",)),
    ({"search.tile": 0}, ("search.tile: 0; at least 1",)),
    ({"final.images": 0}, ("final.images: 0; at least 1",)),
    ({"final.protocol": "other"}, ("'other'", "photographs-gray")),
    ({"final.protocol": "images-rgb"}, ("final.protocol: images-rgb is rgb", "data.color=gray")),
    ({"final.protocol": "pairs-gray"}, ("final.protocol: pairs-gray is paired", "degradation.kind=gaussian")),
]


def test_noise_levels_do_not_matter_to_pairs():
    check_settings(make_config({"degradation.kind": "paired", "degradation.sigmas": [], "data.form": "pairs"}))


@pytest.mark.parametrize(("values", "parts"), WRONG)
def test_settings_that_do_not_fit_are_named(values, parts):
    message = refused(values)
    assert all(part in message for part in parts), message


CHOICE = CategoricalDistribution((1, 2))
WRONG_DOMAINS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"architecture.nods": CHOICE}, ("architecture.nods", "possible: channels, layers, nodes")),
    ({"nodes": CHOICE}, ("nodes", "no such setting")),
    ({"final.crop": CHOICE}, ("domains.final.crop: cannot differ", "architecture.*, search.*")),
    ({"data.patch": CHOICE}, ("domains.data.patch: cannot differ",)),
    ({"architecture.channels": CHOICE}, ("domains.architecture.channels: cannot differ",)),
    ({"search.epochs": CHOICE}, ("domains.search.epochs: cannot differ",)),
    ({"architecture.nodes": [1, 2]}, ("domains.architecture.nodes: [1, 2] is not an Optuna distribution",)),
    ({"architecture.nodes": IntDistribution(0, 2)}, ("architecture.nodes: 0",)),
    ({"search.warmup_epochs": IntDistribution(1, 100)}, ("search.warmup_epochs: 100",)),
    ({"architecture.width": CategoricalDistribution((4, 0, 6))}, ("architecture.width: 0",)),
    ({"search.batch": IntDistribution(0, 8)}, ("search.batch: 0; at least 1",)),
    ({"search.crop": CategoricalDistribution((64, 128))}, ("search.crop: 128", "data.patch=96")),
    ({"search.batch": Conditional(IntDistribution(0, 8), {"search.crop": (64,)})}, ("search.batch: 0; at least 1",)),
    ({"search.batch": Conditional(CHOICE, {"search.crop": (48,)})}, ("domains.search.batch", "search.crop", "is 64")),
    ({"search.batch": Conditional(CHOICE, {"search.corp": (48,)})}, ("domains.search.batch: when: search.corp",)),
    ({"final.crop": Conditional(CHOICE, {"search.crop": (64,)})}, ("domains.final.crop: cannot differ",)),
]


@pytest.mark.filterwarnings("ignore:Choices for a categorical")
def test_what_is_impossible_only_where_it_is_not_tuned_is_no_fault():
    """Width 5 cannot be multiplied by 1.5; it is tuned only where no level is."""
    levels = CategoricalDistribution(([1, 2], [1, 1.5]))
    values = {"final.width": 4}
    domains: dict[str, Any] = {"architecture.tie_cells": CategoricalDistribution((True, False))}
    domains["architecture.multipliers"] = Conditional(levels, {"architecture.tie_cells": (True,)})
    domains["architecture.width"] = Conditional(CategoricalDistribution((5,)), {"architecture.tie_cells": (False,)})
    check_settings(make_config(values, domains))
    domains["architecture.width"] = CategoricalDistribution((5,))
    assert "architecture.width: 5 times 1.5" in refused(values, domains)


def test_a_search_needs_domains_or_a_grid(capsys):
    with pytest.raises(ValueError, match="nothing is tuned.*tune.sampler=grid"):
        check_search(make_config())
    config = make_config({"tune.sampler": "grid", "tune.replicates": 3, "tune.trials": 9})
    check_search(config)
    assert (config.tune.trials, config.tune.replicates) == (1, 3)
    assert capsys.readouterr().out == "tune.trials: 9, but the whole grid is 1, so that many are run\n"
    config = make_config({"tune.sampler": "grid", "tune.trials": 3}, {"architecture.nodes": IntDistribution(1, 5)})
    check_search(config)
    assert config.tune.trials == 3 and not capsys.readouterr().out
    with pytest.raises(ValueError, match="domains.search.arch_lr: .*is continuous"):
        check_search(make_config({"tune.sampler": "grid"}, {"search.arch_lr": FloatDistribution(0, 1)}))


@pytest.mark.parametrize(("domains", "parts"), WRONG_DOMAINS)
@pytest.mark.usefixtures("unannotated")  # a list is no domain, and is to be told so
def test_domains_that_reach_what_is_impossible_are_named(domains, parts):
    message = refused(domains=domains)
    assert all(part in message for part in parts), message


def test_an_impossible_combination_of_domains_is_found():
    widths = {"architecture.width": CategoricalDistribution((4, 5))}
    values = {"architecture.multipliers": [1, 1.5], "final.width": 4}
    assert "architecture.width: 5 times 1.5" in refused(values, widths)


def test_every_end_of_many_domains_is_looked_at():
    rates = ("arch_lr", "weight_lr", "weight_lr_min", "momentum", "weight_decay", "arch_weight_decay", "ssim_weight")
    many: dict[str, Any] = {f"search.{name}": FloatDistribution(0.1, 0.2) for name in rates}
    check_settings(make_config(domains=many))
    for domains in ({"architecture.nodes": IntDistribution(0, 1)}, {"search.warmup_epochs": IntDistribution(1, 100)}):
        (key,) = domains
        assert key in refused(domains=domains | many) and key in refused(domains=many | domains)


def choice(*values: Any) -> CategoricalDistribution:
    return CategoricalDistribution(values)


MULTIPLIERS = {"architecture.multipliers": choice([1], [1, 2])}
IMPOSSIBLE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"architecture.lower_level": True}, MULTIPLIERS, "architecture.lower_level: a supernet with it has one width"),
    ({}, MULTIPLIERS | {"architecture.lower_level": choice(False, True)}, "a supernet with it has one width, not 2"),
    (
        {},
        {"architecture.normalise_skip": choice(False, True), "architecture.normalisation": choice("batch", "none")},
        "architecture.normalise_skip: architecture.normalisation=none",
    ),
    (
        {"final.width": 4},
        {"architecture.multipliers": choice([1], [1, 1.5]), "architecture.width": IntDistribution(4, 8)},
        "architecture.width: width: 5 times 1.5",
    ),
]


@pytest.mark.filterwarnings("ignore:Choices for a categorical")
@pytest.mark.parametrize(("values", "domains", "message"), IMPOSSIBLE)
@pytest.mark.parametrize("first", [True, False])
def test_an_impossible_pair_among_many_domains_is_found(values, domains, message, first):
    values = {"architecture.multipliers": [1]} | values
    many: dict[str, Any] = {
        "architecture.head": choice("separable", "plain", "linear"),
        "architecture.nodes": IntDistribution(1, 3),
        "architecture.unshuffle": choice(1, 2, 4),
        "architecture.residual": choice(False, True),
        "architecture.activation": choice("relu", "leaky_relu"),
    }
    check_settings(make_config({"architecture.multipliers": [1]}, dict(many)))
    assert message in refused(values, domains | many if first else many | domains)


ASPP, STEM = {"final.aspp_channels": choice(8, 16)}, {"final.stem_channels": choice(8, 16)}
UNREAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"architecture.head": "plain"}, ASPP | {"architecture.aspp": choice(False)}, "architecture.aspp=true or"),
    ({}, STEM | {"architecture.normalisation": choice("none")}, "architecture.normalisation=batch"),
    (
        {"architecture.head": "plain"},
        {"final.aspp_channels": Conditional(choice(8, 16), {"architecture.aspp": (False,)})}
        | {"architecture.aspp": choice(True, False)},
        "architecture.aspp=true or architecture.head=separable",
    ),
    (
        {},
        STEM
        | {"architecture.nodes": IntDistribution(1, 2)}
        | {"architecture.normalisation": Conditional(choice("none", "batch"), {"architecture.nodes": (1,)})}
        | {"final.stem_channels": Conditional(choice(8, 16), {"architecture.normalisation": ("none",)})},
        "architecture.normalisation=batch",
    ),
]


@pytest.mark.parametrize(("values", "domains", "message"), UNREAD)
def test_channels_that_no_network_of_the_space_reads_are_not_tuned(values, domains, message):
    said = refused(values, domains)
    assert "no network here has such channels; they need" in said and message in said


@pytest.mark.parametrize(
    "domains",
    [
        ASPP | {"architecture.aspp": choice(False, True)},
        ASPP | {"architecture.aspp": choice(False), "architecture.head": choice("plain", "separable")},
        STEM | {"architecture.normalisation": choice("none", "batch")},
        {"final.aspp_channels": Conditional(choice(8, 16), {"architecture.aspp": (True,)})}
        | {"architecture.aspp": choice(True, False)},
    ],
)
def test_channels_that_some_network_of_the_space_reads_are_tuned(domains):
    check_settings(make_config({"architecture.head": "plain"}, domains))


def make_manifest(**values: Any) -> Manifest:
    images = (ImageEntry("a", "train", 99, 99, ""), ImageEntry("b", "test", 99, 99, ""))
    facts: dict[str, Any] = {"form": "images", "source": None, "color": "gray", "patch": 96}
    facts |= {"paired": False, "fingerprint": "", "files": {}, "versions": {}, "created": ""}
    return Manifest(**(facts | {"images": images} | values))


def test_data_that_fit_pass():
    for values, holds in (
        ({}, {}),
        ({}, {"patch": 64}),
        ({"degradation.kind": "camera"}, {}),
        ({"degradation.kind": "paired"}, {"paired": True}),
        ({"degradation.kind": "paired", "final.protocol": "frozen-gray-rain"}, {"paired": True, "form": "frozen-rain"}),
    ):
        config = make_config(values)
        check_settings(config)
        check_data(config, make_manifest(**holds))


WRONG_DATA: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"color": "rgb"}, {}, "holds 3 channels, the network 1"),
    ({"images": (ImageEntry("a", "train", 99, 63, ""),)}, {}, "a training image has a side of 63 pixels, less than"),
    ({"images": (ImageEntry("a", "train", 64, 99, ""),)}, {"final.crop": 65}, "a training image has a side of 64"),
    ({"paired": True}, {}, "holds pairs; set degradation.kind=paired"),
    ({}, {"degradation.kind": "paired"}, "holds clean images only; set degradation.kind=gaussian"),
    ({"images": (ImageEntry("a", "train", 99, 99, ""),)}, {}, "holds no test images"),
]


@pytest.mark.parametrize(("holds", "values", "message"), WRONG_DATA)
def test_data_that_do_not_fit_are_refused(holds, values, message):
    with pytest.raises(ValueError, match=f"data.source: {message}"):
        check_data(make_config(values), make_manifest(**holds))


@pytest.mark.parametrize(
    ("protocol", "form"),
    [("pairs-gray", "frozen-camera"), ("frozen-gray-camera", "pairs"), ("frozen-gray-rain", "frozen-camera")],
)
def test_frozen_data_are_scored_under_their_own_protocol(protocol, form):
    config = make_config({"degradation.kind": "paired", "final.protocol": protocol})
    with pytest.raises(ValueError, match=f"final.protocol: protocol {protocol} does not score {form}"):
        check_data(config, make_manifest(paired=True, form=form))


def test_the_protocol_names_the_degradation():
    def protocol(**degradation: Any) -> str | None:
        config = make_config({f"degradation.{key.replace('__', '.')}": value for key, value in degradation.items()})
        check_settings(config)
        return config.final.protocol

    assert protocol() == protocol(sigmas=[5], ranged=False) == "photographs-gray"
    assert protocol(kind="camera") == protocol(kind="camera", rain__layers=3) == "photographs-gray-camera"
    assert protocol(kind="rain") == "photographs-gray-rain"
    assert protocol(kind="paired") == "pairs-gray"
    other = protocol(kind="rain", rain__layers=3)
    assert other is not None and re.fullmatch("photographs-gray-rain-[0-9a-f]{8}", other)
    config = make_config({"degradation.kind": "rain", "final.protocol": other})
    with pytest.raises(ValueError, match="settings of degradation.rain that are not the ones given"):
        check_settings(config)


EVOLUTION = {"search.method": "evolution"}
WRONG_METHODS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"tune.perturb_every": 2}, {}, "tune.perturb_every: search.method=evolution has no supernet"),
    ({"tune.sampler": "gp"}, {}, "tune.sampler: gp, but search.method=evolution proposes"),
    ({"tune.objectives": ["score", "parameters"]}, {}, "tune.objectives: search.method=evolution has one"),
    ({"search.population": 16}, {}, "search.population: 16; less than tune.trials=16"),
    ({}, {"architecture.operators": CHOICE}, "domains.architecture.operators: search.method=evolution has no supernet"),
]


@pytest.mark.parametrize(("values", "domains", "message"), WRONG_METHODS)
def test_what_a_method_cannot_do_is_refused(values, domains, message):
    with pytest.raises(ValueError, match=message):
        check_search(make_config(EVOLUTION | values, domains))


def test_a_method_without_a_supernet_needs_no_domain_and_leaves_out_those_of_supernets(capsys):
    check_search(make_config(EVOLUTION))
    check_settings(make_config(EVOLUTION))
    domains: dict[str, Any] = {"search.arch_lr": FloatDistribution(0, 1), "architecture.width": CHOICE}
    config = make_config(EVOLUTION | {"tune.sampler": "tpe"}, domains | {"final.width": CHOICE})
    check_search(config)
    assert list(config.domains) == ["final.width"]
    said = "domains.search.arch_lr, domains.architecture.width: not tuned, because search.method=evolution has no "
    assert capsys.readouterr().out == f"{said}supernet\n"
    kept = make_config(domains=domains)
    check_search(kept)
    assert kept.domains == domains and not capsys.readouterr().out


def test_every_width_of_a_domain_has_to_give_whole_numbers_of_channels():
    wide: dict[str, Any] = {"architecture.multipliers": [1, 1.5], "architecture.width": 8, "final.width": 8}
    refusal = r"domains.final.width: width: 9 times 1.5 is not a whole number of channels"
    for more in ({}, {"tune.max_parameters": 10**6}):
        config = make_config(EVOLUTION | wide | more, {"final.width": IntDistribution(8, 12)})
        for check in (check_settings, check_search) if more else (check_settings,):
            with pytest.raises(ValueError, match=refusal):
                check(config)
    check_settings(make_config(EVOLUTION | wide, {"final.width": IntDistribution(8, 12, step=2)}))


def test_channels_that_no_network_of_the_space_has_are_not_tuned():
    plain = {"normalisation": "none", "aspp": False, "low_level": False, "head": "linear", "residual": True}
    config = {f"architecture.{name}": value for name, value in plain.items()}
    for name, needed in (
        ("stem", "architecture.normalisation=batch"),
        ("aspp", "architecture.aspp=true or architecture.head=separable"),
        ("low_level", "architecture.low_level=true"),
    ):
        channels: dict[str, Any] = {f"final.{name}_channels": IntDistribution(8, 16)}
        with pytest.raises(ValueError, match=f"domains.final.{name}_channels: no network .*; they need {needed}"):
            check_search(make_config(EVOLUTION | config, channels))
        check_search(make_config(EVOLUTION, channels))
        key = needed.partition("=")[0]
        tuned: dict[str, Any] = {
            key: CategoricalDistribution([config[key], getattr(StudyConfig().architecture, key[13:])])
        }
        check_search(make_config(EVOLUTION | config, channels | tuned))


def test_the_recipe_is_tuned_where_trials_train_by_it():
    domains: dict[str, Any] = {"final.lr": FloatDistribution(1e-3, 3e-2, log=True), "final.schedule": CHOICE}
    check_search(make_config(EVOLUTION, domains))
    check_search(make_config({"search.proxy_steps": 10}, domains))
    with pytest.raises(ValueError, match="domains.final.lr: no trial trains by it; give search.proxy_steps"):
        check_search(make_config({"search.proxy_steps": 0}, domains))
    with pytest.raises(ValueError, match="domains.final.batch: cannot differ between trials"):
        check_search(make_config(EVOLUTION, {"final.batch": CHOICE}))


GENOTYPES_WRONG: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"architecture.operators": ["conv", "blur"]}, ("architecture.operators: unknown operator 'blur'",)),
    ({"architecture.operators": ["none"]}, ("architecture.operators",)),
    ({"architecture.nodes": 0}, ("architecture.nodes: 0; at least 1",)),
    ({"final.width": 3, "architecture.multipliers": [1, 0.5]}, ("final.width: 3 times 0.5",)),
]


@pytest.mark.parametrize(("values", "parts"), GENOTYPES_WRONG)
def test_impossible_genotypes_are_named(values, parts):
    message = refused(EVOLUTION | values)
    assert all(part in message for part in parts), message


def test_what_a_supernet_cannot_have_others_can():
    both = {"architecture.lower_level": True, "architecture.layers": 3}
    assert "lower_level" in refused(both)
    check_settings(make_config(EVOLUTION | both))
    # nothing is warmed up
    check_settings(make_config(EVOLUTION | {"search.epochs": 3}))
