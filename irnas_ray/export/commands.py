"""The work of `irnas-ray export`."""

from pathlib import Path
from typing import Any

from irnas_ray.export.exported_network import load_exported
from irnas_ray.export.file_formats import (
    CHECKED_SIZES,
    INPUT,
    OUTPUT,
    TOLERANCE,
    check_format,
    check_same,
    written_as,
)
from irnas_ray.export.plain_network import least_side
from irnas_ray.networks.checkpoints import load_network
from irnas_ray.networks.derived import count_parameters
from irnas_ray.networks.registry import describe_network
from irnas_ray.settings.commands import ExportConfig
from irnas_ray.system.environment import versions
from irnas_ray.system.exit_status import WrongSetting
from irnas_ray.system.files import write_bytes, write_json


def export_network(config: ExportConfig) -> None:
    """Write a saved network in a format of other tools, checked against PyTorch, and beside it what it needs.

    Raises ValueError, and writes nothing, if something is missing, a file would be overwritten, PyTorch cannot export
    the network, or the exported file restores something else.
    """
    config.check_given()
    kind = check_format(config.format)
    target = Path(config.output or Path(config.network).with_suffix(kind.suffix))
    if target.suffix != kind.suffix:
        raise WrongSetting(f"output: {target} does not end in {kind.suffix}, as files of format={config.format} do")
    beside = target.with_name(f"{target.name}.json")
    for path in (target, beside):
        if path.exists() and not config.overwrite:
            raise ValueError(f"{path} exists; choose another output or add overwrite=true")
    network, notes = load_network(config.network, "cpu", config.network_class)
    try:
        content, needs = written_as(config.format, network, notes)
        exported, _ = load_exported(target, content)
        differences = check_same(network, exported)
    except ValueError as error:
        raise ValueError(f"{config.network}: {error}") from error
    description: dict[str, Any] = {
        "file": target.name,
        "format": config.format,
        **needs,
        "input": {"name": INPUT, "shape": ["batch", exported.channels, "height", "width"], "dtype": "float32"},
        "output": {"name": OUTPUT, "shape": ["batch", exported.channels, "height", "width"], "dtype": "float32"},
        "range": "images in [0, 1]; results are not clipped to it",
        "least_side": least_side(network),
        "network": describe_network(network),
        "parameters": count_parameters(network),
        "notes": notes,
        "tolerance": TOLERANCE,
        "checked": differences,
        "versions": versions("torch", *kind.writing, *kind.reading),
    }
    write_bytes(target, content)
    write_json(beside, description)
    worst = max(row["largest_difference"] for row in differences)
    sizes = " and ".join(f"{height}x{width}" for height, width in CHECKED_SIZES)
    print(f"{config.network} -> {target}: differs from PyTorch by {worst:.1g} at most, looked at with {sizes} pixels")
    print(f"needs {'; or '.join(needs['runtimes'])}; more in {beside}")
