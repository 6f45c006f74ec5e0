"""Makes a source of images into a Parquet data set once, and reads its whole images back."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from irnas_ray.datasets import parquet
from irnas_ray.datasets.contact_sheet import CONTACT_SHEET, write_contact_sheet
from irnas_ray.datasets.manifest import ImageEntry, Manifest, is_prepared
from irnas_ray.datasets.parquet import Layout
from irnas_ray.datasets.writer import PartRecord, claim, in_order, write_parts
from irnas_ray.images import sources
from irnas_ray.images.depth import Depth
from irnas_ray.images.files import channels_of
from irnas_ray.images.findings import Examined, examine_headers
from irnas_ray.images.screening import Known, Screening, refuse, screen
from irnas_ray.images.sources import SourceImage
from irnas_ray.settings.degradations import Degradation
from irnas_ray.settings.study import Data
from irnas_ray.system.environment import versions
from irnas_ray.system.exit_status import WrongSetting, checking_settings
from irnas_ray.system.worker_pool import Progress

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


def prepare(
    data: Data,
    output: str | Path | None = None,
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

    >>> from skimage import data
    >>> import irnas_ray as ir
    >>> for index in range(4):
    ...     ir.images.write_image(f"photographs/{index}.png", data.camera()[64 * index :][:64, :64] / 255)
    >>> folder = ir.prepare(ir.Data(source="photographs", form="images", patch=32), "prepared")
    >>> folder.name, (folder / "dataset.json").is_file()
    ('prepared', True)
    """
    if output is None and not data.output:
        raise WrongSetting("data.output is not set; name the folder for the data set")
    folder = Path(output or data.output or "").absolute()
    with checking_settings():
        check_data_settings(data)
    found = sources.find_images(data)
    if frozen is not None:
        found = frozen.select(found, data.patch)
    mark = sources.digest(data, found) if frozen is None else frozen.digest(data, found)
    form = sources.form_of(data) if frozen is None else frozen.form
    if is_prepared(folder):
        held = _check_same(folder, data, mark, form)
        _say(Screening.load(folder), folder, held.depth)
        return folder
    _, sizes, depth, early = examine_headers(found, data.color, data.patch, workers, write_parts.__module__)
    refuse(early)
    layout = Layout(data.color, found[0].paired, parquet.PART_BYTES, depth)
    with claim(folder, json.dumps([mark, dataclasses.asdict(layout), versions(*_LIBRARIES)])):
        records = write_parts(folder, found, sizes, layout, progress, workers)
        refuse([finding for record in records for finding in record.unreadable])
        examined = in_order(records, found)
        screening = screen(examined, early, others, int(depth))
        screening.save(folder)
        (folder / CONTACT_SHEET).unlink(missing_ok=True)
        write_contact_sheet(folder / CONTACT_SHEET, found, data.color, data.patch, degradation, depth)
        _manifest(data, form, mark, layout, examined, records).save(folder)
    _say(screening, folder, depth)
    return folder


def fingerprint(data: Data) -> str:
    """Twelve hex digits that change with the settings that shape a data set and with the source's files."""
    check_data_settings(data)
    return sources.digest(data, sources.find_images(data))


def check_data_settings(data: Data) -> None:
    """ValueError naming the setting if images cannot be stored so, or are prepared already."""
    channels_of(data.color)
    for name, value in (("patch", data.patch), ("stride", data.stride)):
        if value is not None and value < 1:
            raise ValueError(f"data.{name} is {value}; it must be at least 1 pixel")
    if is_prepared(data.source):
        raise ValueError(f"{data.source}: is a prepared data set already; use it as it is")


def _check_same(folder: Path, data: Data, mark: str, form: str) -> Manifest:
    held = Manifest.load(folder)
    if held.fingerprint == _deep_mark(mark, held.depth):
        return held
    asked = {"form": form, "color": data.color, "patch": data.patch}
    changed = [
        f"{name} is {getattr(held, name)}, not {value}" for name, value in asked.items() if getattr(held, name) != value
    ]
    reason = ", ".join(changed) or f"other images (made from {held.source or 'the embedded photographs'}) or splits"
    raise ValueError(f"{folder}: holds another data set: {reason}; choose another data.output or remove the folder")


def _deep_mark(mark: str, depth: Depth) -> str:
    # Former releases stored files of 16 bits in 8 under the mark itself, which still stands for those pixels.
    return mark if depth is Depth.EIGHT else f"{mark}-{depth}"


def _say(screening: Screening | None, folder: Path, depth: Depth) -> None:
    if screening is None:
        return
    for line in screening.lines(_BRIEF):
        logger.warning("%s", line)
    if depth is Depth.EIGHT and any("rounded to 8" in line for line in screening.of_kind("converted")):
        logger.warning("%s: a former release rounded its files to 8 bits; without it they are stored anew", folder)


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
        color=data.color,
        patch=data.patch,
        paired=layout.paired,
        fingerprint=_deep_mark(mark, layout.depth),
        files={name: size for record in records for name, size in sorted(record.files.items())},
        versions=versions(*_LIBRARIES),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        images=tuple(ImageEntry(x.image_id, x.split, x.height, x.width, x.sha256, x.degraded_sha256) for x in examined),
        bits=16 if layout.depth is Depth.SIXTEEN else 8,
    )
