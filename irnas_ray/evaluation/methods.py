"""Which methods a comparison is between: networks, folders of restored images, baselines, and earlier scores."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from irnas_ray.evaluation.baselines import baselines, named_baselines
from irnas_ray.evaluation.comparison import check_comparable
from irnas_ray.evaluation.external import match_files
from irnas_ray.evaluation.metrics import known_border
from irnas_ray.evaluation.protocols import Protocol, get_protocol
from irnas_ray.evaluation.scores import Evaluation, Method, Score, file_name
from irnas_ray.export.exported_network import load_any
from irnas_ray.networks.inference import restorer
from irnas_ray.settings.commands import EvaluateConfig
from irnas_ray.settings.degradations import degradation_from_dict
from irnas_ray.system.exit_status import WrongSetting, checking_settings
from irnas_ray.system.files import read_json


@dataclass(frozen=True)
class Candidates:
    """Everything that is scored under one protocol and noise level, by what it is called in the table."""

    protocol: Protocol
    #: Noise level on the 0-255 scale; None where the protocol adds no white noise.
    sigma: float | None
    networks: dict[str, Method]
    folders: dict[str, Path]
    baselines: dict[str, Method]
    earlier: list[Evaluation]

    def check(self, image_ids: Sequence[str]) -> None:
        """ValueError unless folders hold these images, earlier scores may stand beside theirs, and all names differ."""
        for folder in self.folders.values():
            match_files(folder, list(image_ids))
        expected = [Score(image_id, 0.0, 0.0, 0.0) for image_id in image_ids]
        names = [*self.networks, *self.folders, *self.baselines]
        if len({file_name(name) for name in names}) < len(set(names)):
            raise ValueError(f"the methods {', '.join(names)} would share files; give them names that differ more")
        new = [Evaluation(name, self.protocol.id, self.sigma, expected, self.protocol.ssim_border) for name in names]
        check_comparable([*new, *self.earlier])


def find_candidates(config: EvaluateConfig, device: torch.device | str) -> Candidates:
    """Load and name what the settings list; ValueError if there is nothing to score, or something does not fit."""
    config.check_given()
    networks = {
        name: load_any(path, device, config.network_class)
        for name, path in named_paths("network", config.network, ".pt").items()
    }
    folders = named_paths("restored", config.restored)
    names = _names(config)
    notes = {name: kept for name, (_, kept) in networks.items()}
    with checking_settings():
        protocol = _protocol(config.protocol or _agreed(notes, "protocol") or "photographs-gray", notes)
        protocol = replace(protocol, ssim_border=known_border(config.ssim))
    noisy = protocol.degradation == "gaussian"
    sigma = config.sigma
    if noisy and sigma is None:
        sigma = _agreed(notes, "sigma")
        # a note may say anything, such as a range of levels
        if not isinstance(sigma, int | float):
            raise WrongSetting(f"sigma: is missing; protocol {protocol.id} needs a noise level (0-255 scale)")
    for name, (network, _) in networks.items():
        _check_channels(name, network, protocol)
    with checking_settings():
        usual = baselines(protocol, sigma) if config.baselines else {}
        compared = usual if names is None else named_baselines(names, protocol, sigma)
    suffix = " (self-ensemble)" if config.self_ensemble else ""
    return Candidates(
        protocol,
        sigma if noisy else None,
        {
            name + suffix: restorer(network, config.tile, config.overlap, config.self_ensemble)
            for name, (network, _) in networks.items()
        },
        folders,
        compared,
        [evaluation for path in _listed("scores", config.scores) for evaluation in read_scores(Path(path))],
    )


def read_scores(path: Path) -> list[Evaluation]:
    """The evaluations of a ``scores.json``; ValueError naming the file if it is none."""
    try:
        content = read_json(path)
    except ValueError as error:
        raise ValueError(f"scores: {error}") from None
    rows = content.get("evaluations") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise ValueError(f"scores: {path} holds no evaluations; give the scores.json of an earlier evaluation")
    try:
        return [Evaluation.from_dict(row) for row in rows]
    except ValueError as error:
        raise ValueError(f"scores: {path} {error}") from None


def named_paths(key: str, value: Any, suffix: str = "") -> dict[str, Path]:
    """The paths that a setting lists, by name: one path, a list, or ``{name: path}``.

    Without names the last part of each path is taken, and as many parts before it as are needed to tell them apart.
    ValueError naming the setting if it is something else, or lists a path twice.
    """
    if isinstance(value, dict):
        return {str(name): Path(path) for name, path in zip(value, _listed(key, list(value.values())), strict=True)}
    paths = [Path(path) for path in _listed(key, value)]
    plain = [path.with_suffix("") if suffix and path.suffix == suffix else path for path in paths]
    resolved = {path.resolve() for path in paths}
    if len(resolved) < len(paths):
        raise ValueError(f"{key}: lists one path twice")
    for count in range(1, max((len(path.resolve().parts) for path in plain), default=0) + 1):
        names = [Path(*path.resolve().parts[-count:]).as_posix() for path in plain]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    return {}


def _names(config: EvaluateConfig) -> list[str] | None:
    return None if config.method is None else _listed("method", config.method)


def _listed(key: str, value: Any) -> list[str]:
    values = [] if value in (None, "") else value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item for item in values):
        raise ValueError(f"{key}: {value!r}; give one name or path, a list of them, or {{name: path}} for paths")
    return values


def _agreed(notes: dict[str, dict[str, Any]], key: str) -> Any:
    """What the networks' notes say, if they agree; None if none says anything."""
    values = {name: kept[key] for name, kept in notes.items() if kept.get(key) is not None}
    found = list(values.values())
    # notes may hold lists and dicts
    if any(value != found[0] for value in found):
        listed = ", ".join(f"{name}: {value}" for name, value in values.items())
        raise ValueError(f"{key}: the networks were trained for different ones ({listed}); say which with {key}=")
    return found[0] if found else None


def _protocol(id: str, notes: dict[str, dict[str, Any]]) -> Protocol:
    """The protocol of an id; the settings that some ids stand for are in the notes of networks trained under them."""
    degradations = [degradation_from_dict(kept.get("degradation", {})) for kept in notes.values()]
    for degradation in degradations[:-1]:
        with contextlib.suppress(ValueError):
            return get_protocol(id, degradation)
    return get_protocol(id, *degradations[-1:])


def _check_channels(name: str, network: nn.Module, protocol: Protocol) -> None:
    channels = getattr(network, "channels", protocol.channels)
    if protocol.channels != channels:
        raise ValueError(f"protocol {protocol.id} has {protocol.channels} channels, network {name} restores {channels}")
