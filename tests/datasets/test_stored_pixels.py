"""Stored pixels that changed after they were prepared are refused by name, wherever they are read."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from irnas_ray.datasets import parquet, ray_data, reader
from irnas_ray.datasets.builder import prepare
from irnas_ray.datasets.check import known_images
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.datasets.ray_data import open_patches
from irnas_ray.datasets.whole_images import load_images
from irnas_ray.settings.study import Data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight pairs in several files."""
    monkeypatch.setattr(parquet, "PART_BYTES", 2500)
    for index in range(8):
        for side in ("clean", "degraded"):
            (tmp_path / "in" / side).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([index, side == "clean"]).integers(0, 256, (20, 24), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "in" / side / f"{index}.png")
    return prepare(Data(source=str(tmp_path / "in"), form="pairs", patch=16), tmp_path / "out")


def changed(folder: Path, image_id: str, column: str) -> Path:
    """The file in which one pixel of an image was changed by one; the manifest knows of the file's new size."""
    for path in sorted((folder / "images").iterdir()):
        rows = pq.read_table(path).to_pylist()
        for row in rows:
            if row["image_id"] == image_id:
                row[column] = bytes([row[column][0] ^ 1]) + row[column][1:]
                pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(path)), path)
                manifest = json.loads((folder / "dataset.json").read_text())
                manifest["files"][f"images/{path.name}"] = path.stat().st_size
                (folder / "dataset.json").write_text(json.dumps(manifest))
                return path
    raise AssertionError(image_id)


def first_crop(folder: Path) -> pa.Table:
    manifest = Manifest.load(folder)
    stream = reader.stream(reader.select(folder, manifest, manifest.ids("train")), 16, 0, 0)
    return [next(stream) for _ in range(20)][-1]


READERS: dict[str, Callable[[Path], object]] = {
    "whole images": lambda folder: load_images(folder, Manifest.load(folder).ids("train")),
    "a stream": first_crop,
    "another set": lambda folder: known_images(str(folder), "gray"),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_changed_pixel_is_refused_by_name(folder, read):
    read(folder)
    image_id = Manifest.load(folder).ids("train")[2]
    changed(folder, image_id, "clean")
    with pytest.raises(ValueError, match=f"{folder}.*: the clean pixels of image {image_id} have changed since they"):
        read(folder)


def test_a_changed_degraded_pixel_is_refused_too(folder):
    image_id = Manifest.load(folder).ids("test")[0]
    changed(folder, image_id, "degraded")
    with pytest.raises(ValueError, match=f"the degraded pixels of image {image_id} have changed"):
        load_images(folder, [image_id])


@pytest.mark.parametrize("block", [ray_data.BLOCK_BYTES, 1], ids=["here", "by readers"])
def test_a_study_s_pixels_are_checked_before_its_trials(folder, ray_local, monkeypatch, block):
    monkeypatch.setattr(ray_data, "BLOCK_BYTES", block)
    ids = Manifest.load(folder).ids("train")
    path = changed(folder, ids[1], "clean")
    with pytest.raises(ValueError, match="have changed") as caught:
        open_patches(folder, ids, 2**20)
    assert str(caught.value).startswith(f"{path}: the clean pixels of image {ids[1]}")
    assert "\n" not in str(caught.value)


def test_data_of_a_former_release_know_no_degraded_pixels(folder):
    manifest = json.loads((folder / "dataset.json").read_text())
    for image in manifest["images"]:
        del image["degraded_sha256"]
    (folder / "dataset.json").write_text(json.dumps(manifest | {"version": 1, "stride": 16, "patches": 9}))
    changed(folder, "3", "degraded")
    assert load_images(folder, ["3"])[0].degraded is not None
    changed(folder, "3", "clean")
    with pytest.raises(ValueError, match="the clean pixels of image 3"):
        load_images(folder, ["3"])


def test_a_damaged_file_is_named(folder):
    path = sorted((folder / "images").iterdir())[1]
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(len(content) - 8) + content[-4:])
    for read in READERS.values():
        with pytest.raises(ValueError, match=f"{path}: cannot be read .*; prepare the data set again"):
            read(folder)
