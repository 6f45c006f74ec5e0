"""Data sets of 16 bits: files, Parquet and crops hold the same values, and 8 bits stay as they were."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from deep_cases import CROP, origin, same, source, write
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_cases import save, scene
from PIL import Image

from irnas_ray.datasets import reader
from irnas_ray.datasets.batches import ResidentImages, TrainingBatches
from irnas_ray.datasets.builder import prepare
from irnas_ray.datasets.check import check_source, known_images, run_check
from irnas_ray.datasets.commands import prepare_or_check
from irnas_ray.datasets.crops import CropPlan
from irnas_ray.datasets.freeze import prepare_frozen
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.datasets.whole_images import load_images, read_test_images
from irnas_ray.degradations.factory import image_seed, make_degradation
from irnas_ray.settings.commands import Frozen, PrepareConfig
from irnas_ray.settings.degradations import Degradation
from irnas_ray.settings.study import Data


@settings(max_examples=12, deadline=None)
@given(
    form=st.sampled_from(["images", "halves", "pairs"]),
    color=st.sampled_from(["gray", "rgb"]),
    suffix=st.sampled_from([".png", ".tif"]),
    seed=st.integers(0, 99),
)
def test_files_are_exact_in_parquet_and_in_crops(
    tmp_path_factory: pytest.TempPathFactory, form: str, color: str, suffix: str, seed: int
) -> None:
    root = tmp_path_factory.mktemp("deep")
    data, expected = source(root / "in", form, color, suffix)
    manifest = Manifest.load(prepare(data, root / "out"))
    assert manifest.bits == 16 and manifest.fingerprint.endswith("-16")
    for record in load_images(root / "out", list(expected)):
        assert same(record.clean, expected[record.image_id][0]) and same(record.degraded, expected[record.image_id][1])
    selection = reader.select(root / "out", manifest, manifest.ids("train"))
    table = next(reader.stream(selection, CROP, seed, drawn=0))
    sides = {name: reader.pixels_of(selection, table, name, CROP) for name in selection.columns}
    assert len(sides["clean"]) > 3
    for index, crop in enumerate(sides["clean"]):
        image_id, rows, columns = origin(crop, expected)
        if form != "images":
            assert same(sides["degraded"][index], expected[image_id][1][:, rows, columns])


def test_a_table_of_a_stream_is_no_larger_than_with_8_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = source(tmp_path / "in", "pairs", "rgb")
    manifest = Manifest.load(prepare(data, tmp_path / "out"))
    selection = reader.select(tmp_path / "out", manifest, manifest.ids("train"))
    monkeypatch.setattr(reader, "TABLE_BYTES", 5 * 2 * 2 * 3 * CROP**2)
    table = next(reader.stream(selection, CROP, 0, drawn=0))
    assert len(table) == 5 and table.nbytes == reader.TABLE_BYTES


def test_training_tells_a_ramp_apart_that_8_bits_cannot_hold(tmp_path: Path) -> None:
    ramp = np.broadcast_to(30000 + np.arange(24), (20, 24)).astype(np.uint16)[:, :, None]
    for index in range(4):
        write(tmp_path / "in" / f"{index}.png", ramp)
    data = Data(source=str(tmp_path / "in"), form="images", patch=CROP)
    manifest = Manifest.load(prepare(data, tmp_path / "out"))
    pixels = np.concatenate([x.clean.ravel() for x in load_images(tmp_path / "out", manifest.ids("train"))])
    plan = CropPlan.of([image for image in manifest.images if image.split == "train"], CROP)
    images = ResidentImages(torch.from_numpy(pixels), None, plan, 64, 0)
    _, clean = next(TrainingBatches(images, CROP, make_degradation(Degradation(sigmas=[0])), 0))
    assert set(np.unique(clean.numpy())) == set(np.float32((30000 + np.arange(24)) / 65535))
    assert (clean.diff(dim=-1) != 0).all() and len(np.unique(np.rint(clean.numpy() * 255))) == 1


def test_a_mixture_is_stored_as_16_bits_and_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, expected = source(tmp_path / "in", "images", "rgb")
    for name in ("8", "9"):
        save(tmp_path / "in" / f"{name}.png", scene(int(name), 20, 24))
        expected[name] = (scene(int(name), 20, 24).transpose(2, 0, 1).astype(np.uint16) * 257, None)
    data.output = str(tmp_path / "out")
    prepare_or_check(PrepareConfig(data=data))
    for record in load_images(tmp_path / "out", list(expected)):
        assert same(record.clean, expected[record.image_id][0])
    (line,) = (record.message for record in caplog.records if "8 bits a channel" in record.message)
    assert line.strip() == "8 bits a channel, scaled to the 16 of the other files: 8, 9"
    # scored without a data set, each file has its own depth
    kinds = {record.image_id: record.clean.dtype for record in read_test_images(data)}
    assert kinds == {"0": np.uint16, "1": np.uint16, "2": np.uint16, "3": np.uint16, "8": np.uint8, "9": np.uint8}


def test_a_pair_of_two_depths_has_16_bits(tmp_path: Path) -> None:
    data, expected = source(tmp_path / "in", "pairs", "rgb")
    save(tmp_path / "in" / "degraded" / "2.png", scene(0, 20, 24))
    folder = prepare(data, tmp_path / "out")
    (record,) = load_images(folder, ["2"])
    assert same(record.clean, expected["2"][0])
    assert same(record.degraded, scene(0, 20, 24).transpose(2, 0, 1).astype(np.uint16) * 257)


def test_manifest_parquet_and_command_say_the_depth(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, _ = source(tmp_path / "in", "images", "gray")
    data.output = str(tmp_path / "deep")
    prepare_or_check(PrepareConfig(data=data))
    assert "gray, 16 bits a channel" in capsys.readouterr().out
    content = json.loads((tmp_path / "deep" / "dataset.json").read_text())
    assert (content["bits"], content["version"]) == (16, 3)  # former releases read up to 2
    manifest = Manifest.load(tmp_path / "deep")
    known = known_images(str(tmp_path / "deep"), "gray")
    assert {image.name: image.sha256 for image in known} == {x.image_id: (x.sha256,) for x in manifest.images}
    selection = reader.select(tmp_path / "deep", manifest, ["0"])
    assert json.loads(selection.read(selection.files[0]).schema.metadata[b"irnas_ray"])["bits"] == 16
    (tmp_path / "deep" / "dataset.json").write_text(json.dumps(content | {"bits": 12}))
    with pytest.raises(ValueError, match="field 'bits'"):
        Manifest.load(tmp_path / "deep")


def test_sets_of_8_bits_are_what_former_releases_read_and_wrote(tmp_path: Path) -> None:
    for index in range(4):
        save(tmp_path / "in" / f"{index}.png", scene(index, 20, 24))
    data = Data(source=str(tmp_path / "in"), form="images", color="rgb", patch=CROP)
    folder = prepare(data, tmp_path / "out")
    content = json.loads((folder / "dataset.json").read_text())
    assert (content["bits"], content["version"], len(content["fingerprint"])) == (8, 2, 12)
    del content["bits"]
    (folder / "dataset.json").write_text(json.dumps(content))
    manifest = Manifest.load(folder)
    assert manifest.bits == 8 and prepare(data, folder) == folder
    selection = reader.select(folder, manifest, ["0"])
    notes = json.loads(selection.read(selection.files[0]).schema.metadata[b"irnas_ray"])
    assert notes == {"color": "rgb", "channels": 3, "axes": "channels height width"}
    assert selection.total_bytes == 3 * 20 * 24
    assert same(load_images(folder, ["0"])[0].clean, scene(0, 20, 24).transpose(2, 0, 1))


def test_a_set_that_a_former_release_rounded_is_used_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, _ = source(tmp_path / "in", "images", "gray")
    folder = prepare(data, tmp_path / "out")
    manifest, screening = (json.loads((folder / name).read_text()) for name in ("dataset.json", "screening.json"))
    mark = manifest["fingerprint"].removesuffix("-16")
    old = {**manifest, "version": 2, "fingerprint": mark}
    del old["bits"]
    rounded = {"kind": "converted", "text": "16 bits a channel, rounded to 8: 0, 1, 2, 3"}
    (folder / "dataset.json").write_text(json.dumps(old))
    (folder / "screening.json").write_text(json.dumps({**screening, "findings": [rounded]}))
    caplog.clear()
    assert prepare(data, folder) == folder and Manifest.load(folder).bits == 8
    assert "a former release rounded its files to 8 bits" in caplog.messages[-1]
    # neither depth is taken for the other
    (folder / "dataset.json").write_text(json.dumps({**manifest, "fingerprint": mark}))
    with pytest.raises(ValueError, match="holds another data set"):
        prepare(data, folder)


def test_a_check_judges_16_bits_on_their_own_scale(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for index in range(6):
        write(tmp_path / "in" / f"{index}.png", scene(index).astype(np.uint16) * 257)
        save(tmp_path / "plain" / f"{index}.png", scene(index))
    write(tmp_path / "in" / "5.png", np.random.default_rng(0).integers(0, 4096, (48, 64, 3), dtype=np.uint16))
    data = Data(source=str(tmp_path / "in"), form="images", color="rgb", patch=16)
    screening, _ = check_source(data, known_images(str(tmp_path / "plain"), "rgb"))
    assert screening.bits == 16 and screening.summary().endswith("; 16 bits a channel")
    (blank,) = screening.of_kind("blank")
    assert blank.startswith("5: its brightest pixel is 409") and blank.endswith(" of 65535 (12-bit values?)")
    # scenes are recognised whatever their depth
    shown = {line.partition(" = ")[0] for kind in ("leakage against", "shared") for line in screening.of_kind(kind)}
    assert shown == {"0", "1", "2", "3", "4"}
    copies, _ = check_source(data, known_images(str(tmp_path / "in"), "rgb"))
    told = [line for kind in ("leakage against", "shared") for line in copies.of_kind(kind)]
    assert sorted(told) == [*(f"{index} = {index} (equal pixels)" for index in range(5)), "5 = 5"]  # blank ones are not
    sheet = tmp_path / "sheet.png"
    run_check(PrepareConfig(data=data, contact_sheet=str(sheet)))
    assert "16 bits a channel" in capsys.readouterr().out


def test_the_contact_sheet_shows_what_8_bits_would(tmp_path: Path) -> None:
    for index in range(4):
        write(tmp_path / "deep" / f"{index}.png", scene(index).astype(np.uint16) * 257)
        save(tmp_path / "plain" / f"{index}.png", scene(index))
    sheets = []
    for name in ("deep", "plain"):
        folder = prepare(
            Data(source=str(tmp_path / name), form="images", color="rgb", patch=32),
            tmp_path / f"{name}-out",
            degradation=Degradation(sigmas=[25]),
        )
        sheets.append(np.asarray(Image.open(folder / "contact_sheet.png")))
    assert np.array_equal(sheets[0][44:], sheets[1][44:])
    assert not np.array_equal(sheets[0][:44], sheets[1][:44])  # the title says 16 bits


def test_what_is_frozen_has_the_depth_of_its_source(tmp_path: Path) -> None:
    data, expected = source(tmp_path / "in", "images", "rgb")
    data.output = str(tmp_path / "out")
    degradation = Degradation(kind="gaussian", sigmas=[25])
    frozen = Frozen(train=3, test=1, seed=7)
    folder = prepare_frozen(PrepareConfig(data=data, freeze="images", degradation=degradation, frozen=frozen))
    for record in load_images(folder, list(expected)):
        clean = expected[record.image_id][0]
        generator = torch.Generator().manual_seed(image_seed(f"7 {record.image_id}"))
        noisy = make_degradation(degradation)(torch.from_numpy(clean / 65535).float()[None], generator)[0]
        wanted = np.rint(noisy.double().clamp(0, 1).numpy() * 65535)
        assert same(record.clean, clean) and record.degraded.dtype == np.uint16
        assert abs(record.degraded.astype(int) - wanted).max() <= 1  # rounded in float32
        assert (record.degraded % 257 != 0).mean() > 0.7
