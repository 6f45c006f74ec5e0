"""Checks a source of images without preparing it, and compares it with another set: the work of `irnas-ray prepare`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irnas_ray.datasets.builder import check_data_settings
from irnas_ray.datasets.contact_sheet import CONTACT_SHEET, unused, write_contact_sheet
from irnas_ray.datasets.manifest import MANIFEST, Manifest
from irnas_ray.datasets.reader import check_pixels, read_rows
from irnas_ray.images import sources
from irnas_ray.images.depth import Depth
from irnas_ray.images.files import channels_of, read_header, read_image
from irnas_ray.images.findings import Examined, Finding, examine, examine_headers
from irnas_ray.images.screening import Known, Screening, known_image, screen
from irnas_ray.images.sources import SourceImage
from irnas_ray.settings.commands import PrepareConfig
from irnas_ray.settings.study import Data
from irnas_ray.system.progress_bar import progress_bar
from irnas_ray.system.worker_pool import Progress, Tick, choose_workers, run_tasks

#: Images in one piece of the work, and how many are examined by one process alone.
_PIECE, _FEW = 16, 64


#: Exit status of a check that found something that would invalidate results; the others are in ``outcomes``.
FALSIFIED = 3


@dataclass(frozen=True)
class Piece:
    """Images that one process examines, read as gray or rgb and at one depth, or each file at its own (None)."""

    images: tuple[SourceImage, ...]
    color: str
    depth: Depth | None


def run_check(config: PrepareConfig) -> int:
    """Check a source, print everything that is found, and draw the contact sheet; the exit status.

    Writes nothing else. ValueError if the source or the other set cannot be found or read.
    """
    data = config.data
    sheet = Path(config.contact_sheet) if config.contact_sheet else unused(Path(CONTACT_SHEET))
    if sheet.exists():
        raise ValueError(f"contact_sheet: {sheet} exists; choose another file or remove it")
    check_data_settings(data)
    others = other_images(config)
    with progress_bar("check") as progress:
        screening, good = check_source(data, others, progress, config.workers)
    form = sources.form_of(data)
    print(f"{data.source or 'embedded photographs'}: {form}, {data.color}; {screening.summary()}")
    for line in screening.lines():
        print(line)
    if any(image.split == "train" for image in good):
        write_contact_sheet(sheet, good, data.color, data.patch, config.degradation, Depth(screening.bits))
        print(f"contact sheet: {sheet.absolute()}")
    print(f"found {'problems' if screening.falsified else 'nothing'} that would invalidate results")
    return FALSIFIED if screening.falsified else 0


def other_images(config: PrepareConfig) -> list[Known]:
    """What the images of the set that `check_against` names are recognised by; ValueError as ``known_images``."""
    if config.check_against is None:
        return []
    with progress_bar("read the other set") as progress:
        return known_images(config.check_against, config.data.color, progress, config.workers)


def check_source(
    data: Data,
    others: Sequence[Known] = (),
    progress: Progress | None = None,
    workers: int | None = None,
) -> tuple[Screening, list[SourceImage]]:
    """Examine every image of a source, and compare them with `others`; also, the images without faults.

    Writes nothing. ValueError if the source cannot be found.
    """
    alone: list[str] = []
    found = sources.find_images(data, alone)
    good, sizes, depth, early = examine_headers(found, data.color, data.patch, workers, __name__)
    early = [Finding("mis-paired", f"{name}: has no partner") for name in alone] + early
    pair_bytes = 2 * channels_of(data.color) * depth.dtype.itemsize
    largest = max((pair_bytes * height * width for height, width in sizes), default=0)
    results = _in_pieces(_examine, good, data.color, depth, largest, progress, workers)
    examined = [result for result in results if isinstance(result, Examined)]
    early += [result for result in results if isinstance(result, Finding)]
    readable = {image.image_id for image in examined}
    return screen(examined, early, others, int(depth)), [image for image in good if image.image_id in readable]


def known_images(source: str, color: str, progress: Progress | None = None, workers: int | None = None) -> list[Known]:
    """What the images of another set are recognised by: a folder of any form, a CSV of pairs, or a prepared folder.

    Where a file may be a pair side by side, either half counts too. ValueError if the set cannot be found or read.
    """
    if (Path(source) / MANIFEST).is_file():
        return _prepared(Path(source))
    found = sources.find_all(Data(source=source, form="photographs"))
    results = _in_pieces(_recognise, found, color, None, 0, progress, workers)
    return [result for result in results if isinstance(result, Known)]


def _in_pieces(
    work: Callable[[Piece, Tick], list],
    found: Sequence[SourceImage],
    color: str,
    depth: Depth | None,
    largest: int,
    progress: Progress | None,
    workers: int | None,
) -> list:
    starts = range(0, len(found), _PIECE)
    pieces = [Piece(tuple(found[start : start + _PIECE]), color, depth) for start in starts]
    if workers is None and len(found) <= _FEW:
        workers = 1
    results = run_tasks(work, pieces, choose_workers(workers, largest), progress, 0, len(found))
    return [result for piece in results for result in piece]


def _examine(piece: Piece, tick: Tick) -> list[Examined | Finding]:
    results: list[Examined | Finding] = []
    for image in piece.images:
        try:
            results.append(examine(image, *image.planes(piece.color, piece.depth)))
        except ValueError as error:
            results.append(Finding("unreadable", str(error)))
        tick()
    return results


def _recognise(piece: Piece, tick: Tick) -> list[Known]:
    results = []
    for image in piece.images:
        gray = read_header(image.clean).gray
        pixels = read_image(image.clean, "gray" if gray else piece.color, piece.depth).transpose(2, 0, 1)
        sides = [pixels]
        if image.degraded is None and pixels.shape[2] % 2 == 0:
            sides += np.split(pixels, 2, axis=2)
        results.append(known_image(image.image_id, sides))
        tick()
    return results


def _prepared(folder: Path) -> list[Known]:
    manifest = Manifest.load(folder)
    entries = {image.image_id: image for image in manifest.images}
    known = []
    for path in sorted((folder / "images").glob("*.parquet")):
        table = read_rows([path], ["image_id", "clean"])
        check_pixels(table, entries, path)
        for image_id, clean in zip(table["image_id"].to_pylist(), table["clean"], strict=True):
            shape = manifest.channels, entries[image_id].height, entries[image_id].width
            pixels = np.frombuffer(clean.as_buffer(), manifest.depth.dtype).reshape(shape)
            known.append(known_image(image_id, [pixels]))
    return known
