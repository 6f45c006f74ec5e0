"""Every YAML file composes to a search that can be built, and the paper's settings are the paper's."""

import dataclasses
from typing import Any

import pytest
import torch
from command_line_cases import COMMANDS, ROOT, compose, leaves, value_at
from optuna.distributions import BaseDistribution

from irnas_ray.cli.command_line import compose_settings
from irnas_ray.cli.search_spaces import GROUPS, options
from irnas_ray.degradations.factory import KINDS
from irnas_ray.evaluation.protocols import get_protocol
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.settings import study
from irnas_ray.settings.study import StudyConfig
from irnas_ray.study.checks import check_domains, check_settings

CHOICES = [
    f"{folder.name}={file.stem}"
    for folder in (*(ROOT / "irnas_ray" / "conf").iterdir(), ROOT / "search_spaces")
    for file in sorted(folder.glob("*.yaml"))
]
SPACES = sorted(file.stem for file in (ROOT / "search_spaces").glob("*.yaml"))


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("command", ["search", "retrain"])
def test_every_yaml_file_composes_to_typed_settings(command, choice):
    found: Any = compose_settings(command, COMMANDS[command], [choice])
    assert type(found) is COMMANDS[command] and type(found.architecture) is study.Architecture


def test_every_group_and_file_is_offered():
    assert [f"{group}={name}" for group, names in options().items() for name in names] == sorted(
        CHOICES, key=lambda choice: (GROUPS.index(choice.partition("=")[0]), choice)
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_without_arguments(command):
    assert type(compose_settings(command, COMMANDS[command], [])) is COMMANDS[command]


def test_without_arguments_the_search_is_the_quickstart():
    config = compose()
    assert (config.search_space, config.study, config.resume, config.results) == ("quickstart", None, False, "results")
    assert config == compose("search_spaces=quickstart", "data=photographs", "budget=search_space", "cluster=local")


@pytest.mark.parametrize("name", SPACES)
def test_every_search_space_is_complete(name):
    config = compose(f"search_spaces={name}")
    assert config.search_space == name and (config.domains or config.tune.sampler == "grid")
    with torch.device("meta"):
        net = SuperNet(**dataclasses.asdict(config.architecture))
    assert net.alpha.is_meta and net.beta.shape[0] == config.architecture.layers
    check_domains(config)
    keys = leaves(StudyConfig)
    for key, distribution in config.domains.items():
        assert isinstance(distribution, BaseDistribution) and key in keys
    check_settings(compose(f"search_spaces={name}", "data.source=unused"))


@pytest.mark.parametrize("budget", options()["budget"])
def test_every_budget_fits_the_quickstart(budget):
    check_settings(compose(f"budget={budget}"))


ARCHITECTURE = {"width": 10, "operators": ["conv", "sep", "dil", "def", "skip", "none"], "multipliers": [1, 2, 4]}
ARCHITECTURE |= {"share_cells": True, "tie_cells": True, "residual": False, "activation": "relu", "sep_repeats": 1}
SEARCH: dict[str, Any] = {"epochs": 100, "warmup_epochs": 20, "batch": 12, "crop": 64, "ssim_weight": 0.5, "tile": 64}
SEARCH |= {"weight_lr": 0.025, "weight_lr_min": 0.001, "momentum": 0.9, "weight_decay": 3e-4}
SEARCH |= {"arch_lr": 1e-3, "arch_weight_decay": 1e-3, "gradient_clip": 5.0}
FINAL = {"steps": 600_000, "batch": 12, "crop": 64, "ssim_weight": 0.5, "optimizer": "adam", "stem_channels": 64}
FINAL |= {"aspp_channels": 128, "low_level_channels": 48}
PAPER: dict[str, dict[str, dict[str, Any]]] = {
    "irnas_denoise": {
        "architecture": ARCHITECTURE | {"channels": 1, "layers": 4, "nodes": 5},
        "search": SEARCH,
        "final": FINAL | {"width": 20, "rotate": True, "sigma": 50},
        "degradation": {"kind": "gaussian", "sigmas": [30, 50, 70]},
        "data": {"color": "gray"},
    },
    "irnas_derain": {
        "architecture": ARCHITECTURE | {"channels": 3, "layers": 3, "nodes": 4},
        "search": SEARCH,
        "final": FINAL | {"width": 15, "rotate": False},
        "degradation": {"kind": "paired"},
        "data": {"color": "rgb"},
    },
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_settings_are_the_papers(name):
    config = compose(f"search_spaces={name}", "data=" + ("halves" if name == "irnas_derain" else "images"))
    for section, values in PAPER[name].items():
        found = {key: value_at(config, f"{section}.{key}") for key in values}
        assert found == values
    assert config.data.validation_fraction == 0.02


@pytest.mark.parametrize("task", ["denoise", "derain"])
def test_the_papers_own_setting_is_one_configuration(task):
    """What the space tunes around it is at the paper's values, and nothing else differs."""
    data = "data=halves" if task == "derain" else "data=images"
    own, space = compose(f"search_spaces=paper_{task}", data), compose(f"search_spaces=irnas_{task}", data)
    assert own.domains == {} and (own.tune.trials, own.tune.sampler) == (1, "grid")
    same = dataclasses.replace(own, search_space=space.search_space, domains=space.domains, tune=space.tune)
    assert same == space and dataclasses.replace(own.tune, trials=16, sampler="tpe") == space.tune


@pytest.mark.parametrize("kind", sorted(set(options()["degradation"]) - {"search_space"}))
def test_a_degradation_wins_over_that_of_the_search_space(kind):
    form = "data=halves" if kind == "paired" else "data=images"
    for name in ("irnas_derain", "quickstart"):
        config = compose(f"search_spaces={name}", f"degradation={kind}", form, "data.source=unused")
        assert config.degradation.kind == kind and config.final.protocol is None
    prepare: Any = compose_settings("prepare", COMMANDS["prepare"], [f"degradation={kind}"])
    assert prepare.degradation == dataclasses.replace(study.Degradation(), kind=kind)


def test_every_kind_of_degradation_has_a_file_and_fits_the_quickstart():
    assert set(options()["degradation"]) == {"search_space", *KINDS}
    for kind in KINDS:
        config = compose(f"degradation={kind}", "domains={}")
        check_settings(config)
        assert config.final.protocol is not None and get_protocol(config.final.protocol, config.degradation)
