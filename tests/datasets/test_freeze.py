"""Frozen data sets: pairs of clean pixels and what the settings make of them, always the same, split by image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from irnas_ray.datasets import builder
from irnas_ray.datasets.freeze import RECORD, prepare_frozen
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.datasets.whole_images import load_images
from irnas_ray.images.files import read_image
from irnas_ray.settings.commands import Frozen, PrepareConfig
from irnas_ray.settings.degradations import Degradation, Rain
from irnas_ray.settings.study import Data


def folder_of(root: Path, channels: int = 3) -> Path:
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        (root / split).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(60, 180, (33, 50, channels), dtype=np.uint8)
            Image.fromarray(pixels.squeeze()).save(root / split / f"{index}.png")
    return root


def config_of(root: Path, output: str = "out", **values: Any) -> PrepareConfig:
    data = Data(source=str(root / "in"), form="images", color="rgb", patch=16, output=str(root / output))
    frozen = Frozen(**{"train": 10, "test": 5} | values.pop("frozen", {}))
    degradation = values.pop("degradation", Degradation(kind="unprocessing"))
    return PrepareConfig(data=data, freeze=values.pop("freeze", "patches"), frozen=frozen, degradation=degradation)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder_of(tmp_path / "in")
    return tmp_path


def test_patches_are_windows_of_the_images_and_do_not_overlap(source: Path) -> None:
    manifest = Manifest.load(prepare_frozen(config_of(source)))
    assert manifest.paired and manifest.form == "frozen-unprocessing" and len(manifest.ids("train")) == 10
    assert (len(manifest.ids("train")), len(manifest.ids("test"))) == (10, 5)
    taken: dict[str, np.ndarray] = {}
    records = load_images(source / "out", manifest.ids("train") + manifest.ids("test"))
    for record in records:
        name, top, left = record.image_id.rsplit("-", 2)
        window = np.s_[int(top) : int(top) + 16, int(left) : int(left) + 16]
        whole = read_image(source / "in" / f"{name}.png", "rgb")
        np.testing.assert_array_equal(record.clean, whole[window].transpose(2, 0, 1))
        assert record.degraded is not None and record.degraded.shape == record.clean.shape
        covered = taken.setdefault(name, np.zeros((33, 50), int))
        covered[window] += 1
    assert all(covered.max() == 1 for covered in taken.values()) and len(taken) == 6
    assert {name.partition("/")[0] for name in taken} == {"train", "test"}
    made = json.loads((source / "out" / RECORD).read_text())
    assert made["kind"] == "unprocessing" and made["settings"]["gamma"] == 2.2 and made["train"] == 10


def test_the_same_command_gives_the_same_pixels_and_another_seed_others(source: Path) -> None:
    def pixels(output: str, seed: int) -> list[tuple[str, bytes]]:
        torch.manual_seed(len(output))
        folder = prepare_frozen(config_of(source, output, frozen={"seed": seed}))
        found = load_images(folder, Manifest.load(folder).ids("test"))
        assert all(record.degraded is not None for record in found)
        return [(record.image_id, record.degraded.tobytes()) for record in found]  # type: ignore[union-attr]

    assert pixels("first", 0) == pixels("second", 0) != pixels("third", 1)
    # a complete data set is used as it is; one of other settings is refused
    before = (source / "first" / "dataset.json").stat().st_mtime_ns
    assert prepare_frozen(config_of(source, "first")) == source / "first"
    assert (source / "first" / "dataset.json").stat().st_mtime_ns == before
    for other in (
        {"frozen": {"seed": 1}},
        {"frozen": {"train": 9}},
        {"degradation": Degradation(kind="rain")},
        {"freeze": "images"},
    ):
        with pytest.raises(ValueError, match="holds another data set"):
            prepare_frozen(config_of(source, "first", **other))
    record = json.loads((source / "first" / RECORD).read_text())
    assert (record["kind"], record["seed"], record["train"]) == ("unprocessing", 0, 10)


def test_whole_images_are_frozen_with_the_settings_in_the_form(source: Path) -> None:
    still = Rain(opacity=[0, 0])
    folder = prepare_frozen(config_of(source, freeze="images", degradation=Degradation(kind="rain", rain=still)))
    manifest = Manifest.load(folder)
    assert manifest.form.startswith("frozen-rain-") and len(manifest.form) == len("frozen-rain-") + 8
    assert manifest.ids("train") == tuple(f"train/{index}" for index in range(4))
    for record in load_images(folder, manifest.ids("train")):
        np.testing.assert_array_equal(record.clean, record.degraded)  # rain without opacity


def test_white_noise_is_frozen_clipped_to_8_bit(source: Path) -> None:
    noise = Degradation(sigmas=[20])
    folder = prepare_frozen(config_of(source, freeze="images", degradation=noise))
    differences = [
        record.degraded.astype(float) - record.clean  # type: ignore[union-attr]
        for record in load_images(folder, Manifest.load(folder).ids("test"))
    ]
    # images between 60 and 180 keep three sigma on both sides
    assert np.std(differences) == pytest.approx(20, rel=0.03)
    assert not np.array_equal(*differences)


def test_without_freeze_images_are_prepared_as_they_are(source: Path) -> None:
    config = config_of(source)
    config.freeze = None
    with pytest.raises(ValueError, match="degradation.kind=unprocessing changes nothing without freeze=patches"):
        prepare_frozen(config)
    config.degradation = Degradation()
    manifest = Manifest.load(prepare_frozen(config))
    assert not manifest.paired and not (source / "out" / RECORD).exists()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"freeze": "all"}, "freeze: unknown 'all'; possible: null, patches, images"),
    ({"frozen": {"train": 0}}, "frozen.train: 0"),
    ({"frozen": {"seed": -1}}, "frozen.seed: -1"),
    ({"frozen": {"train": 25}}, "frozen.train: 25 patches are asked for, the train images hold 24 of 16x16"),
    ({"frozen": {"test": 13}}, "frozen.test: 13 patches are asked for, the test images hold 12"),
    ({"degradation": Degradation(kind="paired")}, "freeze: degradation.kind=paired"),
    ({"degradation": Degradation(kind="downscale")}, "freeze: nothing is random in degradation.kind=downscale"),
    ({"degradation": Degradation(sigmas=[])}, "degradation.sigmas"),
    ({"degradation": Degradation(rain=Rain(layers=0))}, "degradation.rain.layers"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_what_cannot_be_frozen_is_named(source: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_frozen(config_of(source, **values))
    assert not (source / "out").exists()


def test_pairs_and_prepared_data_are_not_frozen(source: Path) -> None:
    config = config_of(source)
    config.data.form = "halves"
    with pytest.raises(ValueError, match="holds degraded images already"):
        prepare_frozen(config)
    config = config_of(source, "again")
    config.data.source = str(builder.prepare(config_of(source).data))
    with pytest.raises(ValueError, match="prepared data set already"):
        prepare_frozen(config)
