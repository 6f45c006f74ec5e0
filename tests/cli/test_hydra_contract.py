"""What ``cli`` uses of Hydra and OmegaConf beyond what they document, as it was in hydra 1.3.8 and omegaconf 2.3.1.

Another release of either fails here first. The parser of single overrides is in no page of Hydra's; and errors are
told apart by their words, because both raise one class for many mistakes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import omegaconf
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

CHANGED = f"written for hydra 1.3.8 and omegaconf 2.3.1, and these are {hydra.__version__} and {omegaconf.__version__}"


@dataclass
class Inner:
    number: int = 1


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    free: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[None]:
    """Inside, ``compose("outer")`` finds a configuration that a class describes."""
    (tmp_path / "outer.yaml").write_text("defaults:\n  - outer_settings\n  - _self_\n")
    (tmp_path / "shape").mkdir()
    (tmp_path / "shape" / "round.yaml").write_text("inner:\n  number: 2\n")
    ConfigStore.instance().store(name="outer_settings", node=Outer)
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        yield


def refusal(*overrides: str) -> Exception:
    with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        compose("outer", overrides=list(overrides))
    return caught.value


def test_a_value_is_read_without_a_configuration() -> None:
    parser = OverridesParser.create()
    values = [parser.parse_override(f"value={text}").value() for text in ("1e-3", "[1, a]", "{low: 0}", "null")]
    assert values == [0.001, [1, "a"], {"low": 0}, None], CHANGED
    with pytest.raises((HydraException, OverrideParseException)):
        parser.parse_override("value=[1")


def test_text_in_quotes_is_read_as_it_was() -> None:
    for text in ("2024_11", "a 'b' (c), [d]", "a\\", "\\'", "null", ""):
        quoted = QuotedString(text=text, quote=Quote.single).with_quotes()
        assert OverridesParser.create().parse_override(f"value={quoted}").value() == text, CHANGED


def test_an_unknown_key_is_named_in_quotes(composed: None) -> None:
    assert "Could not override 'inner.nummer'" in str(refusal("inner.nummer=2")), CHANGED
    assert "Could not override 'outer'" in str(refusal("outer=2")), CHANGED


def test_a_value_of_another_type_is_the_cause_of_its_error(composed: None) -> None:
    error = refusal("inner.number=many")
    assert isinstance(error, ConfigCompositionException), CHANGED
    assert str(error) == "Error merging override inner.number=many", CHANGED
    lines = str(error.__cause__).splitlines()
    assert "'many'" in lines[0] and "Integer" in lines[0], CHANGED
    assert [line.strip().partition("=")[0] for line in lines[1:]] == [
        "full_key: inner.number",
        "reference_type",
        "object_type",
    ], CHANGED


def test_a_group_without_a_file_says_first_what_it_has_and_then_where_it_looked(composed: None) -> None:
    words = str(refusal("+shape=square")).split("\nConfig search path:")
    assert len(words) == 2 and words[0].endswith("Available options in 'shape':\n\tround"), CHANGED


def test_a_dict_of_free_keys_is_unlocked_and_keeps_dotted_keys(composed: None) -> None:
    config = compose("outer")
    with pytest.raises(OmegaConfBaseException):
        config.inner["new"] = 1
    OmegaConf.set_struct(config, False)
    config.free["a.b"] = 1
    config.free["c"] = {"low": 0}
    assert OmegaConf.is_dict(config.free["c"]) and not OmegaConf.is_dict(config.free["a.b"]), CHANGED
    OmegaConf.set_struct(config, True)
    assert OmegaConf.to_object(config) == Outer(free={"a.b": 1, "c": {"low": 0}}), CHANGED


class Doubling(FileConfigSource):
    """Reads files whose number is twice what is written."""

    @staticmethod
    def scheme() -> str:
        return "doubling"

    def load_config(self, config_path: str) -> Any:
        result = super().load_config(config_path)
        assert result.header == {"package": "_global_"} and self._normalize_file_name("a/b") == "a/b.yaml", CHANGED
        result.config["inner"]["number"] *= 2
        return result


def test_files_below_a_url_are_read_by_the_class_that_is_registered_for_it(composed: None, tmp_path: Path) -> None:
    Plugins.instance().register(Doubling)
    (tmp_path / "more" / "form").mkdir(parents=True)
    (tmp_path / "more" / "form" / "oval.yaml").write_text("# @package _global_\ninner:\n  number: 2\n")
    place = QuotedString(text=f"doubling://{tmp_path / 'more'}", quote=Quote.single).with_quotes()
    config = compose("outer", overrides=[f"hydra.searchpath=[{place}]", "+form=oval"])
    assert config.inner.number == 4, CHANGED
