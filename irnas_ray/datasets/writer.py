"""Writes a data set's parts by any number of processes, all with the same bytes, and goes on after a kill."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irnas_ray.datasets.contact_sheet import CONTACT_SHEET
from irnas_ray.datasets.parquet import Layout, Parts, add_image, image_schema
from irnas_ray.images.findings import Examined, Finding, examine
from irnas_ray.images.screening import SCREENING
from irnas_ray.images.sources import SourceImage
from irnas_ray.system.files import locked, write_json
from irnas_ray.system.worker_pool import Progress, Tick, WorkerKilled, choose_workers, run_tasks

#: In the folder while a data set is written there: what is being done.
MARKER = ".preparing"
#: Folder of the records of finished parts, while others are still being made.
RECORDS = ".parts"
#: Bytes of a data set up to which it is written by one process, because starting others would take longer.
SERIAL_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Part:
    """One piece of the work: images that go into files of their own."""

    folder: Path
    number: int
    images: tuple[SourceImage, ...]
    layout: Layout

    @property
    def record(self) -> Path:
        """The file that says that the part is finished, and what it holds."""
        return self.folder / RECORDS / f"{self.number:05d}.json"


@dataclass(frozen=True)
class PartRecord:
    """What a finished part holds: its files' sizes in bytes, and what its images are recognised by."""

    files: dict[str, int]
    images: tuple[Examined, ...]
    unreadable: tuple[Finding, ...] = ()


def write_parts(
    folder: Path,
    found: Sequence[SourceImage],
    sizes: Sequence[tuple[int, int]],
    layout: Layout,
    progress: Progress | None = None,
    workers: int | None = None,
) -> list[PartRecord]:
    """Write `images/`; what each part holds.

    The files are the same for any number of workers. Parts that an earlier call finished are not written again.
    `sizes` are the images' heights and widths.
    """
    parts = plan_parts(folder, found, sizes, layout)
    records = {part.number: _finished(part) for part in parts}
    missing = [part for part in parts if records[part.number] is None]
    done = len(found) - sum(len(part.images) for part in missing)
    total_bytes = sum(layout.image_bytes(*size) for size in sizes)
    if workers is None and total_bytes <= SERIAL_BYTES:
        workers = 1
    workers = choose_workers(workers, max(layout.image_bytes(*size) for size in sizes))
    new = run_tasks(write_part, missing, workers, progress, done, len(found))
    records |= {part.number: record for part, record in zip(missing, new, strict=True)}
    return [record for record in records.values() if record is not None]


def in_order(records: Sequence[PartRecord], found: Sequence[SourceImage]) -> list[Examined]:
    """What all parts' images are recognised by, in the order of `found`."""
    by_id = {image.image_id: image for record in records for image in record.images}
    return [by_id[image.image_id] for image in found]


def plan_parts(
    folder: Path, found: Sequence[SourceImage], sizes: Sequence[tuple[int, int]], layout: Layout
) -> list[Part]:
    """Divide the images among parts, in a random order that is always the same, and by their bytes alone."""
    groups: list[list[SourceImage]] = [[]]
    held = 0
    # Neighbours in a folder are often alike; stored in a random order, each part is a fair sample for streaming.
    for index in np.random.default_rng(0).permutation(len(found)):
        stored = layout.image_bytes(*sizes[index])
        if groups[-1] and held + stored > layout.part_bytes:
            groups.append([])
            held = 0
        groups[-1].append(found[index])
        held += stored
    return [Part(folder, number, tuple(group), layout) for number, group in enumerate(groups)]


def write_part(part: Part, tick: Tick) -> PartRecord:
    """Write the files of one part and, last, its record; none of them if an image cannot be read."""
    layout, examined, unreadable = part.layout, [], []
    prefix = f"part-{part.number:05d}"
    with Parts(part.folder / "images", image_schema(layout), prefix, layout.part_bytes) as images:
        for image in part.images:
            try:
                clean, degraded = image.planes(layout.color, layout.depth)
            except ValueError as error:
                # Read on: all of them are named at once.
                unreadable.append(Finding("unreadable", str(error)))
            if not unreadable:
                examined.append(examine(image, clean, degraded))
                sides = dict(zip(layout.columns, [clean] if degraded is None else [clean, degraded], strict=True))
                add_image(image, sides, images)
            tick()
    if unreadable:
        for path in images.paths:
            path.unlink()
        return PartRecord({}, (), tuple(unreadable))
    files = {str(path.relative_to(part.folder)): path.stat().st_size for path in images.paths}
    record = PartRecord(files, tuple(examined))
    write_json(part.record, {"files": files, "images": [image.to_json() for image in examined]})
    return record


def remove_parts(folder: Path) -> None:
    """Remove everything that `write_parts` writes, and the patches of former releases."""
    for name in ("patches", "images", RECORDS):
        shutil.rmtree(folder / name, ignore_errors=True)


def remove_records(folder: Path) -> None:
    """Remove what only an interrupted data set needs."""
    shutil.rmtree(folder / RECORDS, ignore_errors=True)


def _finished(part: Part) -> PartRecord | None:
    """The record of a part that an earlier call finished; None, and none of its files, if there is no whole one."""
    try:
        values = json.loads(part.record.read_text(encoding="utf-8"))
        images = tuple(Examined.from_json(image) for image in values["images"])
        files = {str(name): int(size) for name, size in values["files"].items()}
        whole = all((part.folder / name).stat().st_size == size for name, size in files.items())
        if whole and [image.image_id for image in images] == [image.image_id for image in part.images]:
            return PartRecord(files, images)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    for path in part.folder.glob(f"images/part-{part.number:05d}-*.parquet"):
        with contextlib.suppress(OSError):
            path.unlink()
    return None


@contextlib.contextmanager
def claim(folder: Path, work: str) -> Iterator[None]:
    """Make `folder` ours while a data set is written.

    `work` tells one data set from another: what an earlier claim for the same work finished is still there, anything
    else of ours is removed. After a kill, an interrupt or the loss of a process the finished parts stay; after any
    other failure nothing of ours does. ValueError if the folder holds something else, if another process has claimed
    it, or if it cannot be written.
    """
    marker = folder / MARKER
    created = not folder.exists()
    try:
        if folder.exists() and not marker.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder}: is not empty and holds no data set; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        with locked(marker) as lock:
            lock.seek(0)
            if lock.read() != work:
                _clear(folder)
                lock.truncate(0)
                lock.write(work)
                lock.flush()
            try:
                yield
            except (KeyboardInterrupt, WorkerKilled):
                raise
            except BaseException:
                _clear(folder)
                marker.unlink(missing_ok=True)
                if created:
                    with contextlib.suppress(OSError):
                        folder.rmdir()
                raise
            remove_records(folder)
            marker.unlink()
    except BlockingIOError as error:
        raise ValueError(f"{folder}: another process is writing a data set here; wait for it") from error
    except OSError as error:
        raise ValueError(f"{folder}: the data set cannot be written ({error}); nothing was kept") from error


def _clear(folder: Path) -> None:
    remove_parts(folder)
    for name in (CONTACT_SHEET, SCREENING):
        (folder / name).unlink(missing_ok=True)
