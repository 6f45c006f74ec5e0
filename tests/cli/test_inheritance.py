"""A space that begins with another replaces or drops its domains one by one, and what has no effect is told."""

from pathlib import Path
from typing import Any

import pytest
from command_line_cases import compose
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, IntDistribution

from irnas_ray.cli.command_line import compose_settings
from irnas_ray.cli.search_spaces import options
from irnas_ray.settings.study import RetrainConfig

INT = "{_target_: optuna.distributions.IntDistribution, low: 4, high: 8}"
CATEGORICAL = "{_target_: optuna.distributions.CategoricalDistribution, choices: [4, 8]}"


@pytest.fixture(autouse=True)
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user stands in a folder with a folder of search spaces."""
    (tmp_path / "search_spaces").mkdir()
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str, base: str = "compact") -> None:
    Path(f"search_spaces/{name}.yaml").write_text(
        f"# @package _global_\ndefaults: [{base}, _self_]\nsearch_space: {name}\n{text}\n"
    )


ENTRIES: list[tuple[str, Any]] = [
    (INT, IntDistribution(4, 8)),
    ("[4, 8]", CategoricalDistribution((4, 8))),
    ("{choices: [4, 8]}", CategoricalDistribution((4, 8))),
    (CATEGORICAL, CategoricalDistribution((4, 8))),
    ("null", None),
]


@pytest.mark.parametrize(("written", "expected"), ENTRIES)
def test_an_entry_replaces_the_inherited_one_as_on_the_command_line(written: str, expected: Any) -> None:
    write("mine", f"domains: {{final.width: {written}}}")
    inherited = compose("search_spaces=compact").domains
    found = compose("search_spaces=mine").domains
    assert found.pop("final.width", None) == expected
    assert found == {key: domain for key, domain in inherited.items() if key != "final.width"}
    on_the_line = compose("search_spaces=compact", f"domains.final.width={written}").domains
    assert on_the_line.get("final.width") == expected


def test_an_entry_stays_what_it_is_over_several_files() -> None:
    write("first", f"domains: {{final.width: {INT}, architecture.layers: null, search.batch: [2, 4]}}")
    write("second", "domains: {final.width: [4], architecture.layers: [2, 3], search.batch: null}", "first")
    found = compose("search_spaces=second", "domains.architecture.unshuffle=null").domains
    assert found == {
        "architecture.layers": CategoricalDistribution((2, 3)),
        "architecture.lower_level": CategoricalDistribution((False, True)),
        "final.width": CategoricalDistribution((4,)),
    }


def test_a_dropped_domain_of_no_setting_is_named() -> None:
    write("mine", "domains: {final.wdith: null}")
    with pytest.raises(ValueError, match=r"domains\.final\.wdith: null drops the domain of a setting, and there is no"):
        compose("search_spaces=mine")


def test_a_file_below_domains_is_read_as_it_is() -> None:
    Path("search_spaces/mine.yaml").write_text("# @package domains\nfinal.width: [4, 8]\n")
    assert compose("search_spaces=mine").domains == {"final.width": CategoricalDistribution((4, 8))}


@pytest.mark.parametrize("where", ["domains: ${%s:}", "domains: {final.width: '${%s:}'}", "study: ${%s:}"])
@pytest.mark.parametrize("arguments", [[], ["domains.final.width=[4]"], ["domains={}"]])
def test_a_resolver_is_refused_before_it_could_be_called(where: str, arguments: list[str]) -> None:
    called: list[bool] = []
    OmegaConf.register_new_resolver("canary", lambda: called.append(True), replace=True)
    write("mine", where % "canary")
    try:
        with pytest.raises(ValueError, match="calls a resolver"):
            compose("search_spaces=mine", *arguments)
    finally:
        OmegaConf.clear_resolver("canary")
    assert not called


def test_a_value_that_an_inherited_domain_overrules_is_told(caplog: pytest.LogCaptureFixture) -> None:
    write("mine", "architecture: {unshuffle: 4}\ndomains: {}")
    assert compose("search_spaces=mine").domains == compose("search_spaces=compact").domains
    said = (
        "search_spaces/mine.yaml: architecture.unshuffle is tuned, and the value given has no effect; to fix it, add "
    )
    assert {record.message for record in caplog.records} == {f"{said}`architecture.unshuffle: null` under domains"}
    caplog.clear()
    write("fixed", "domains: {architecture.unshuffle: null}", "mine")
    write("tuned", "domains: {architecture.unshuffle: [1, 4]}", "mine")
    assert "architecture.unshuffle" not in compose("search_spaces=fixed").domains
    compose("search_spaces=tuned")
    for domain in ("domains.architecture.unshuffle=null", "domains.architecture.unshuffle=[1,2]", "domains={}"):
        compose("search_spaces=mine", domain)
    compose_settings("retrain", RetrainConfig, ["search_spaces=mine", "genotype=irnas_denoise"])
    assert not caplog.records
    compose("search_spaces=mine", "architecture.unshuffle=2")
    assert ["mine.yaml" in record.message for record in caplog.records] == [False]


def test_retrain_leaves_open_what_its_space_tunes_and_says_what_is_given_in_vain(caplog: Any) -> None:
    write("mine", "domains: {architecture.unshuffle: [1, 2], final.width: [8, 16], final.lr: [0.1, 0.2]}")

    def tuned(*arguments: str) -> set[str]:
        given = ["search_spaces=mine", "genotype=irnas_denoise", *arguments]
        return set(compose_settings("retrain", RetrainConfig, given).domains)

    every = tuned()
    assert {"architecture.unshuffle", "final.width", "final.lr"} <= every
    assert tuned("final.width=4") == every - {"final.width"}
    assert tuned("final={width: 4}") == every - {"final.width", "final.lr"}
    assert not caplog.records
    tuned("architecture.unshuffle=4", "architecture.residual=true", "architecture.stem_channels=3")
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "architecture.stem_channels",
        "architecture.unshuffle",
    ]


def test_a_value_that_holds_where_a_condition_does_not_is_not_in_vain(caplog: pytest.LogCaptureFixture) -> None:
    write("mine", "domains: {architecture.unshuffle: {choices: [2, 4], when: {architecture.layers: [2]}}}")
    write("fixed", "architecture: {unshuffle: 4}", "mine")
    assert compose("search_spaces=fixed").architecture.unshuffle == 4
    compose("search_spaces=mine", "architecture.unshuffle=4")
    assert not caplog.records


@pytest.mark.parametrize("name", options()["search_spaces"])
def test_no_space_that_ships_overrules_its_own_values(name: str, caplog: pytest.LogCaptureFixture) -> None:
    compose(f"search_spaces={name}")
    assert not caplog.records
