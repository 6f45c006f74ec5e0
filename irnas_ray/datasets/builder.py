"""Makes a source of images into a Parquet data set once, and reads its whole images back."""

import dataclasses
import importlib.metadata
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow.dataset as pads
from jaxtyping import UInt8

from irnas_ray import __version__
from irnas_ray.datasets import parquet
from irnas_ray.datasets.contact_sheet import CONTACT_SHEET, write_contact_sheet
from irnas_ray.datasets.manifest import MANIFEST, ImageEntry, Manifest
from irnas_ray.datasets.parquet import Layout
from irnas_ray.datasets.writer import PartRecord, claim, in_order, write_parts
from irnas_ray.images import sources
from irnas_ray.images.files import channels_of
from irnas_ray.images.findings import Examined, conversions, examine_headers
from irnas_ray.images.screening import Known, Screening, refuse, screen
from irnas_ray.images.sources import SourceImage
from irnas_ray.settings.study import Data, Degradation
from irnas_ray.system.worker_pool import Progress

__all__ = ["ImageRecord", "Manifest", "Split", "fingerprint", "is_prepared", "load_images", "prepare", "split_training"]

logger = logging.getLogger(__name__)

_LIBRARIES = ("numpy", "pillow", "pyarrow", "scikit-image")
#: Lines of each kind of finding that are said when a data set is prepared.
_BRIEF = 5


@runtime_checkable
class Frozen(Protocol):
    """Clean images degraded once and for good (see ``freezing``)."""

    @property
    def form(self) -> str: ...
    def select(self, found: list[SourceImage], patch: int) -> list[SourceImage]: ...
    def digest(self, data: Data, frozen: list[SourceImage]) -> str: ...


@dataclass(frozen=True)
class ImageRecord:
    """A whole image of a data set: pixels (c, h, w), 0-255; `degraded` is None where the data are clean images."""

    image_id: str
    clean: UInt8[np.ndarray, "c h w"]
    degraded: UInt8[np.ndarray, "c h w"] | None


@dataclass(frozen=True)
class Split:
    """Ids of the training images that train weights (W), train the architecture (A), and validate (V)."""

    train_w: tuple[str, ...]
    train_a: tuple[str, ...]
    train_v: tuple[str, ...]


def prepare(
    data: Data,
    output: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    degradation: Degradation | None = None,
    others: Sequence[Known] = (),
    frozen: Frozen | None = None,
) -> Path:
    """Write the source of `data` as a Parquet data set into `output` (else `data.output`) and return that folder.

    A complete data set of the same settings and unchanged source is used as it is; an interrupted one is continued.
    `workers` processes do it (None: one a core); the files do not depend on it. What is found in the images, alone and
    against `others` (see docs/data.md), is logged and kept, with a contact sheet that degrades clean images by
    `degradation`; `frozen` degrades them now, and pairs are stored. ValueError, and no data set, if the source does
    not fit the settings, an image cannot be read, `output` holds anything else, or it cannot be written.
    """
    if output is None and not data.output:
        raise ValueError("data.output is not set; name the folder for the data set")
    folder = Path(output or data.output or "").absolute()
    check_data_settings(data)
    found = sources.find_images(data)
    if frozen is not None:
        found = frozen.select(found, data.patch)
    mark = sources.digest(data, found) if frozen is None else frozen.digest(data, found)
    form = sources.form_of(data) if frozen is None else frozen.form
    if is_prepared(folder):
        _check_same(folder, data, mark, form)
        _say(Screening.load(folder))
        return folder
    _, sizes, early = examine_headers(found, data.color, data.patch)
    refuse(early)
    layout = Layout(data.color, data.patch, _stride(data), found[0].paired, parquet.PART_BYTES)
    with claim(folder, json.dumps([mark, dataclasses.asdict(layout), _versions()])):
        records = write_parts(folder, found, sizes, layout, progress, workers)
        refuse([finding for record in records for finding in record.unreadable])
        examined = in_order(records, found)
        screening = screen(examined, early, others)
        screening.save(folder)
        (folder / CONTACT_SHEET).unlink(missing_ok=True)
        write_contact_sheet(folder / CONTACT_SHEET, found, data.color, data.patch, degradation)
        _manifest(data, form, mark, layout, examined, records).save(folder)
    _say(screening)
    return folder


def fingerprint(data: Data) -> str:
    """Twelve hex digits that change with the settings that shape a data set and with the source's files."""
    check_data_settings(data)
    return sources.digest(data, sources.find_images(data))


def is_prepared(folder: Path | str | None) -> bool:
    """Whether `prepare` finished a data set in `folder`."""
    return folder is not None and (Path(folder) / MANIFEST).is_file()


def load_images(folder: Path | str, ids: tuple[str, ...] | list[str]) -> list[ImageRecord]:
    """The whole images of a prepared folder with the given ids, in that order; ValueError for an unknown id."""
    channels = Manifest.load(folder).channels
    table = pads.dataset(Path(folder) / "images").to_table(filter=pads.field("image_id").isin(list(ids)))
    rows = {row["image_id"]: row for row in table.to_pylist()}
    missing = [image_id for image_id in ids if image_id not in rows]
    if missing:
        raise ValueError(f"{folder}: holds no image {', '.join(missing[:5])}")

    def pixels(row: dict, column: str) -> UInt8[np.ndarray, "c h w"] | None:
        if row.get(column) is None:
            return None
        # A copy, because torch warns of arrays that it may not write to.
        return np.frombuffer(row[column], np.uint8).reshape(channels, row["height"], row["width"]).copy()

    records = []
    for image_id in ids:
        clean = pixels(rows[image_id], "clean")
        assert clean is not None, f"{folder}: image {image_id} has no clean pixels"
        records.append(ImageRecord(image_id, clean, pixels(rows[image_id], "degraded")))
    return records


def read_test_images(data: Data, most: int | None = None) -> Iterator[ImageRecord]:
    """The first ``most`` test images of a prepared folder, an image folder, pairs, or the photographs, one at a time.

    ValueError, before the first image, if there is none or the source cannot be read.
    """
    if data.source is not None and is_prepared(data.source):
        yield from load_images(data.source, Manifest.load(data.source).ids("test")[:most])
        return
    found = sources.find_test_images(data)[:most]
    for line in conversions(
        {x.image_id: [notice for header in x.headers() for notice in header.notices] for x in found}
    ):
        logger.warning("%s", line)
    for image in found:
        yield ImageRecord(image.image_id, *image.planes(data.color))


def split_training(ids: tuple[str, ...] | list[str], validation_fraction: float, seed: int) -> Split:
    """Split training images by a seed: max(1, round(fraction n)) validate, the rest is halved into W and A.

    The same ids in another order give the same split. ValueError for fewer than three images, or a fraction that is
    not in [0, 1); each part holds at least one image.
    """
    ids = sorted(set(ids))
    if len(ids) < 3:
        raise ValueError(f"{len(ids)} training images; the search needs at least 3 (weights, architecture, validation)")
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"data.validation_fraction is {validation_fraction}; it must be at least 0 and below 1")
    shuffled = [ids[index] for index in np.random.default_rng(seed).permutation(len(ids))]
    validating = min(max(1, round(validation_fraction * len(ids))), len(ids) - 2)
    half = validating + (len(ids) - validating + 1) // 2
    train_v, train_w, train_a = shuffled[:validating], shuffled[validating:half], shuffled[half:]
    return Split(tuple(sorted(train_w)), tuple(sorted(train_a)), tuple(sorted(train_v)))


def check_data_settings(data: Data) -> None:
    """ValueError naming the setting if images cannot be stored so, or are prepared already."""
    channels_of(data.color)
    for name, value in (("patch", data.patch), ("stride", _stride(data))):
        if value < 1:
            raise ValueError(f"data.{name} is {value}; it must be at least 1 pixel")
    if is_prepared(data.source):
        raise ValueError(f"{data.source}: is a prepared data set already; use it as it is")


def _check_same(folder: Path, data: Data, mark: str, form: str) -> None:
    held = Manifest.load(folder)
    if held.fingerprint == mark:
        return
    asked = {"form": form, "color": data.color, "patch": data.patch, "stride": _stride(data)}
    changed = [
        f"{name} is {getattr(held, name)}, not {value}" for name, value in asked.items() if getattr(held, name) != value
    ]
    reason = ", ".join(changed) or f"other images (made from {held.source or 'the embedded photographs'}) or splits"
    raise ValueError(f"{folder}: holds another data set: {reason}; choose another data.output or remove the folder")


def _stride(data: Data) -> int:
    return data.patch if data.stride is None else data.stride


def _say(screening: Screening | None) -> None:
    for line in screening.lines(_BRIEF) if screening else ():
        logger.warning("%s", line)


def _manifest(
    data: Data,
    form: str,
    mark: str,
    layout: Layout,
    examined: Sequence[Examined],
    records: Sequence[PartRecord],
) -> Manifest:
    return Manifest(
        form=form,
        source=None if data.source is None else str(Path(data.source).absolute()),
        color=layout.color,
        patch=layout.patch,
        stride=layout.stride,
        paired=layout.paired,
        fingerprint=mark,
        patches=sum(record.patches for record in records),
        files={name: size for record in records for name, size in sorted(record.files.items())},
        versions=_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        images=tuple(ImageEntry(x.image_id, x.split, x.height, x.width, x.sha256) for x in examined),
    )


def _versions() -> dict[str, str]:
    return {"irnas_ray": __version__} | {name: importlib.metadata.version(name) for name in _LIBRARIES}
