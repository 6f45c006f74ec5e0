"""The settings of a command as an object, for programs: what the command line would have composed."""

from collections.abc import Sequence
from typing import Any

from irnas_ray.settings.audit import AuditConfig
from irnas_ray.settings.commands import (
    AnalyzeConfig,
    EvaluateConfig,
    ExportConfig,
    NetworksConfig,
    PrepareConfig,
    RestoreConfig,
)
from irnas_ray.settings.study import RetrainConfig, StudyConfig

#: Command -> what its settings are.
KINDS: dict[str, type] = {
    "prepare": PrepareConfig,
    "search": StudyConfig,
    "retrain": RetrainConfig,
    "evaluate": EvaluateConfig,
    "restore": RestoreConfig,
    "networks": NetworksConfig,
    "export": ExportConfig,
    "analyze": AnalyzeConfig,
    "audit": AuditConfig,
}


def compose(name: str, overrides: Sequence[str] = ()) -> Any:
    """The settings of a command, as ``key=value`` words on its command line give them.

    Args:
        name: prepare, search, retrain, evaluate, restore, networks, export, analyze or audit.
        overrides: Such as ``["search_spaces=quickstart", "tune.trials=4"]``.

    Raises:
        ValueError: saying which commands, keys or values are possible.

    Example:
        >>> import irnas_ray as ir
        >>> settings = ir.compose("search", ["search_spaces=quickstart", "tune.trials=2"])
        >>> settings.search_space, settings.tune.trials
        ('quickstart', 2)
    """
    if name not in KINDS:
        raise ValueError(f"command: unknown {name!r}; possible: {', '.join(KINDS)}")
    # this module is read for help, too, which does without Hydra
    from irnas_ray.cli.command_line import compose_settings

    return compose_settings(name, KINDS[name], list(overrides))
