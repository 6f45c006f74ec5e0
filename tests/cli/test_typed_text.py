"""A setting that is text keeps what was typed, whatever that means in Hydra's syntax or in YAML."""

from typing import Any

import pytest
from command_line_cases import COMMANDS, compose, leaves, value_at, words
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from irnas_ray.cli.command_line import compose_settings
from irnas_ray.cli.typed_text import as_typed
from irnas_ray.settings.commands import EvaluateConfig, RestoreConfig
from irnas_ray.settings.study import RetrainConfig, StudyConfig

TYPED = [
    *(
        "2024_11_28",
        "1.10",
        "1e3",
        "0x1f",
        "007",
        "-3",
        "+1",
        "inf",
        "nan",
        "true",
        "False",
        "yes",
        "NULL",
        "None",
        "~",
    ),
    *(
        "it's",
        "a b",
        "(x)",
        "a,b",
        "a=b",
        "~/x",
        "[x]",
        "{x}",
        "[a",
        "a]b",
        "{a: b}",
        "$HOME",
        "$x",
        "${",
        "a:b",
        "x${y",
    ),
    *(
        r"a\b",
        "a\\",
        r"\'",
        "\\\\'",
        '"',
        "'",
        "'a' and 'b'",
        '"a" b',
        "a#b",
        "a%20b",
        "q?1",
        "Größe",
        "übung 1/ä",
        " x ",
    ),
    *("interval(0,1)", "choice(a,b)", "glob(*)", "a\tb", "a\nb", "http://x/y?z=1&w", "@x", "!", "*", "a;b", "`x`", "|"),
]
#: Every setting of every command that is text.
TEXTS = [
    (command, key)
    for command, kind in COMMANDS.items()
    for key, hint in leaves(kind).items()
    if hint in (str, str | None) and key not in {"search_space", *words(kind())}
]


def composed(command: str, *words: str) -> Any:
    return compose_settings(command, COMMANDS[command], list(words))


def test_text_is_kept_as_it_was_typed():
    keys = [key for command, key in TEXTS if command == "search"]
    for first in range(0, len(TYPED), len(keys)):
        typed = dict(zip(keys, TYPED[first : first + len(keys)], strict=False))
        found = compose(*(f"{key}={text}" for key, text in typed.items()))
        assert {key: value_at(found, key) for key in typed} == typed


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20))
@example("\\${")
@example("\\'\\")
def test_any_text_is_kept(text):
    # quotes around the whole are Hydra's, and a closed ${...} is a reference
    if text == "null" or "}" in text or (len(text) > 1 and text[0] == text[-1] and text[0] in "'\""):
        return
    read = OverridesParser.create().parse_override(f"study={as_typed(str | None, text)}").value()
    assert OmegaConf.create({"study": read}).study == text


def test_every_text_of_every_command_is_kept():
    for command in COMMANDS:
        keys = [key for name, key in TEXTS if name == command]
        found = composed(command, *(f"{key}=2024_11" for key in keys))
        assert {value_at(found, key) for key in keys} == {"2024_11"}
    assert {("restore", "input"), ("retrain", "genotype"), ("analyze", "study"), ("prepare", "data.source")} <= {*TEXTS}


def test_null_is_null_where_it_may_be_and_text_elsewhere():
    found = compose("study=null", "data.source=null", "results=null")
    assert (found.study, found.data.source, found.results) == (None, None, "null")
    assert compose("study='null'").study == "null"


@pytest.mark.parametrize(
    ("typed", "text"), [("'a b'", "a b"), ('"1.10"', "1.10"), (r"'it\'s'", "it's"), ("''", ""), ("'[x]'", "[x]")]
)
def test_text_in_hydras_quotes_loses_them(typed, text):
    assert compose(f"study={typed}").study == text


def test_references_stay_references():
    assert compose("study=${search_space}_2").study == "quickstart_2"


def test_one_path_is_text_too():
    keys = ("network", "restored", "method", "scores")
    alone = [text for text in TYPED if text[0] + text[-1] not in ("[]", "{}")]
    for first in range(0, len(alone), len(keys)):
        typed = dict(zip(keys, alone[first : first + len(keys)], strict=False))
        found = composed("evaluate", *(f"{key}={text}" for key, text in typed.items()))
        assert {key: value_at(found, key) for key in typed} == typed


def test_lists_and_dicts_keep_hydras_syntax_and_their_words():
    words = ["network=[a.pt,b/c.pt,m.n:C]", "method=[tv, 1.10,true]", "restored={a: 2024_11, b: x/y}"]
    found: EvaluateConfig = composed("evaluate", *words, "scores=['1_0, 2_0',1_0,null]")
    assert found.network == ["a.pt", "b/c.pt", "m.n:C"] and found.method == ["tv", "1.10", "true"]
    assert found.restored == {"a": "2024_11", "b": "x/y"} and found.scores == ["1_0, 2_0", "1_0", None]
    compared: RetrainConfig = composed("retrain", "compare.genotype=[2024_11,1.10]", "compare.final.lr=[1e-3,1]")
    assert compared.compare == {"genotype": ["2024_11", "1.10"], "final.lr": [1e-3, 1]}
    searched = compose("tune.objectives=[score, latency]", "architecture.operators=[1.10,true,'a b']")
    assert searched.tune.objectives == ["score", "latency"] and searched.architecture.operators == [
        "1.10",
        "true",
        "a b",
    ]
    arguments = composed("retrain", "network_arguments.width=8", "network_arguments.study=[1,2]").network_arguments
    assert arguments == {"width": 8, "study": [1, 2]}


def test_a_file_of_a_group_is_chosen_by_its_name_as_it_was_typed(tmp_path, monkeypatch):
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "2024_11.yaml").write_text("# @package _global_\nsearch_space: '2024_11'\n")
    monkeypatch.chdir(tmp_path)
    assert compose("search_spaces=2024_11").search_space == "2024_11"


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("0.25", 0.25), ("auto", "auto"), ("null", None), ("'1'", "1")])
def test_gpus_are_a_number_or_a_word(text, value):
    found = compose(f"cluster.gpus_per_trial={text}").cluster.gpus_per_trial
    assert found == value and type(found) is type(value)


def test_numbers_stay_numbers():
    found = compose("search.epochs=12", "search.weight_lr=1e-3", "resume=true")
    assert (found.search.epochs, found.search.weight_lr, found.resume) == (12, 0.001, True)
    tiled: RestoreConfig = composed("restore", "tile=null", "input=1_0")
    assert (tiled.tile, tiled.input) == (None, "1_0")
    assert isinstance(found, StudyConfig)
