"""Makes a source of images into a Parquet data set once, and reads its whole images back."""

import contextlib
import fcntl
import importlib.metadata
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow.dataset as pads
from jaxtyping import UInt8

from irnas_ray import __version__, sources
from irnas_ray.images import channels_of
from irnas_ray.manifest import MANIFEST, ImageEntry, Manifest
from irnas_ray.parts import write_parts
from irnas_ray.settings import Data
from irnas_ray.sources import SourceImage

__all__ = ["ImageRecord", "Manifest", "Split", "fingerprint", "is_prepared", "load_images", "prepare", "split_training"]

_MARKER = ".preparing"
_LIBRARIES = ("numpy", "pillow", "pyarrow", "scikit-image")

Progress = Callable[[int, int], None]


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
    data: Data, output: Path | None = None, progress: Progress | None = None, frozen: Frozen | None = None
) -> Path:
    """Write the source of `data` as a Parquet data set into `output` (else `data.output`) and return that folder.

    A complete data set of the same settings and unchanged source is used as it is; an interrupted one is redone.
    `progress(done, total)` is called after each image. `frozen` degrades clean images, which are stored as pairs.
    ValueError, and no data set, if the source does not fit the settings, if `output` holds anything else, or if it
    cannot be written.
    """
    folder = output or (Path(data.output) if data.output else None)
    if folder is None:
        raise ValueError("data.output is not set; name the folder for the data set")
    folder = Path(folder).absolute()
    _check_settings(data)
    found = sources.find_images(data)
    if frozen is not None:
        found = frozen.select(found, data.patch)
    mark = sources.digest(data, found) if frozen is None else frozen.digest(data, found)
    form = sources.form_of(data) if frozen is None else frozen.form
    if is_prepared(folder):
        _check_same(folder, data, mark, form)
        return folder
    sources.check_sizes(found, data.color, data.patch)
    with _claim(folder):
        entries, patches = write_parts(folder, found, data.color, data.patch, _stride(data), progress)
        _manifest(folder, data, form, found, mark, entries, patches).save(folder)
    return folder


def fingerprint(data: Data) -> str:
    """Twelve hex digits that change with the settings that shape a data set and with the source's files."""
    _check_settings(data)
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
    for image in sources.find_test_images(data)[:most]:
        clean, degraded = image.read(data.color)
        planes = [None if side is None else np.ascontiguousarray(side.transpose(2, 0, 1)) for side in (clean, degraded)]
        assert planes[0] is not None
        yield ImageRecord(image.image_id, planes[0], planes[1])


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


def _check_settings(data: Data) -> None:
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


@contextlib.contextmanager
def _claim(folder: Path) -> Iterator[None]:
    """Make `folder` ours while a data set is written; leave nothing of ours behind if that fails."""
    marker = folder / _MARKER
    created = not folder.exists()
    try:
        if folder.exists() and not marker.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder}: is not empty and holds no data set; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        with open(marker, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(f"{folder}: another process is writing a data set here; wait for it") from error
            _remove_parts(folder)
            try:
                yield
            except BaseException:
                _remove_parts(folder)
                marker.unlink(missing_ok=True)
                if created:
                    with contextlib.suppress(OSError):
                        folder.rmdir()
                raise
            marker.unlink()
    except OSError as error:
        raise ValueError(f"{folder}: the data set cannot be written ({error}); nothing was kept") from error


def _remove_parts(folder: Path) -> None:
    for name in ("patches", "images"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _manifest(
    folder: Path, data: Data, form: str, found: list[SourceImage], mark: str, entries: list[ImageEntry], patches: int
) -> Manifest:
    parts = sorted([*folder.glob("patches/*.parquet"), *folder.glob("images/*.parquet")])
    return Manifest(
        form=form,
        source=None if data.source is None else str(Path(data.source).absolute()),
        color=data.color,
        patch=data.patch,
        stride=_stride(data),
        paired=found[0].paired,
        fingerprint=mark,
        patches=patches,
        files={str(part.relative_to(folder)): part.stat().st_size for part in parts},
        versions={"irnas_ray": __version__} | {name: importlib.metadata.version(name) for name in _LIBRARIES},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        images=tuple(entries),
    )
