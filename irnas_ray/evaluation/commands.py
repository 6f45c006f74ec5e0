"""The work of `irnas-ray evaluate`, `irnas-ray restore` and `irnas-ray networks`, without Ray."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from irnas_ray.catalogue.cards import fitting_network, located, shipped_networks
from irnas_ray.datasets.manifest import Manifest, is_prepared
from irnas_ray.datasets.whole_images import read_test_images
from irnas_ray.evaluation.baselines import is_baseline, parameters_of
from irnas_ray.evaluation.comparison import compare, interval_table, write_comparison
from irnas_ray.evaluation.external import evaluate_restored
from irnas_ray.evaluation.methods import Candidates, find_candidates
from irnas_ray.evaluation.picture_sheet import SheetImages
from irnas_ray.evaluation.protocols import check_form
from irnas_ray.evaluation.restoration import COLORS, Restoration
from irnas_ray.evaluation.scores import Evaluation, EvaluationImage, collect, evaluate, file_name, restore_and_score
from irnas_ray.export.exported_network import load_any
from irnas_ray.images.files import list_images, read_header
from irnas_ray.images.pillow import MEGAPIXELS, pictures_up_to
from irnas_ray.networks.inference import fast
from irnas_ray.settings.commands import EvaluateConfig, NetworksConfig, RestoreConfig
from irnas_ray.system.environment import PYTHON, hardware, usable_cores, versions
from irnas_ray.system.exit_status import WrongSetting
from irnas_ray.system.files import read_json, write_json, write_text
from irnas_ray.system.names import check_names
from irnas_ray.system.worker_pool import WorkerPool

#: What can change a score.
LIBRARIES = (PYTHON, "torch", "numpy", "scipy", "scikit-image", "PyWavelets", "pillow", "bm3d")
#: Seconds of work from which it pays to start other processes, which takes some seconds itself.
WORTH_PROCESSES = 10.0
#: Images that could not be read of which a message tells.
MOST_NAMES = 20

logger = logging.getLogger(__name__)


def score_methods(config: EvaluateConfig) -> None:
    """Score networks, restored images and baselines under a protocol; print a table and keep everything if asked to.

    Raises ValueError, before any work, if there is nothing to score, the networks, the protocol, earlier scores or the
    images do not fit each other, or the output folder is not empty; at the end, if files could not be read, with their
    names and the reasons.
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
    if output is not None and output.exists() and not _is_free(output):
        raise ValueError(f"output: {output} is no empty folder; choose another one")
    _check_largest(config)
    failed: list[str] = []
    with pictures_up_to(config.max_megapixels):
        images = list(read_test_images(config.data, config.images, failed))
    count = len(images) + len(failed)
    if not images:
        _report(failed, count, "scored")
    candidates.check([image.image_id for image in images])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    shown = SheetImages(images, config.sheet_images if output else 0)
    results = []
    for result in _score(candidates, images, config, output, shown, failed):
        results.append(result)
        if output is not None:
            result.write_csv(output / "per_image" / f"{file_name(result.method)}.csv")
    if not results and not candidates.earlier:
        _report(failed, count, "scored")
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
    _report(failed, count, "scored")


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


def restore_images(config: RestoreConfig) -> None:
    """Restore an image or a folder of images with a saved network into PNG files.

    Raises ValueError, before the first image is restored, if anything is missing or a result would overwrite a file
    that this call would not have made; at the end, if images could not be restored, with their names and the reasons.
    Without a network one that ships is chosen, and named.
    """
    source = Path(_given("input", config.input))
    paths = [source] if source.is_file() else list_images(source)
    check_names(paths)
    output = config.output if source.is_file() else _given("output", config.output)
    config = _with_network(config, paths)
    network, _ = load_any(config.network, _device(), config.network_class)
    color = "gray" if network.channels == 1 else "rgb"
    if config.color not in (None, *COLORS):
        raise WrongSetting(f"color: unknown {config.color!r}; possible: {', '.join(COLORS)}, null")
    _check_largest(config)
    targets = [_target(path, source, output) for path in paths]
    if len(set(targets)) < len(targets):
        raise ValueError(f"{source}: two images differ only in their suffix, so their results would have one name")
    restoration = Restoration(fast(network), config, 1 if color == "gray" else 3)
    with pictures_up_to(config.max_megapixels):
        there = set() if config.overwrite else {target for target in targets if target.exists()}
        for path, target in zip(paths, targets, strict=True):
            if target in there and (source.is_file() or not restoration.is_done(path, target)):
                raise ValueError(f"{target} exists; choose another output folder or add overwrite=true")
        _report(_restore_files(restoration, dict(zip(paths, targets, strict=True)), there), len(paths), "restored")


def _restore_files(restoration: Restoration, targets: Mapping[Path, Path], there: Set[Path]) -> list[str]:
    """Restore files into those that are not there; what was wrong with the others."""
    failed = []
    for path, target in targets.items():
        if target in there:
            print(f"{path} -> {target} is there already", flush=True)
            continue
        try:
            restoration.restore_file(path, target)
            print(f"{path} -> {target}", flush=True)
        except ValueError as error:
            logger.warning("%s", error)
            failed.append(str(error))
    return failed


def _check_largest(config: EvaluateConfig | RestoreConfig) -> None:
    if config.max_megapixels > MEGAPIXELS and config.tile is None:
        raise WrongSetting(
            f"max_megapixels: more than {MEGAPIXELS} only in tiles; add their side in pixels, as tile=256"
        )


def _report(failed: Sequence[str], count: int, done: str) -> None:
    """ValueError naming the images of a batch that failed, if there are any."""
    if failed and len(failed) == count:
        raise ValueError("\n".join(failed[:MOST_NAMES]))
    if failed:
        listed = "\n".join([*failed[:MOST_NAMES], *["..."] * (len(failed) > MOST_NAMES)])
        remedy = "mend or remove what is named, and the same command does what is missing"
        raise ValueError(f"the rest is {done}, but of {count} images not all; {remedy}:\n{listed}")


def print_networks(config: NetworksConfig) -> None:
    """Print the networks that ship, one a line, or the card of the one that is named; ValueError if there is none."""
    networks = {network.name: network for network in shipped_networks()}
    if config.network:
        if config.network not in networks:
            raise WrongSetting(f"network: {config.network} does not ship; possible: {', '.join(networks) or 'none'}")
        print(networks[config.network].card.read_text(encoding="utf-8").rstrip())
        return
    width = max(map(len, networks), default=0)
    for name, network in networks.items():
        color = "gray" if network.channels == 1 else "RGB"
        print(f"{name:<{width}}  {network.summary} ({color}, {network.parameters:,} parameters)")
    print(
        "a name stands wherever a network.pt does, as in network=NAME; irnas-ray networks network=NAME prints its card"
    )


def _with_network(config: RestoreConfig, paths: Sequence[Path]) -> RestoreConfig:
    """The settings with the file of the network, and where none is given with one that ships for images like these."""
    if config.network:
        return replace(config, network=str(located(config.network)))
    grays = []
    for path in paths:
        with contextlib.suppress(ValueError):  # what cannot be read is told of when its turn comes
            grays.append(read_header(path).gray)
    network = fitting_network(1 if all(grays) else 3)
    apart = network.channels == 1 and not all(grays) and config.color is None
    way = ", for each colour apart" if apart else ""
    print(f"network: {network.name}, {network.summary}{way}; network=FILE takes another", flush=True)
    return replace(config, network=str(network.path), color="each" if apart else config.color)


def _target(path: Path, source: Path, output: str) -> Path:
    """Where the restored image goes; that of a single file without an output to where the user stands."""
    return Path(output) / f"{path.stem}.png" if output or path != source else Path(f"{path.stem}_restored.png")


def _given(key: str, value: str) -> str:
    if not value:
        raise WrongSetting(f"{key}: is missing; give it as {key}=PATH")
    return value


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
