"""What a command is to read is looked for first; that nothing heavy is loaded for it: test_cli_commands.py."""

from pathlib import Path
from typing import Any

import pytest

from irnas_ray.cli.named_files import check_named_files
from irnas_ray.settings.commands import AnalyzeConfig, EvaluateConfig, ExportConfig, PrepareConfig, RestoreConfig
from irnas_ray.settings.study import Data, RetrainConfig, StudyConfig

ABSENT = Data(source="absent")
CASES: list[tuple[Any, str]] = [
    (RestoreConfig(network="here", input="absent.png"), "input: absent.png: no such file or folder"),
    (RestoreConfig(network="absent.pt", input="here"), "network: absent.pt: no such file or folder"),
    (RestoreConfig(network="absent", input="here"), "absent: there is no such file, and the networks that ship are"),
    (ExportConfig(network="absent.pt"), "network: absent.pt: no such file"),
    (EvaluateConfig(network=["here", "absent.pt"]), "network: absent.pt: no such file"),
    (EvaluateConfig(network={"ours": "absent.pt"}), "network: absent.pt: no such file"),
    (EvaluateConfig(restored="absent"), "restored: absent: no such file or folder"),
    (EvaluateConfig(scores=["absent.json"]), "scores: absent.json: no such file or folder"),
    (EvaluateConfig(method="tv", data=ABSENT), "data.source: absent: no such file or folder"),
    (PrepareConfig(data=ABSENT), "data.source: absent: no such file or folder"),
    (StudyConfig(data=ABSENT), "data.source: absent: no such file or folder"),
    (RetrainConfig(network="dncnn", data=ABSENT), "data.source: absent: no such file or folder"),
    (RestoreConfig(), "input: is missing; give it as input=PATH"),
    (RestoreConfig(input="mine"), "output: is missing; give it as output=PATH"),
    (ExportConfig(), "network: is missing"),
    (EvaluateConfig(), "nothing to score: give network=FILE"),
    (RetrainConfig(), "genotype: is missing; give it as genotype=FILE, or choose network=NAME"),
    (AnalyzeConfig(), "study: give the study's folder"),
    (AnalyzeConfig("absent"), "absent does not exist; studies in .*: mine"),
    (AnalyzeConfig("mine", against="here"), "here does not exist; studies in .*: mine"),
    (StudyConfig(study="a/b"), "study: 'a/b' cannot name a folder"),
    (StudyConfig(study="mine", results="."), "study 'mine' exists in .*; continue it with resume=true"),
    (StudyConfig(study="new", resume=True), "study 'new': nothing to resume"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("settings", "said"), CASES)
def test_what_is_not_there_is_named_with_its_setting(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_named_files(settings)


def test_what_is_there_is_left_to_whoever_reads_it(folder: Path) -> None:
    for settings in (
        RetrainConfig(compare={"network": ["dncnn"]}),
        AnalyzeConfig("mine"),
        RestoreConfig("here", input="here"),
        EvaluateConfig(network=3, restored=["here"]),
        StudyConfig(),
        StudyConfig(study="new", data=Data(source="here")),
    ):
        check_named_files(settings)
    assert sorted(path.name for path in folder.iterdir()) == ["here", "mine"]
