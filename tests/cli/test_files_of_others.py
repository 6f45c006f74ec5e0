"""A search space that somebody else wrote is data: composing it imports, calls and reads nothing that it names."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution

from irnas_ray.cli.command_line import compose_settings
from irnas_ray.cli.distributions import make_domains
from irnas_ray.hpo.domains import Conditional
from irnas_ray.settings.study import RetrainConfig, StudyConfig

#: Importing it leaves a file, and so does calling anything in it.
CANARY = """
from pathlib import Path
import torch

Path(__file__).with_name("imported").touch()

def Canary(*arguments, **keywords):
    Path(__file__).with_name("called").touch()
    return torch.nn.Identity()

on_job_start = Canary
"""
SECRET = "a password in the environment"
TARGET = {"_target_": "canary.Canary"}
FLOAT = "optuna.distributions.FloatDistribution"


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the user stands, with an empty search_spaces/, and a module whose use is noticed."""
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary" / "canary.py").write_text(CANARY)
    (tmp_path / "stand" / "search_spaces").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "canary"))
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.chdir(tmp_path / "stand")
    return tmp_path / "stand"


def composed(text: str, *arguments: str, command: str = "search") -> Any:
    """The settings of a search space with this text, or the error; AssertionError if anything was run or read."""
    Path("search_spaces/theirs.yaml").write_text(text)
    kind = {"search": StudyConfig, "retrain": RetrainConfig}[command]
    result: Any
    try:
        result = compose_settings(command, kind, ["search_spaces=theirs", *arguments])
    except ValueError as error:
        result = error
    harmless()
    assert SECRET not in str(result)
    return result


def harmless() -> None:
    here = Path.cwd()
    assert [path.name for path in (here.parent / "canary").iterdir() if path.name != "__pycache__"] == ["canary.py"]
    assert "canary" not in sys.modules
    assert [path.name for path in here.iterdir()] == ["search_spaces"]


def space(**content: Any) -> str:
    return "# @package _global_\n" + yaml.safe_dump({"search_space": "theirs", **content})


WRONG_DOMAINS: list[tuple[Any, str]] = [
    (TARGET, "is not a distribution"),
    ({"_target_": "os.mkdir", "path": "proof"}, "is not a distribution"),
    ({"_target_": FLOAT + "\n", "low": 0, "high": 1}, "is not a distribution"),
    ({"_target_": "optuna.distributions.BaseDistribution"}, "is not a distribution"),
    ({"_target_": "optuna.distributions.warnings.warn.Distribution"}, "is not a distribution"),
    ({"_target_": [FLOAT], "low": 0, "high": 1}, "is not a distribution"),
    ({"_target_": FLOAT, "low": TARGET, "high": 1}, "low: "),
    ({"_target_": FLOAT, "low": [0], "high": 1}, "low: "),
    ({"_target_": FLOAT, "low": {"_target_": "os.mkdir", "path": "proof"}, "high": 1}, "low: "),
    ({"_target_": "optuna.distributions.CategoricalDistribution", "choices": [1, TARGET]}, "choices: "),
    ({"_target_": "optuna.distributions.CategoricalDistribution", "choices": TARGET}, "choices: "),
    ({"_target_": FLOAT, "_args_": [0, 1]}, "_args_ is not an argument"),
    ({"_target_": FLOAT, "low": 0, "high": 1, "_partial_": True}, "_partial_ is not an argument"),
    ({"_target_": FLOAT, "low": 0, "high": 1, "_recursive_": False}, "_recursive_ is not an argument"),
    ({"_target_": FLOAT, "low": 0, "high": 1, "log": "${oc.env:SECRET}"}, "calls a resolver"),
]


@pytest.mark.parametrize(("domain", "message"), WRONG_DOMAINS, ids=str)
def test_a_domain_is_one_of_three_distributions_of_plain_values(stand, domain, message):
    error = composed(space(domains={"search.weight_lr": domain}))
    assert isinstance(error, ValueError) and str(error).startswith("domains.search.weight_lr: ") ^ (
        "resolver" in message
    )
    assert message in str(error)


def test_what_a_choice_or_a_condition_holds_stays_data(stand):
    found = composed(space(domains={"search.batch": [1, TARGET]})).domains["search.batch"]
    assert found.choices == (1, TARGET)
    when = {"search.crop": [TARGET]}
    found = composed(space(domains={"search.batch": {"choices": [1], "when": when}})).domains["search.batch"]
    assert found.when == {"search.crop": (TARGET,)}


REFUSED = {
    "target of the whole": space(**TARGET),
    "target of a section": space(architecture=TARGET),
    "target of a value": space(architecture={"nodes": TARGET}),
    "resolver": space(study="${oc.env:SECRET}"),
    "resolver in a list": space(architecture={"operators": ["conv", "x${oc.env:SECRET}"]}),
    "resolver whose name is put together": space(study="${oc.${data.color}:SECRET}"),
    "resolver that decodes": space(study='${oc.decode:"1"}'),
    "resolver of Hydra": space(study="${hydra:runtime.cwd}"),
    "resolver in a key": space(domains={"${oc.env:SECRET}": [1]}),
    "place of modules": space(hydra={"searchpath": ["pkg://canary"]}),
    "module as a file": space(defaults=["pkg://canary"]),
    "override of Hydra": space(defaults=[{"override hydra/launcher": "canary"}]),
    "tag of Python": "# @package _global_\nstudy: !!python/object/apply:os.mkdir [proof]\n",
    "tag of a module": "# @package _global_\nstudy: !!python/module:canary\n",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_a_file_that_names_code_is_refused(stand, text):
    assert isinstance(composed(text), ValueError)


HARMLESS = {
    "callback": space(hydra={"callbacks": {"mine": TARGET}}),
    "launcher": space(hydra={"launcher": TARGET, "sweeper": TARGET, "job_logging": TARGET}),
    "package": f"# @package hydra.callbacks.mine\n{yaml.safe_dump(TARGET)}",
    "environment": space(hydra={"job": {"env_set": {"IRNAS_RAY_TRACEBACK": "1"}}}),
    "working directory": space(hydra={"run": {"dir": "proof"}, "job": {"chdir": True}}),
    "points": space(tune={"points": [TARGET]}),
}


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS)
def test_what_hydra_itself_would_run_is_not_run(stand, monkeypatch, text):
    monkeypatch.delenv("IRNAS_RAY_TRACEBACK", raising=False)
    assert isinstance(composed(text), StudyConfig)
    assert "IRNAS_RAY_TRACEBACK" not in os.environ


def test_a_resolver_among_the_defaults_is_refused_too(stand, monkeypatch):
    """Before Hydra, which would resolve it, sees the file."""
    text = space(defaults=[{"override /data": "${oc.env:SECRET}"}])
    monkeypatch.setenv("SECRET", "none_such")
    error = composed(text)
    assert isinstance(error, ValueError) and "calls a resolver" in str(error) and "none_such" not in str(error)


def test_a_reference_to_another_setting_is_no_code(stand):
    assert composed(space(final={"batch": "${search.batch}"}, search={"batch": 7})).final.batch == 7


def test_a_class_is_run_only_if_the_command_line_names_it(stand):
    def retrain(*arguments: str, **content: Any) -> Any:
        return composed(space(**content), *arguments, command="retrain")

    for content in ({"network": "canary:Canary"}, {"compare": {"network": ["genotype", "canary:Canary"]}}):
        assert "give it on the command line" in str(retrain(**content))
    assert retrain("network=canary:Canary", network="canary:Canary").network == "canary:Canary"
    assert retrain("compare.network=[dncnn,canary:Canary]").compare == {"network": ["dncnn", "canary:Canary"]}
    assert retrain(network="dncnn", network_arguments=TARGET).network_arguments == TARGET


def test_only_the_command_line_trusts_others(stand):
    assert "give it on the command line" in str(composed(space(trust=True)))
    assert composed(space(trust=True), "trust=true").trust and composed(space(), "trust=true").trust
    elsewhere = space(cluster={"address": "10.0.0.1:6379"})
    assert "a file names 10.0.0.1:6379, whose answers can run code" in str(composed(elsewhere))
    assert composed(elsewhere, "cluster.address=10.0.0.1:6379").cluster.address == "10.0.0.1:6379"
    assert composed(space(cluster={"address": "local"})).cluster.address == "local"


WRONG_ARGUMENTS = {
    "hydra.run.dir=proof": "no effect",
    "hydra/launcher=canary": "no effect",
    "hydra.searchpath=[pkg://canary]": "no effect",
    "hydra.callbacks.mine._target_=canary.Canary": "no effect",
    "~hydra.launcher": "no effect",
    "hydra@x=default": "no effect",
    "+hydra.callbacks.mine={_target_: canary.Canary}": "unknown option",
    "++hydra.job.chdir=true": "unknown option",
    "--multirun": "values to try in it are domains.KEY",
    "-m": "values to try in it are domains.KEY",
    "--config-dir=canary": "unknown option",
    "--config-path=pkg://canary": "unknown option",
    "--hydra-help": "unknown option",
    "data@hydra.callbacks=images": "data@hydra",
    "search_spaces=pkg://canary": "pkg://canary",
    "study=${oc.env:SECRET}": "calls a resolver",
    "domains.search.batch=[${oc.env:SECRET}]": "calls a resolver",
    "search.epochs=1,2": "search.epochs: cannot read '1,2'; one value",
    "search.epochs=choice(1,2)": "search.epochs: cannot read 'choice(1,2)'; one value",
    "domains.search.batch=choice(1,2)": "cannot read",
    "domains.search.batch=glob(*)": "cannot read",
}


@pytest.mark.parametrize(("argument", "message"), WRONG_ARGUMENTS.items())
def test_an_argument_reaches_settings_alone(stand, argument, message):
    error = composed(space(), argument)
    assert (
        isinstance(error, ValueError) and message in str(error) and "multirun" not in str(error).replace(argument, "")
    )


NAMES = st.sampled_from(
    ["_target_", "_args_", "_partial_", "_recursive_", "_convert_", "low", "high", "step", "log", "choices", "when"]
)
OTHER_NAMES = st.sampled_from(
    [
        "domains",
        "defaults",
        "hydra",
        "callbacks",
        "launcher",
        "override hydra/launcher",
        "searchpath",
        "search",
        "batch",
    ]
    + ["network_arguments", "compare", "network", "tune", "points", "data", "search.batch", "architecture", "nodes"]
)
TEXTS = st.sampled_from(
    [
        "canary.Canary",
        "canary:Canary",
        "canary",
        "os.mkdir",
        "proof",
        "pkg://canary",
        "_self_",
        "_global_",
        "",
        "images",
    ]
    + [f"optuna.distributions.{kind}Distribution" for kind in ("Float", "Int", "Categorical", "Base")]
    + ["${oc.env:SECRET}", "${oc.decode:${oc.env:SECRET}}", "${hydra:job}", "${search.batch}", "${", "???"]
)
LEAVES = st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | TEXTS


def nested(names: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5), max_leaves=12
    )


FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.filterwarnings("ignore:Choices for a categorical")
@settings(FUZZ, max_examples=300)
@given(value=nested(NAMES))
def test_any_domain_is_a_distribution_or_refused(stand, value):
    try:
        (domain,) = make_domains({"search.batch": value}).values()
    except ValueError as error:
        assert str(error).startswith("domains.search.batch: ")
    else:
        assert isinstance(domain, BaseDistribution | Conditional)
    harmless()


@pytest.mark.filterwarnings("ignore:Choices for a categorical")
@settings(FUZZ, max_examples=25)
@given(content=st.dictionaries(OTHER_NAMES, nested(NAMES | OTHER_NAMES), max_size=4))
@example({"domains": {"search.batch": {"_target_": FLOAT, "low": TARGET, "high": 1}}})
@example({"hydra": None})
def test_any_search_space_composes_or_is_refused(stand, content):
    assert isinstance(composed(space(**content), command="retrain"), RetrainConfig | ValueError)
