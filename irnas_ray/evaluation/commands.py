"""The work of `irnas-ray evaluate` and `irnas-ray restore`, without Ray."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from irnas_ray.datasets.manifest import Manifest, is_prepared
from irnas_ray.datasets.whole_images import read_test_images
from irnas_ray.evaluation.baselines import is_baseline, parameters_of
from irnas_ray.evaluation.comparison import compare, interval_table, write_comparison
from irnas_ray.evaluation.external import evaluate_restored
from irnas_ray.evaluation.methods import Candidates, find_candidates
from irnas_ray.evaluation.picture_sheet import SheetImages
from irnas_ray.evaluation.protocols import check_form
from irnas_ray.evaluation.scores import Evaluation, EvaluationImage, collect, evaluate, file_name, restore_and_score
from irnas_ray.images.files import list_images, read_header, read_image, write_image
from irnas_ray.networks.checkpoints import load_network
from irnas_ray.networks.inference import fast, restore
from irnas_ray.settings.commands import EvaluateConfig, RestoreConfig
from irnas_ray.system.environment import PYTHON, hardware, usable_cores, versions
from irnas_ray.system.exit_status import WrongSetting
from irnas_ray.system.files import write_json, write_text
from irnas_ray.system.names import check_names
from irnas_ray.system.worker_pool import WorkerPool

#: What can change a score.
LIBRARIES = (PYTHON, "torch", "numpy", "scipy", "scikit-image", "PyWavelets", "pillow", "bm3d")
#: Seconds of work from which it pays to start other processes, which takes some seconds itself.
WORTH_PROCESSES = 10.0

logger = logging.getLogger(__name__)


def score_methods(config: EvaluateConfig) -> None:
    """Score networks, restored images and baselines under a protocol; print a table and keep everything if asked to.

    Raises ValueError, before any work, if there is nothing to score, the networks, the protocol, earlier scores or the
    images do not fit each other, or the output folder is not empty.
    """
    start = time.perf_counter()
    candidates = find_candidates(config, _device())
    protocol = candidates.protocol
    if config.data.source is None and not protocol.id.startswith("photographs"):
        raise WrongSetting(
            f"data.source: is missing; protocol {protocol.id} scores other images than the embedded ones"
        )
    source = config.data.source
    check_form(protocol, Manifest.load(source).form if source is not None and is_prepared(source) else None)
    config.data.color = protocol.color
    output = Path(config.output) if config.output else None
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"output: {output} is no empty folder; choose another one")
    images = list(read_test_images(config.data, config.images))
    candidates.check([image.image_id for image in images])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    shown = SheetImages(images, config.sheet_images if output else 0)
    results = []
    for result in _score(candidates, images, config, output, shown):
        results.append(result)
        if output is not None:
            result.write_csv(output / "per_image" / f"{file_name(result.method)}.csv")
    everything = [*results, *candidates.earlier]
    rows = compare(everything, _reference(everything))
    print(interval_table(rows))
    if output is not None:
        write_text(output / "table.md", interval_table(rows))
        write_comparison(rows, output / "table.csv")
        seconds = round(time.perf_counter() - start, 2)
        write_json(output / "scores.json", _record(config, candidates, seconds, rows, everything))
        shown.save(output / "sheet.png", protocol, candidates.sigma, results)
        print(f"tables, scores of each image, restored images and picture sheet: {output.absolute()}")


def _record(
    config: EvaluateConfig,
    candidates: Candidates,
    seconds: float,
    rows: list[dict[str, Any]],
    evaluations: Sequence[Evaluation],
) -> dict[str, Any]:
    """What ``scores.json`` holds: everything that the numbers depend on, and the numbers."""
    return {
        "protocol": candidates.protocol.id,
        "sigma": candidates.sigma,
        "ssim": candidates.protocol.ssim_border,
        "settings": asdict(config),
        "versions": versions(*LIBRARIES),
        "hardware": hardware(),
        "seconds": seconds,
        "parameters": {name: parameters_of(name) for name in candidates.baselines if parameters_of(name)},
        "comparison": rows,
        "evaluations": [evaluation.to_dict() for evaluation in evaluations],
    }


def _score(
    candidates: Candidates,
    images: Sequence[EvaluationImage],
    config: EvaluateConfig,
    output: Path | None,
    shown: SheetImages,
) -> Iterator[Evaluation]:
    """The evaluation of each candidate as it is done."""
    protocol, sigma = candidates.protocol, candidates.sigma
    for name, method in candidates.networks.items():
        pictures = output / "images" / file_name(name) if output else None
        yield evaluate(method, images, protocol, sigma, name, pictures, shown.keeper(name))
    for name, folder in candidates.folders.items():
        yield evaluate_restored(folder, images, protocol, sigma, name, shown.keeper(name))
    count, one_thread = config.processes or usable_cores(), partial(torch.set_num_threads, 1)
    with WorkerPool(count, restore_and_score.__module__, "processes", one_thread) as pool:
        for name, method in candidates.baselines.items():
            work = partial(restore_and_score, method, protocol, sigma)
            first = work(images[0])
            slow = first[0].seconds * (len(images) - 1) > WORTH_PROCESSES
            rest = pool.map(work, images[1:]) if slow else map(work, images[1:])
            yield collect(chain([first], rest), protocol, sigma, name, keep=shown.keeper(name))


def _reference(results: Sequence[Evaluation]) -> str | None:
    """The best baseline, over which gains are told."""
    references = [result for result in results if is_baseline(result.method)]
    return max(references, key=lambda result: result.psnr).method if references else None


def restore_images(config: RestoreConfig) -> None:
    """Restore an image or a folder of images with a saved network into PNG files.

    Raises ValueError, before the first image is restored, if anything is missing, colours do not fit the network, or a
    result would overwrite a file.
    """
    network, _ = load_network(_given("network", config.network), _device(), config.network_class)
    source, output = Path(_given("input", config.input)), Path(_given("output", config.output))
    paths = [source] if source.is_file() else list_images(source)
    check_names(paths)
    color = "gray" if network.channels == 1 else "rgb"
    if config.color not in (None, "gray"):
        raise WrongSetting(f"color: unknown {config.color!r}; possible: gray, null")
    targets = [output / f"{path.stem}.png" for path in paths]
    for path, target in zip(paths, targets, strict=True):
        header = read_header(path)
        for notice in header.notices:
            logger.warning("%s: %s", path, notice)
        gray = header.gray
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
    network = fast(network)
    for path, target in zip(paths, targets, strict=True):
        restored = restore(network, read_image(path, color), config.tile, config.overlap, config.self_ensemble)
        write_image(target, restored)
        print(f"{path} -> {target}", flush=True)


def _given(key: str, value: str) -> str:
    if not value:
        raise WrongSetting(f"{key}: is missing; give it as {key}=PATH")
    return value


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
