"""Preparing: the stored pixels are the source's, whatever the form, and bad input is named, before work if possible."""

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from irnas_ray.datasets import builder, parquet
from irnas_ray.datasets.builder import prepare
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.datasets.reader import select, stream
from irnas_ray.datasets.splits import split_training
from irnas_ray.datasets.whole_images import load_images
from irnas_ray.images import files
from irnas_ray.images.photographs import HELD_OUT_PHOTOGRAPHS
from irnas_ray.settings.study import Data

SHARED = Path(__file__).parents[3] / "shared" / "data"


def _write(path: Path, height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    Image.fromarray(pixels.squeeze()).save(path)
    return pixels


def _folder(root: Path, count: int = 5, height: int = 20, width: int = 24) -> Data:
    for index in range(count):
        _write(root / f"{index}.png", height, width, seed=index)
    return Data(source=str(root), form="images", color="rgb", patch=8)


def _images(folder: Path) -> list[dict]:
    return pads.dataset(folder / "images").to_table().to_pylist()


@settings(max_examples=15, deadline=None)
@given(height=st.integers(5, 30), width=st.integers(5, 30), color=st.sampled_from(["gray", "rgb"]))
def test_the_pixels_of_files_are_stored(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, color: str
) -> None:
    root = tmp_path_factory.mktemp("stored")
    data = _folder(root / "in", 3, height, width)
    data.patch, data.color = 5, color
    manifest = Manifest.load(prepare(data, root / "out"))
    for record in load_images(root / "out", manifest.ids("train") + manifest.ids("test")):
        source = files.read_image(root / "in" / f"{record.image_id}.png", color).transpose(2, 0, 1)
        assert np.array_equal(record.clean, source) and record.degraded is None


def test_halves_and_pairs_store_the_same_two_images(tmp_path: Path) -> None:
    for index in range(3):
        clean = _write(tmp_path / "pairs" / "training" / "GT" / f"{index}.png", 9, 10, seed=index)
        degraded = _write(tmp_path / "pairs" / "training" / "noisy" / f"{index}.png", 9, 10, seed=index + 50)
        both = tmp_path / "halves" / "training" / f"{index}.png"
        both.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate([clean, degraded], axis=1)).save(both)
    stored = []
    for form in ("pairs", "halves"):
        data = Data(source=str(tmp_path / form), form=form, color="rgb", patch=4)
        folder = prepare(data, tmp_path / f"{form}-out")
        manifest = Manifest.load(folder)
        assert manifest.paired and manifest.channels == 3 and manifest.form == form
        records = load_images(folder, manifest.ids("train") + manifest.ids("test"))
        assert all(record.degraded is not None for record in records)
        stored.append([(record.image_id, record.clean.tobytes(), record.degraded.tobytes()) for record in records])
        assert {len(row["degraded"]) for row in _images(folder)} == {270}
    assert stored[0] == stored[1]


def test_split_folders_decide_and_keep_ids_apart(tmp_path: Path) -> None:
    for name in ("Train", "val", "test_syn", "groundTruth"):
        _write(tmp_path / "in" / name / "6.png", 8, 8)
    manifest = Manifest.load(prepare(Data(source=str(tmp_path / "in"), form="images", patch=8), tmp_path / "out"))
    assert set(manifest.ids("train")) == {"Train/6", "val/6"} and manifest.ids("test") == ("test_syn/6",)


def test_a_flat_folder_holds_out_a_seeded_share(tmp_path: Path) -> None:
    data = _folder(tmp_path / "in", 10)
    held_out = {}
    for seed in (0, 0, 1):
        data.split_seed = seed
        folder = prepare(data, tmp_path / f"out{seed}")
        ids = Manifest.load(folder).ids("test")
        assert len(ids) == 2 and held_out.setdefault(seed, ids) == ids
    assert held_out[0] != held_out[1]
    data.test_fraction = 0.0
    assert len(Manifest.load(prepare(data, tmp_path / "least")).ids("test")) == 1


def test_the_form_of_a_source_is_told_by_its_folders(tmp_path: Path) -> None:
    _folder(tmp_path / "plain")
    _write(tmp_path / "pairs" / "clean" / "1.png", 8, 8)
    _write(tmp_path / "pairs" / "degraded" / "1.png", 8, 8)
    _write(tmp_path / "pairs" / "clean" / "2.png", 8, 8)
    _write(tmp_path / "pairs" / "degraded" / "2.png", 8, 8)
    for name, form in {"plain": "images", "pairs": "pairs"}.items():
        folder = prepare(Data(source=str(tmp_path / name), patch=8), tmp_path / f"{name}-out")
        assert Manifest.load(folder).form == form


def test_photographs_need_no_source(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = prepare(Data(), tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    manifest = Manifest.load(folder)
    assert manifest.ids("test") == HELD_OUT_PHOTOGRAPHS and len(manifest.ids("train")) == 8
    assert seen == [(done, 11) for done in range(1, 12)]
    rgb = Manifest.load(prepare(Data(color="rgb"), tmp_path / "rgb"))
    assert len(rgb.ids("train")) == 3 and rgb.channels == 3


def test_a_large_data_set_is_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _folder(tmp_path / "in")
    whole = prepare(data, tmp_path / "whole")
    monkeypatch.setattr(parquet, "PART_BYTES", 2000)
    split = prepare(data, tmp_path / "split")
    assert len(list((whole / "images").iterdir())) == 1 and len(list((split / "images").iterdir())) > 3
    assert _images(whole) == _images(split)
    assert b"irnas_ray" in pads.dataset(split / "images").schema.metadata


def test_a_complete_data_set_is_reused_and_another_is_never_overwritten(tmp_path: Path) -> None:
    data = _folder(tmp_path / "in")
    folder = prepare(data, tmp_path / "out")
    before = (folder / "dataset.json").read_bytes()
    assert builder.is_prepared(folder) and not builder.is_prepared(tmp_path / "in")
    assert prepare(data, folder) == folder
    mark = builder.fingerprint(data)
    data.patch = 4
    with pytest.raises(ValueError, match="patch is 8, not 4"):
        prepare(data, folder)
    data.patch = 8
    assert builder.fingerprint(data) == mark
    _write(tmp_path / "in" / "0.png", 20, 25)
    assert builder.fingerprint(data) != mark
    with pytest.raises(ValueError, match="other images"):
        prepare(data, folder)
    assert (folder / "dataset.json").read_bytes() == before
    with pytest.raises(ValueError, match="prepared data set already"):
        prepare(Data(source=str(folder)), tmp_path / "again")


def test_an_interrupted_data_set_is_redone(tmp_path: Path) -> None:
    data = _folder(tmp_path / "in")
    whole = prepare(data, tmp_path / "whole")

    def die(done: int, total: int) -> None:
        if done == 3:
            os._exit(9)

    child = multiprocessing.get_context("fork").Process(target=prepare, args=(data, tmp_path / "out", die))
    child.start()
    child.join()
    assert child.exitcode == 9 and (tmp_path / "out").is_dir() and not builder.is_prepared(tmp_path / "out")
    assert _images(prepare(data, tmp_path / "out")) == _images(whole)


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    data = _folder(tmp_path / "in")
    content = (tmp_path / "in" / "3.png").read_bytes()
    (tmp_path / "in" / "3.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="3.png"):
        prepare(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _folder(tmp_path / "in")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet.Parts, "add", full)
    with pytest.raises(ValueError, match="out.*No space left"):
        prepare(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="0.png"):
        prepare(data, tmp_path / "in" / "0.png" / "out")


def test_foreign_folders_and_settings_are_refused(tmp_path: Path) -> None:
    data = _folder(tmp_path / "in")
    with pytest.raises(ValueError, match="in: is not empty"):
        prepare(data, tmp_path / "in")
    with pytest.raises(ValueError, match="data.output"):
        prepare(data)
    for name, value in {"patch": 0, "stride": 0, "form": "video", "color": "cmyk"}.items():
        with pytest.raises(ValueError, match=name):
            prepare(Data(**{"source": data.source, "form": "images", "patch": 8, name: value}), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == [f"{index}.png" for index in range(5)]


def test_bad_sources_are_named_before_work(tmp_path: Path) -> None:
    def refused(form: str, folder: str, expected: str, color: str = "gray") -> None:
        data = Data(source=str(tmp_path / folder), form=form, color=color, patch=8)
        with pytest.raises(ValueError, match=expected):
            prepare(data, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    (tmp_path / "empty").mkdir()
    refused("images", "empty", "empty: holds no image")
    refused("images", "absent", "absent: no such folder")
    for name in ("a.png", "b.png", "c.png"):
        _write(tmp_path / "small" / name, 5 if name == "b.png" else 7, 30)
    refused("images", "small", "b is 5x30, under data.patch=8; data.patch=5 would fit")
    _write(tmp_path / "odd" / "a.png", 9, 21)
    _write(tmp_path / "odd" / "b.png", 9, 20)
    refused("halves", "odd", "a.png: width 21 is odd")
    _write(tmp_path / "gray" / "a.png", 9, 9)
    _write(tmp_path / "gray" / "b.png", 9, 9, 1)
    refused("images", "gray", "b.png: file is gray.*color=gray", "rgb")
    _write(tmp_path / "twins" / "a.png", 9, 9)
    _write(tmp_path / "twins" / "a.jpg", 9, 9)
    refused("images", "twins", "a.jpg and a.png")
    _write(tmp_path / "test only" / "test" / "a.png", 9, 9)
    refused("images", "test only", "test images only")
    _write(tmp_path / "one" / "a.png", 9, 9)
    refused("images", "one", "one image")
    refused("pairs", "one", "one folder named clean")
    for side, name, width in (("clean", "1", 9), ("clean", "2", 9), ("degraded", "1", 10), ("degraded", "3", 9)):
        _write(tmp_path / "pairs" / side / f"{name}.png", 9, width)
    refused("pairs", "pairs", r"2 images have no partner: 2 \(not in degraded\), 3 \(not in clean\)")
    (tmp_path / "pairs" / "clean" / "2.png").rename(tmp_path / "pairs" / "clean" / "3.png")
    refused("pairs", "pairs", "1.png is 9x10, its clean image .* is 9x9")


IMAGE = {"image_id": "a", "split": "train", "height": 9, "width": 9, "sha256": ""}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": 99}, "'version' is 99"),
        ({"format": None}, "'format'"),
        ({"patch": "96"}, "'patch': .* integer, not '96'"),
        ({"patch": True}, "'patch': .* integer, not True"),
        ({"patch": 0}, "'patch': .* greater than 0, not 0"),
        ({"color": "cmyk"}, "'color': .*gray.*rgb.*, not 'cmyk'"),
        ({"images": [{}]}, "'images', entry 0, 'image_id': Field required"),
        ({"images": [IMAGE | {"split": "val"}]}, "'images', entry 0, 'split': .*train.*test.*, not 'val'"),
        ({"images": [IMAGE | {"height": 9.5}]}, "'images', entry 0, 'height': .* integer, not 9.5"),
        ({"images": [IMAGE, IMAGE | {"depth": 3}]}, "'images', entry 1, 'depth': "),
        ({"files": {"images/part-7.parquet": 3}}, "part-7.parquet: is missing"),
    ],
)
def test_a_wrong_manifest_is_refused_by_field(tmp_path: Path, change: dict, expected: str) -> None:
    folder = prepare(_folder(tmp_path / "in", 3), tmp_path / "out")
    path = folder / "dataset.json"
    content = json.loads(path.read_text())
    assert Manifest.load(folder).images[0].height == 20
    path.write_text(json.dumps(content | change))
    with pytest.raises(ValueError, match=expected):
        Manifest.load(folder)
    path.write_text(json.dumps(content)[:-20])
    with pytest.raises(ValueError, match="dataset.json: is not complete JSON"):
        Manifest.load(folder)
    with pytest.raises(ValueError, match="no such file"):
        Manifest.load(tmp_path / "in")


def test_images_load_in_the_order_asked_for(tmp_path: Path) -> None:
    folder = prepare(_folder(tmp_path / "in"), tmp_path / "out")
    assert [record.image_id for record in load_images(folder, ["4", "0", "2"])] == ["4", "0", "2"]
    with pytest.raises(ValueError, match="no image 9"):
        load_images(folder, ["0", "9"])


@given(count=st.integers(3, 200), fraction=st.floats(0, 0.99), seed=st.integers(0, 100))
def test_training_images_are_split_without_overlap(count: int, fraction: float, seed: int) -> None:
    ids = [f"image {index}" for index in range(count)]
    split = split_training(ids, fraction, seed)
    assert sorted(split.train_w + split.train_a + split.train_v) == sorted(ids)
    assert len(split.train_v) == min(max(1, round(fraction * count)), count - 2)
    assert 0 <= len(split.train_w) - len(split.train_a) <= 1 and split.train_a
    assert split_training(ids[::-1], fraction, seed) == split


def test_too_few_training_images_are_refused() -> None:
    with pytest.raises(ValueError, match="2 training images"):
        split_training(["a", "b"], 0.02, 0)
    with pytest.raises(ValueError, match="validation_fraction"):
        split_training(["a", "b", "c"], 1.0, 0)


@pytest.mark.skipif(not (SHARED / "rain800").is_dir(), reason="the shared images are not here")
def test_real_rain_images_keep_their_halves(tmp_path: Path) -> None:
    for folder, names in {"training": ("6", "460", "1"), "test_syn": ("6",)}.items():
        (tmp_path / "in" / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / "in" / folder / f"{name}.jpg").symlink_to(SHARED / "rain800" / folder / f"{name}.jpg")
    data = Data(source=str(tmp_path / "in"), form="halves", color="rgb", patch=64)
    manifest = Manifest.load(prepare(data, tmp_path / "out"))
    assert manifest.ids("test") == ("test_syn/6",) and len(manifest.ids("train")) == 3
    record = load_images(tmp_path / "out", ["test_syn/6"])[0]
    assert record.degraded is not None and record.clean.shape == record.degraded.shape
    # Rain brightens: the clean half must be the darker one.
    assert record.clean.mean() < record.degraded.mean()


@pytest.mark.parametrize("name", ["a%20b ü", "q?1#2;3&x=4", "[e]{f}*", "pwd=x:y@z"])
def test_a_data_set_lies_where_its_folder_says(tmp_path, name):
    """What a URL means by some characters, and Parquet's readers by others, changes nothing."""
    data = _folder(tmp_path / name / "images")
    folder = prepare(data, tmp_path / name / name)
    assert folder == tmp_path / name / name and sorted(path.name for path in tmp_path.iterdir()) == [name]
    manifest = Manifest.load(folder)
    (record, *_) = load_images(folder, manifest.ids("test"))
    assert record.clean.shape == (3, 20, 24)
    selection = select(folder, manifest, manifest.ids("train"))
    assert [image.image_id for image in selection.images] == sorted(manifest.ids("train"))
    assert next(stream(selection, 8, 0, 0)).num_columns == 1
