"""What a command must name, and the files and folders that it names: looked at before PyTorch and Ray are loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from irnas_ray.catalogue.cards import located
from irnas_ray.results.folder import StudyFolder
from irnas_ray.results.layout import check_study
from irnas_ray.settings.commands import AnalyzeConfig, EvaluateConfig, ExportConfig, PrepareConfig, RestoreConfig
from irnas_ray.settings.study import RetrainConfig, StudyConfig
from irnas_ray.system.exit_status import checking_settings


def check_named_files(settings: object) -> None:
    """ValueError if something that is to be read is not named or not there, or a study that is to be begun is there.

    What else may be wrong with it is told by whoever reads it.
    """
    if isinstance(settings, (AnalyzeConfig, EvaluateConfig, ExportConfig, RestoreConfig)) or (
        isinstance(settings, RetrainConfig) and not settings.compare
    ):
        settings.check_given()
    if isinstance(settings, AnalyzeConfig):
        for name in filter(None, (settings.study, settings.against)):
            check_study(Path(name).absolute())
    for key, path in _named(settings):
        if not path.exists():
            raise ValueError(f"{key}: {path}: no such file or folder")
    if type(settings) is StudyConfig:
        with checking_settings():
            folder = StudyFolder(settings)
        folder.check(settings)


def _named(settings: object) -> Iterator[tuple[str, Path]]:
    if isinstance(settings, (EvaluateConfig, PrepareConfig, StudyConfig)) and settings.data.source is not None:
        yield "data.source", Path(settings.data.source)
    if isinstance(settings, (EvaluateConfig, ExportConfig, RestoreConfig)):
        yield from (("network", located(name)) for name in _listed(settings.network))
    if isinstance(settings, EvaluateConfig):
        yield from (("restored", Path(name)) for name in _listed(settings.restored))
        yield from (("scores", Path(name)) for name in _listed(settings.scores))
    if isinstance(settings, RestoreConfig) and settings.input:
        yield "input", Path(settings.input)


def _listed(value: Any) -> list[str]:
    """The paths of a setting that takes one, a list of them, or ``{name: path}``; of anything else none."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str) and item]
