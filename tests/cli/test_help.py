"""``--help`` tells the settings that would run, with their own meanings and bounds, and ``--cfg job`` prints them."""

import dataclasses
from itertools import takewhile
from typing import Any

import pytest
import yaml
from command_line_cases import COMMANDS, leaves, value_at

from irnas_ray.__main__ import main
from irnas_ray.cli.command import run, with_options
from irnas_ray.cli.command_line import compose_settings, plain_settings
from irnas_ray.cli.help import FIRST, OFTEN, comments_of
from irnas_ray.cli.search_spaces import options


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main(words)
    return capsys.readouterr().out


def line_of(text: str, key: str) -> str:
    """What is said of a key, in one line."""
    head, _, rest = text.partition(f"\n  {key}=")
    assert rest, f"{key} is not mentioned"
    lines = rest.splitlines()
    more = [line.strip() for line in takewhile(lambda line: line.startswith(" " * 41), lines[1:])]
    return " ".join([lines[0], *more])


@pytest.mark.parametrize("command", COMMANDS)
def test_all_help_mentions_every_key_and_says_what_it_means(command, capsys):
    run(command, COMMANDS[command], lambda _: pytest.fail("help does no work"), "What it does.", ["--help", "all"])
    text = capsys.readouterr().out
    assert text.startswith("What it does.")
    assert all(len(line_of(text, key).partition(" ")[2].strip()) > 5 for key in leaves(COMMANDS[command]))
    assert "exit status: 0 all done, 1 the work failed, 2 the command line is wrong, " in text
    assert ("4 the study is finished, but a configuration failed" in text) == (
        command in ("search", "retrain", "audit")
    )
    composed: Any = compose_settings(command, COMMANDS[command], [])
    groups = options() if hasattr(composed, "domains") else {}
    assert all(f"{group}=NAME, one of: {', '.join(names)}" in text for group, names in groups.items())


def sections(kind: Any) -> set[Any]:
    inner = [field.type for field in dataclasses.fields(kind) if dataclasses.is_dataclass(field.type)]
    return {kind}.union(*map(sections, inner))


@pytest.mark.parametrize("kind", sorted(set().union(*map(sections, COMMANDS.values())), key=lambda kind: kind.__name__))
def test_every_field_has_a_comment_of_its_own(kind):
    """A field without one would be described by nothing, or, as it was once, by the comment of the field before."""
    plain = [field.name for field in dataclasses.fields(kind) if not dataclasses.is_dataclass(field.type)]
    comments = comments_of(kind)
    assert [name for name in plain if not comments.get(name)] == []
    assert all(comments[name].endswith(".") for name in plain)
    if kind is not COMMANDS["retrain"]:
        assert len({comments[name] for name in plain}) == len(plain)
    assert kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(")


def test_a_comment_belongs_to_the_field_directly_below_it(capsys):
    text = told(capsys, "search", "--help", "all")
    assert line_of(text, "final.batch").endswith("Patches in a batch. Paper: 12. At least 1.")
    assert "Minutes of wall-clock time" in line_of(text, "final.minutes")
    assert "Minutes" not in line_of(text, "final.crop")


def test_help_shows_the_values_that_would_run(capsys):
    assert line_of(told(capsys, "search", "--help", "all"), "architecture.layers").startswith("4 ")
    text = told(capsys, "search", "--help", "all", "search_spaces=irnas_derain", "tune.trials=7")
    assert line_of(text, "architecture.layers").startswith("3 ") and line_of(text, "tune.trials").startswith("7 ")
    assert line_of(text, "final.lr").startswith("0.001 ") and "architecture.nodes: ..." in line_of(text, "domains")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_short_unless_more_is_asked_for(command, capsys):
    short, long = told(capsys, command, "--help"), told(capsys, command, "-h", "all")
    assert len(short.splitlines()) < 50 and len(short.splitlines()) <= len(long.splitlines()) + 3
    keys = [key for key in (*FIRST[command], *OFTEN[command]) if key != "search_spaces"]
    assert all(line_of(short, key) == line_of(long, key) for key in keys) and len(keys) >= min(
        3, len(leaves(COMMANDS[command]))
    )
    assert f"{command} --help all" in short and f"{command} --cfg job" in short


def test_help_on_a_section_or_a_key(capsys):
    text = told(capsys, "search", "--help", "final")
    listed = [line.strip().partition("=")[0] for line in text.splitlines() if line.startswith("  final.")]
    assert listed == [key for key in leaves(COMMANDS["search"]) if key.startswith("final.")]
    assert "The retraining of the best genotypes" in text and "tune.trials" not in text
    assert line_of(told(capsys, "search", "--help=tune.trials"), "tune.trials").startswith("12 ")


@pytest.mark.parametrize("words", ["--help nothing", "--cfg hydra", "--cfg", "search.epochs=many --cfg job"])
def test_what_cannot_be_told_is_a_wrong_command_line(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["search", *words.split()])
    assert caught.value.code == 2 and words.split()[0].partition("=")[0] in capsys.readouterr().err


def test_help_is_given_beside_words_that_are_wrong(capsys):
    assert "usage:" in told(capsys, "search", "results/x/network.pt", "architecture.nods=3", "--help")


def test_options_are_told_from_settings():
    assert with_options(["study=a", "--help", "study=b"]) == (["study=a", "study=b"], {"--help": ""})
    assert with_options(["-h", "final.steps", "-c", "job", "x"]) == (["x"], {"--help": "final.steps", "--cfg": "job"})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_composed_configuration_is_printed_and_nothing_runs(command, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    key = dict.fromkeys(("prepare", "search", "retrain", "audit"), "data.output") | {"networks": "network"}
    words = [f"{key.get(command, 'output')}=2024_11"]
    printed = yaml.safe_load(told(capsys, command, "--cfg", "job", *words))
    settings: Any = plain_settings(command, COMMANDS[command], words)[0]
    assert printed == dataclasses.asdict(settings)
    assert value_at(settings, words[0].partition("=")[0]) == "2024_11" and not list(tmp_path.iterdir())
