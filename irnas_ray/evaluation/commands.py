"""The work of `irnas-ray evaluate`, without Ray."""

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
from irnas_ray.evaluation.restored_files import check_largest, report_failed, usable_device
from irnas_ray.evaluation.scores import Evaluation, EvaluationImage, collect, evaluate, file_name, restore_and_score
from irnas_ray.images.pillow import pictures_up_to
from irnas_ray.settings.commands import EvaluateConfig
from irnas_ray.system.environment import PYTHON, hardware, usable_cores, versions
from irnas_ray.system.exit_status import WrongSetting
from irnas_ray.system.files import read_json, write_json, write_text
from irnas_ray.system.worker_pool import WorkerPool

#: What can change a score.
LIBRARIES = (PYTHON, "torch", "numpy", "scipy", "scikit-image", "PyWavelets", "pillow", "bm3d")
#: Seconds of work from which it pays to start other processes, which takes some seconds itself.
WORTH_PROCESSES = 10.0

logger = logging.getLogger(__name__)


def score_methods(config: EvaluateConfig) -> None:
    """Score networks, restored images and baselines under a protocol; print a table and keep everything if asked to.

    Raises ValueError, before any work, if there is nothing to score, the networks, the protocol, earlier scores or the
    images do not fit each other, or the output folder is not empty; at the end, if files could not be read, with their
    names and the reasons.
    """
    start = time.perf_counter()
    candidates = find_candidates(config, usable_device())
    protocol = candidates.protocol
    if config.data.source is None and not protocol.id.startswith("photographs"):
        raise WrongSetting(
            f"data.source: is missing; protocol {protocol.id} scores other images than the embedded ones"
        )
    source = config.data.source
    check_form(protocol, Manifest.load(source).form if source is not None and is_prepared(source) else None)
    config.data.color = protocol.color
    output = Path(config.output) if config.output else None
    if output is not None and output.exists() and not _is_free(output):
        raise ValueError(f"output: {output} is not an empty folder; choose another one")
    check_largest(config)
    failed: list[str] = []
    with pictures_up_to(config.max_megapixels):
        images = list(read_test_images(config.data, config.images, failed))
    count = len(images) + len(failed)
    if not images:
        report_failed(failed, count, "scored")
    candidates.check([image.image_id for image in images])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    shown = SheetImages(images, config.sheet_images if output else 0)
    results = []
    for result in _score(candidates, images, config, output, shown, failed):
        results.append(result)
        if output is not None:
            result.write_csv(output / "per_image" / f"{file_name(result.method)}.csv")
    if not results and not candidates.earlier:
        report_failed(failed, count, "scored")
    everything = [*results, *candidates.earlier]
    rows = compare(everything, _reference(everything))
    print(interval_table(rows))
    if output is not None:
        write_text(output / "table.md", interval_table(rows))
        write_comparison(rows, output / "table.csv")
        seconds = round(time.perf_counter() - start, 2)
        record = _record(config, candidates, seconds, rows, everything)
        write_json(output / "scores.json", record | ({"not_scored": failed} if failed else {}))
        shown.save(output / "sheet.png", protocol, candidates.sigma, results)
        print(f"tables, scores of each image, restored images and picture sheet: {output.absolute()}")
    report_failed(failed, count, "scored")


def _is_free(output: Path) -> bool:
    """Whether a folder is empty, or holds scores from which files were missing, which the same command makes again."""
    try:
        return not any(output.iterdir()) or bool(read_json(output / "scores.json").get("not_scored"))
    except (OSError, ValueError, AttributeError):
        return False


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
    failed: list[str],
) -> Iterator[Evaluation]:
    """The evaluation of each candidate as it is done; what is wrong with a folder of restored images is `failed`."""
    protocol, sigma = candidates.protocol, candidates.sigma
    for name, method in candidates.networks.items():
        pictures = output / "images" / file_name(name) if output else None
        yield evaluate(method, images, protocol, sigma, name, pictures, shown.keeper(name))
    for name, folder in candidates.folders.items():
        try:
            with pictures_up_to(config.max_megapixels):
                result = evaluate_restored(folder, images, protocol, sigma, name, shown.keeper(name))
        except ValueError as error:
            logger.warning("%s", error)
            failed.append(f"{name}: {error}")
            continue
        yield result
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
