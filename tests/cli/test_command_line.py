"""The command line: every key can be set, every mistake is named with what is possible, and exit statuses tell."""

import sys
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from command_line_cases import COMMANDS, compose, leaves, value_at, words
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from irnas_ray.__main__ import main
from irnas_ray.cli.command import run
from irnas_ray.cli.command_line import compose_settings
from irnas_ray.cli.search_spaces import options
from irnas_ray.hpo.domains import Conditional
from irnas_ray.results.folder import StudyFolder
from irnas_ray.settings.commands import PrepareConfig, RestoreConfig
from irnas_ray.settings.study import RetrainConfig, StudyConfig
from irnas_ray.system.exit_status import Incomplete, WrongSetting

SPACES = ("compact", "compact_rgb", "hinas", "irnas_denoise", "irnas_derain", "irnas_small", "quickstart")


def compose_small(*arguments: str) -> StudyConfig:
    """The settings of a search in the space whose domains are of every form."""
    return compose("search_spaces=irnas_small", *arguments)


def refused(*arguments: str) -> str:
    with pytest.raises(ValueError) as caught:
        compose(*arguments)
    return str(caught.value)


def other_value(hint: Any, key: str) -> tuple[str, Any]:
    """An override for a setting of a type, and the value it gives."""
    kind = next((option for option in get_args(hint) if option is not type(None)), hint)
    if hint == list[dict[str, Any]]:
        return "[{a.b: 1}]", [{"a.b": 1}]
    if kind is Any:
        return "[other,x]", ["other", "x"]
    if getattr(hint, "__origin__", None) is list:
        return ("[7,8.5]", [7, 8.5]) if get_args(hint)[0] is float else ("[other,x]", ["other", "x"])
    return {bool: ("true", True), int: ("7", 7), float: ("0.375", 0.375), str: (f"other-{key}", f"other-{key}")}[kind]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_can_be_overridden(command):
    # search_space only records which file of search_spaces/ was chosen
    hints = {
        k: hint for k, hint in leaves(COMMANDS[command]).items() if k != "search_space" and get_origin(hint) is not dict
    }
    default: Any = compose_settings(command, COMMANDS[command], [])
    expected: dict[str, Any] = {}
    overrides = []
    known = words(COMMANDS[command]())
    for key, hint in hints.items():
        text, expected[key] = other_value(hint, key)
        if key in known:
            usual = value_at(default, key)
            other = next(word for word in known[key] if word is not None and word != usual and [word] != usual)
            text, expected[key] = (f"[{other}]", [other]) if isinstance(usual, list) else (f"{other}", other)
        if hint is bool and value_at(default, key):
            text, expected[key] = "false", False
        overrides.append(f"{key}={text}")
    found: Any = compose_settings(command, COMMANDS[command], overrides)
    assert {key: value_at(found, key) for key in hints} == expected
    assert all(value_at(default, key) != expected[key] for key in hints)


def test_optional_settings_take_null():
    keys = [key for key, hint in leaves(StudyConfig).items() if type(None) in get_args(hint)]
    found = compose(*(f"{key}=null" for key in keys))
    assert len(keys) > 8 and all(value_at(found, key) is None for key in keys)


WRONG = [
    ("architecture.nods=3", ["'architecture.nods'", "did you mean architecture.nodes?", "layers", "sep_repeats"]),
    ("serch.epochs=3", ["'serch'", "did you mean search?", "architecture", "tune"]),
    ("final.x.y=3", ["'final.x'", "possible under final", "ssim_weight"]),
    ("+extra=3", ["+extra=3", "key=value"]),
    ("--epochs=3", ["--epochs=3", "--help"]),
    ("architecture.nodes=many", ["architecture.nodes", "many", "Integer"]),
    ("search.weight_lr=fast", ["search.weight_lr", "fast", "Float"]),
    ("resume=perhaps", ["resume", "perhaps", "bool"]),
    ("degradation.sigmas=50", ["degradation.sigmas", "list"]),
    ("degradation.sigmas=[50,loud]", ["degradation.sigmas", "loud"]),
    ("architecture=3", ["architecture", "3"]),
    ("search.epochs=null", ["search.epochs", "not Optional"]),
    ("search_spaces=none_such", ["none_such", *SPACES]),
    ("search_space=hinas", ["search_spaces=NAME"]),
    ("data=none_such", ["none_such", "halves", "images", "pairs", "photographs"]),
    ("budget=none_such", ["none_such", "gpu_day", "trial"]),
    ("data.source=caf\udce9", ["b'data.source=caf\\xe9'", "not UTF-8"]),
    ("architecture.nodes", ["architecture.nodes: give it a value, as architecture.nodes=VALUE"]),
    ("architecture.nodes=2,3", ["architecture.nodes: cannot read '2,3'; one value", "domains.KEY=[a,b]"]),
    ("architecture.nodes=(3)", ["architecture.nodes: cannot read '(3)'; give one number"]),
    ("architecture.nodes=range(1,3)", ["architecture.nodes", "one value is needed"]),
    ("tune.objectives=[score", ["tune.objectives: cannot read '[score'"]),
    ("~architecture.nodes", ["~architecture.nodes", "only entries of domains"]),
    ("search.epochs=0", ["search.epochs: 0; at least 1"]),
    ("search.tile=0", ["search.tile: 0; at least 1, or null"]),
    ("study=${nope}", ["study: ", "nope"]),
    ("degradation.sigmas=50", ["degradation.sigmas=50: give a list, such as degradation.sigmas=[50]"]),
    ("study.x=3", ["unknown key 'study.x': study has no settings of its own"]),
    ("search=3", ["search=3: search has settings of its own"]),
    ("a key=3", ["unknown key 'a key'"]),
    ("=3", ["unknown key ''"]),
    ("domains.search.batch=2,4", ["domains.search.batch: cannot read '2,4'; one value"]),
    ("domains.search.batch=(2)", ["domains.search.batch: cannot read '(2)'"]),
]
#: Words of the libraries below that no message may hold.
INNER = ("reference_type", "object_type", "full_key", "--multirun", "EQUAL", "viable", "mismatched", "extraneous")
BARE = [
    ("restore", "results/x/network.pt", "restore network=results/x/network.pt input=... output=...\n"),
    ("restore", "a b.pt in out", "restore network=a input=b.pt output=in\n"),
    ("analyze", "results/x", "analyze study=results/x\n"),
    ("search", "irnas_denoise", "search search_spaces=irnas_denoise\n"),
    ("evaluate", "network=a.pt b.pt", "'b.pt' is not a setting; settings are given as key=value; --help lists them"),
]


def test_one_word_alone_is_what_is_restored():
    for typed in (["photo one.jpg"], ["photo one.jpg", "color=gray"], ["network=a.pt", "photo one.jpg"]):
        assert compose_settings("restore", RestoreConfig, typed).input == "photo one.jpg"
    for typed in (["overwrite"], ["a.jpg", "b.jpg"], ["a.jpg", "input=b.jpg"], ["a.onnx"], ["-a.jpg"]):
        with pytest.raises(ValueError):
            compose_settings("restore", RestoreConfig, typed)


@pytest.mark.parametrize(("argument", "parts"), WRONG)
def test_a_wrong_argument_is_named_with_what_is_possible(argument, parts):
    message = refused(argument)
    assert all(part in message for part in parts), message
    assert not any(word in message for word in INNER), message


@pytest.mark.parametrize(("command", "line", "answer"), BARE)
def test_words_without_a_key_are_answered_with_the_keys_that_were_meant(command, line, answer):
    with pytest.raises(ValueError) as caught:
        compose_settings(command, COMMANDS[command], line.split())
    assert answer in str(caught.value)


def test_domains_are_replaced_changed_added_and_removed():
    nodes, rate = "architecture.nodes", "search.arch_lr"
    float_domain = "{_target_: optuna.distributions.FloatDistribution, low: 1e-4, high: 1e-2, log: true}"
    config = compose_small(f"domains.{nodes}=[2,4,6]", f"domains.{rate}={float_domain}")
    assert config.domains[nodes] == CategoricalDistribution((2, 4, 6))
    assert config.domains[rate] == FloatDistribution(1e-4, 1e-2, log=True)
    assert compose_small("domains.architecture.nodes.high=4").domains[nodes] == IntDistribution(2, 4)
    everything = set(compose_small().domains)
    for argument in (f"domains.{nodes}=null", f"~domains.{nodes}"):
        assert set(compose_small(argument).domains) == everything - {nodes}
    # a setting that is not tuned need not be: the same command line fits all spaces
    assert compose_small("domains.search.batch=null").domains == compose_small().domains
    for argument in ("domains={}", "domains=null", "~domains"):
        assert compose(argument).domains == {}
    assert set(compose("domains={}", f"domains.{nodes}=[2]").domains) == {nodes}


WRONG_DOMAINS = [
    ("architecture.nodes=3", "3 is not a distribution; give a list of choices"),
    ("architecture.nodes=[]", "is not a distribution"),
    ("architecture.nodes=", "is not a distribution"),
    ("architecture.nodes=[1", "cannot read"),
    ("architecture.nodes={a: 1}", "is not a distribution"),
    ("architecture.nodes={_target_: os.mkdir, path: proof}", "is not a distribution"),
    ("architecture.nodes={_target_: optuna.distributions.json.dumps, obj: 1}", "is not a distribution"),
    ("architecture.nodes={_target_: optuna.distributions.NoDistribution}", "NoDistribution"),
    ("architecture.nodes={_target_: optuna.distributions.IntDistribution, low: 1}", "high"),
    ("architecture.nodes.low=9", "low <= high"),
    ("architecture.nodes.hihg=9", "hihg"),
    ("architecture.width.high=9", "domains.architecture.width is a list of choices"),
    ("search.bacth=null", "there is no such domain; domains: architecture.nodes"),
    ("architecture.nodes={choices: [], when: {search.crop: 32}}", "is not a distribution"),
    ("architecture.nodes={when: {search.crop: 32}}", "is not a distribution"),
    (
        "architecture.nodes={choices: [1], when: [search.crop]}",
        "is not a condition; give {search.ssim_weight: [0.5, 1.0]}",
    ),
    ("architecture.nodes={choices: [1], when: {}}", "is not a condition"),
    ("architecture.nodes={choices: [1], when: {search: {crop: 32}}}", "is not a condition"),
]


def test_domains_take_conditions(tmp_path, monkeypatch):
    when = "when: {search.ssim_weight: [0.5, 1], search.tile: null}"
    rate = "{_target_: optuna.distributions.FloatDistribution, low: 1, high: 10, " + when + "}"
    conditions = {"search.ssim_weight": (0.5, 1), "search.tile": (None,)}
    found = compose_small(f"domains.search.gradient_clip={rate}").domains["search.gradient_clip"]
    assert found == Conditional(FloatDistribution(1, 10), conditions)
    found = compose_small(f"domains.search.batch={{choices: [2, 4], {when}}}").domains["search.batch"]
    assert found == Conditional(CategoricalDistribution((2, 4)), conditions)
    assert compose_small("domains.search.batch={choices: [2, 4]}").domains["search.batch"] == CategoricalDistribution(
        (2, 4)
    )
    nodes = "architecture.nodes"
    found = compose_small(f"domains.{nodes}.when={{search.crop: 32}}").domains[nodes]
    assert found == Conditional(IntDistribution(2, 3), {"search.crop": (32,)})
    (tmp_path / "search_spaces").mkdir()
    space = f"# @package _global_\nsearch_space: mine\ndomains:\n  search.gradient_clip: {rate}\n"
    (tmp_path / "search_spaces" / "mine.yaml").write_text(space)
    monkeypatch.chdir(tmp_path)
    assert compose_small("search_spaces=mine").domains == {
        "search.gradient_clip": Conditional(FloatDistribution(1, 10), conditions)
    }


@pytest.mark.parametrize(("domain", "message"), WRONG_DOMAINS)
def test_a_wrong_domain_is_named(domain, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = refused("search_spaces=irnas_small", f"domains.{domain}")
    assert (
        f"domains.{domain.partition('=')[0].removesuffix('.low').removesuffix('.hihg')}" in error and message in error
    )
    assert not list(tmp_path.iterdir())


def retrain(*arguments: str) -> RetrainConfig:
    return compose_settings("retrain", RetrainConfig, list(arguments))


def test_comparisons_and_arguments_take_keys_of_the_users_own():
    found = retrain("compare.genotype=[a,b/c.json]", "compare.final.ema_decay=[null,0.9]", "network_arguments.width=8")
    assert found.compare == {"genotype": ["a", "b/c.json"], "final.ema_decay": [None, 0.9]}
    assert found.network_arguments == {"width": 8}
    whole = retrain("compare={final.ssim_weight: [0, 0.5]}", "network_arguments={depth: 3, kind: wide}")
    assert whole.compare == {"final.ssim_weight": [0, 0.5]} and whole.network_arguments == {"depth": 3, "kind": "wide"}
    assert retrain("compare.final.lr=[1]", "compare=null").compare == {}
    nested = retrain("compare.network_arguments=[{depth: 2},{depth: 3}]").compare
    assert nested == {"network_arguments": [{"depth": 2}, {"depth": 3}]}


WRONG_FREE = [
    ("compare=[1]", "compare: '.1.' is not a dict; give compare.KEY=VALUE"),
    ("compare.final.lr=[1", "compare.final.lr: cannot read"),
    ("compare.final.lr=null", "compare.final.lr: there is no such entry"),
    ("~network_arguments.width", "network_arguments.width: there is no such entry"),
    ("comparison.final.lr=[1]", "'comparison'; did you mean compare"),
]


@pytest.mark.parametrize(("argument", "message"), WRONG_FREE)
def test_a_wrong_comparison_is_named(argument, message):
    with pytest.raises(ValueError, match=message):
        retrain(argument)
    with pytest.raises(ValueError, match="unknown key '.*': this command has no compare|unknown key|no such|cannot"):
        compose(argument)


def test_a_command_that_tunes_nothing_has_no_domains():
    with pytest.raises(ValueError, match="this command tunes nothing"):
        compose_settings("prepare", PrepareConfig, ["domains.data.patch=[1]"])


@pytest.mark.parametrize(
    "argument",
    [
        "domains.architecture.unshuffle=[1,2]",
        "domains.final.lr={low: 1e-4, high: 1e-2, log: true}",
        "domains.final.lr.low=1e-4",
        "domains={final.lr: [1, 2]}",
    ],
)
def test_domains_given_to_retrain_are_refused(argument: str) -> None:
    """They would be left out, and one network be trained without a word."""
    with pytest.raises(ValueError, match=r"^domains.*: retrain tunes nothing; .*compare.KEY=\[a,b\]"):
        retrain("genotype=irnas_denoise", "search_spaces=irnas_denoise", argument)


def test_a_search_space_that_tunes_is_one_for_retrain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "search_spaces").mkdir()
    text = "# @package _global_\nsearch_space: mine\ndomains: {final.lr: [0.1, 0.2], architecture.nodes: [3, 4]}\n"
    (tmp_path / "search_spaces" / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    # one command line fits searches and retraining
    without = ["domains.architecture.nodes=null", "~domains.final.lr", "domains.final.batch=null"]
    assert retrain("search_spaces=mine").domains.keys() == {"final.lr", "architecture.nodes"}
    assert retrain("search_spaces=mine", *without).domains == retrain("search_spaces=mine", "domains={}").domains == {}


@pytest.mark.parametrize("place", ["plain", "it's, [odd] (path) = x"])
def test_a_search_space_of_the_users_own_is_found_where_they_stand(tmp_path, monkeypatch, place):
    folder = tmp_path / place / "search_spaces"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\nsearch_space: mine\narchitecture: {nodes: 9}\n")
    monkeypatch.chdir(folder.parent)
    config = compose("search_spaces=mine")
    assert (config.search_space, config.architecture.nodes) == ("mine", 9)
    assert "mine" in options()["search_spaces"] and "quickstart" in options()["search_spaces"]


WRONG_FILES = [
    ("architecture: {nods: 3}", "search_spaces/mine.yaml: architecture.nods: Key 'nods' not in 'Architecture'"),
    ("search: {epochs: many}", "search_spaces/mine.yaml: search.epochs: Value 'many'"),
    ("study: ${search", "study: holds ${ without an end"),
    ("study: [", "search_spaces/mine.yaml"),
    ("study: \udcff", "search_spaces/mine.yaml: is not UTF-8 text"),
]


@pytest.mark.parametrize(("text", "part"), WRONG_FILES)
def test_a_wrong_search_space_file_is_named(tmp_path, monkeypatch, text, part):
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "mine.yaml").write_bytes(
        f"# @package _global_\n{text}\n".encode(errors="surrogateescape")
    )
    monkeypatch.chdir(tmp_path)
    message = refused("search_spaces=mine")
    assert part in message and not any(word in message for word in (*INNER, "raised while composing"))


def test_a_results_folder_beside_the_search_spaces_is_no_configuration_group(tmp_path, monkeypatch):
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "results" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert compose("results=elsewhere", "study=mine").results == "elsewhere"


def test_an_interrupt_tells_the_command_that_goes_on(monkeypatch, capsys, tmp_path):
    """As it was typed and can be typed again; with resume=true once there is something to resume."""

    def interrupt(config: StudyConfig) -> None:
        raise KeyboardInterrupt

    words = ["domains.architecture.nodes=[3, 4]", f"results={tmp_path}", "study=mine", "resume=false"]
    monkeypatch.setattr(sys, "argv", ["launchers/search.py", *words])
    monkeypatch.setattr(sys, "orig_argv", ["python", "launchers/search.py", *words])
    again = f"  python launchers/search.py 'domains.architecture.nodes=[3, 4]' results={tmp_path} study=mine"
    for begun in (False, True):
        if begun:
            StudyFolder(StudyConfig(study="mine", results=str(tmp_path))).create(StudyConfig())
        with pytest.raises(SystemExit) as caught:
            run("search", StudyConfig, interrupt, "")
        told = capsys.readouterr().err.splitlines()
        assert caught.value.code == 130 and told[0].startswith("error: interrupted; what was finished is kept")
        assert told[1] == again + " resume=true" * begun


def test_a_setting_that_a_later_check_refuses_is_a_wrong_command_line(capsys):
    for name, word in (("restore", "color=gray"), ("analyze", "top=3"), ("prepare", "data.color=blue")):
        with pytest.raises(SystemExit) as caught:
            main([name, word])
        assert caught.value.code == 2 and capsys.readouterr().err.startswith("error: ")


def test_the_exit_status_tells_what_happened(monkeypatch, capsys):
    def outcome(argument: str, function: Any) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["search", argument])
        with pytest.raises(SystemExit) as caught:
            run("search", StudyConfig, function, "")
        return caught.value.code, capsys.readouterr().err  # type: ignore[return-value]

    def fail(error: BaseException) -> Any:
        def function(config: StudyConfig) -> None:
            raise error

        return function

    never = fail(AssertionError("must not run"))
    assert outcome("search.epoch=3", never)[0] == 2 and outcome("--epochs", never)[0] == 2
    for error in (ValueError("bad data"), OSError("disk full"), FloatingPointError("diverged")):
        assert outcome("study=mine", fail(error)) == (1, f"error: {error}\n")
    assert outcome("study=mine", fail(WrongSetting("tune.sampler: none"))) == (2, "error: tune.sampler: none\n")
    status, message = outcome("study=mine", fail(Incomplete("2 of 9 trials failed")))
    assert (status, message) == (4, "error: 2 of 9 trials failed\n")
    status, message = outcome("study=mine", fail(ZeroDivisionError("a bug")))
    assert status == 1 and message.startswith("error: ZeroDivisionError: a bug") and len(message.splitlines()) == 1
    monkeypatch.setenv("IRNAS_RAY_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        outcome("study=mine", fail(ZeroDivisionError()))
    seen: list[StudyConfig] = []
    monkeypatch.setattr(sys, "argv", ["search", "study=mine"])
    run("search", StudyConfig, seen.append, "")
    assert [config.study for config in seen] == ["mine"]


def test_a_value_of_a_setting_that_is_tuned_is_said_to_have_no_effect(caplog):
    compose("architecture.layers=3", "search.epochs=3")
    said = "architecture.layers is tuned, and the value given has no effect; to fix it, add "
    assert [record.message for record in caplog.records] == [f"{said}domains.architecture.layers=null"]
    caplog.clear()
    compose("architecture.layers=3", "domains.architecture.layers=null")
    compose("architecture.layers=3", "domains.architecture.layers=[2,4]")
    assert not caplog.records


@pytest.mark.parametrize("key", ["architecture.head", "architecture.activation", "final.optimizer", "search.batch"])
def test_the_values_of_a_condition_are_those_of_its_own_setting(key):
    choices = {"architecture.head": "[linear,plain]", "final.optimizer": "[adam,sgd]", "search.batch": "[2,4]"}
    when = "{architecture.unshuffle: [1, 2], architecture.residual: true, architecture.normalisation: none}"
    found = compose(f"domains.{key}={{choices: {choices.get(key, '[relu,leaky_relu]')}, when: {when}}}")
    conditions = {
        "architecture.unshuffle": (1, 2),
        "architecture.residual": (True,),
        "architecture.normalisation": ("none",),
    }
    assert found.domains[key].when == conditions
