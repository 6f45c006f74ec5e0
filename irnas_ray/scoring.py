"""The work of `evaluate.py` and `restore.py`: a saved network on images, without Ray."""

import logging
from pathlib import Path

import torch

from irnas_ray.baselines import baselines
from irnas_ray.checkpoints import load_network
from irnas_ray.evaluation import comparison_table, evaluate
from irnas_ray.folder import write_json
from irnas_ray.images import list_images, read_header, read_image, write_image
from irnas_ray.inference import restore, restorer
from irnas_ray.preparing import read_test_images
from irnas_ray.protocols import get_protocol
from irnas_ray.settings import EvaluateConfig, RestoreConfig


def evaluate_network(config: EvaluateConfig) -> None:
    """Score a network, and the baselines, under a protocol; print a table and keep the numbers if asked to.

    Raises ValueError if the network, the protocol or the images do not fit each other.
    """
    network, notes = load_network(_given("network", config.network), _device(), config.network_class)
    protocol = get_protocol(config.protocol or notes.get("protocol") or "photographs-gray")
    sigma = config.sigma if config.sigma is not None else notes.get("sigma")
    if protocol.channels != network.channels:
        raise ValueError(
            f"protocol {protocol.id} has {protocol.channels} channels, {config.network} restores {network.channels}"
        )
    if config.data.source is None and not protocol.id.startswith("photographs"):
        raise ValueError(f"data.source: is missing; protocol {protocol.id} scores other images than the embedded ones")
    config.data.color = protocol.color
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output = Path(config.output) if config.output else None
    if output is not None and (output / "scores.json").exists():
        raise ValueError(f"output: {output} holds scores already; choose another folder")
    images = list(read_test_images(config.data, config.images))
    methods = {"network": restorer(network, config.tile, config.overlap if config.tile else 0)}
    if config.baselines:
        methods |= baselines(protocol, sigma)
    results = []
    for name, method in methods.items():
        pictures = output / "images" if output and name == "network" else None
        results.append(evaluate(method, images, protocol, sigma, name=name, pictures=pictures))
    print(comparison_table(results))
    if output is not None:
        for result in results:
            result.write_csv(output / f"{result.method.replace(' ', '_')}.csv")
        write_json(output / "scores.json", [result.to_dict() for result in results])
        print(f"per-image scores and restored images: {output.absolute()}")


def restore_images(config: RestoreConfig) -> None:
    """Restore an image or a folder of images with a saved network into PNG files.

    Raises ValueError, before the first image is restored, if anything is missing, colours do not fit the network, or a
    result would overwrite a file.
    """
    network, _ = load_network(_given("network", config.network), _device(), config.network_class)
    source, output = Path(_given("input", config.input)), Path(_given("output", config.output))
    paths = [source] if source.is_file() else list_images(source)
    color = "gray" if network.channels == 1 else "rgb"
    if config.color not in (None, "gray"):
        raise ValueError(f"color: unknown {config.color!r}; possible: gray, null")
    targets = [output / f"{path.stem}.png" for path in paths]
    for path, target in zip(paths, targets, strict=True):
        gray = read_header(path).gray
        if color == "rgb" and gray:
            raise ValueError(f"{path} is a gray image, {config.network} restores colour images; use a network for gray")
        if color == "gray" and config.color is None and not gray:
            raise ValueError(
                f"{path} is a colour image, {config.network} restores gray images; add color=gray to convert it, "
                "or use a network for colour"
            )
        if target.exists() and not config.overwrite:
            raise ValueError(f"{target} exists; choose another output folder or add overwrite=true")
    if len(set(targets)) < len(targets):
        raise ValueError(f"{source}: two images differ only in their suffix, so their results would have one name")
    for path, target in zip(paths, targets, strict=True):
        restored = restore(network, read_image(path, color), config.tile, config.overlap if config.tile else 0)
        write_image(target, restored)
        print(f"{path} -> {target}", flush=True)


def _given(key: str, value: str) -> str:
    if not value:
        raise ValueError(f"{key}: is missing; give it as {key}=PATH")
    return value


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
