"""The check of a source: every kind of fault is named, leaks are found, the exit status tells, nothing is written."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from picture_cases import noisy, save, save_halves, scene
from PIL import Image

from irnas_ray.__main__ import main
from irnas_ray.datasets.builder import prepare
from irnas_ray.datasets.check import FALSIFIED, check_source, known_images, run_check
from irnas_ray.datasets.commands import prepare_or_check
from irnas_ray.datasets.whole_images import read_test_images
from irnas_ray.images import screening
from irnas_ray.images.screening import Screening
from irnas_ray.settings.commands import PrepareConfig
from irnas_ray.settings.study import Data

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _stand_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def folder(root: Path, train: int = 4, test: int = 2) -> Data:
    """A folder of images without a fault."""
    for index in range(train + test):
        save(root / ("train" if index < train else "test") / f"{index}.png", scene(index))
    return Data(source=str(root), form="images", color="rgb", patch=16)


def checked(data: Data, against: Path | None = None) -> Screening:
    others = known_images(str(against), data.color) if against else []
    return check_source(data, others)[0]


def test_a_sound_folder_has_no_findings(tmp_path, capsys):
    data = folder(tmp_path / "in")
    found = checked(data)
    assert found.findings == () and not found.falsified and list(found.lines()) == []
    assert found.counts == found.scenes == {"train": 4, "test": 2}
    assert found.sizes == {"most": [48, 64]}
    assert run_check(PrepareConfig(data=data)) == 0
    printed = capsys.readouterr().out
    assert "4 training images of 4 distinct scenes, 2 test images of 2 distinct scenes" in printed
    assert "found nothing that would invalidate results" in printed


def test_faulty_files_are_named_all_of_them(tmp_path):
    data = folder(tmp_path / "in", train=8)
    train = tmp_path / "in" / "train"
    content = (train / "0.png").read_bytes()
    (train / "0.png").write_bytes(content[: len(content) // 2])  # its header is whole
    (train / "1.png").write_bytes(b"not an image")
    save(train / "2.png", scene(2, 15, 40))
    save(train / "3.png", scene(3, channels=1))
    save(tmp_path / "in" / "test" / "small.png", scene(9, 10, 10))
    found = checked(data)
    assert found.falsified and found.counts == {"train": 4, "test": 2}
    assert [Path(text.partition(":")[0]).name for text in found.of_kind("unreadable")] == ["1.png", "0.png"]
    assert found.of_kind("tiny") == [
        "test/small is 10x10; SSIM needs 11x11",
        "train/2 is 15x40, under data.patch=16; data.patch=15 would fit",
    ]
    assert "3.png: file is gray, but color=rgb" in found.of_kind("mis-sized")[0]
    with pytest.raises(ValueError, match=r"1.png.*3.png.*2 images are too small: test/small.*train/2"):
        prepare(data, tmp_path / "out")
    for name in ("1", "2", "3"):
        (train / f"{name}.png").unlink()
    (tmp_path / "in" / "test" / "small.png").unlink()
    with pytest.raises(ValueError, match="0.png: cannot be read"):
        prepare(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_duplicates_and_leaks_are_found_by_pixels_and_by_look(tmp_path):
    data = folder(tmp_path / "in")
    train, test = tmp_path / "in" / "train", tmp_path / "in" / "test"
    save(train / "copy of 0.bmp", scene(0))
    save(train / "large.png", scene(30, 96, 128))
    save(train / "1 again.jpg", scene(1), quality=60)
    found = checked(data)
    assert found.of_kind("duplicate") == [
        "train: train/0, train/copy of 0 (equal pixels)",
        "train: train/1 again, train/1",
    ]
    assert not found.falsified and found.counts["train"] == 7 and found.scenes == {"train": 5, "test": 2}
    assert found.sizes == {"most": [48, 64], "smallest": [48, 64], "largest": [96, 128]}
    save(test / "equal.png", scene(2))
    save(test / "mirrored.jpg", scene(3, 96, 128)[:, ::-1], quality=80)
    found = checked(data)
    assert found.falsified
    assert found.of_kind("leakage") == ["test/equal = train/2 (equal pixels)", "test/mirrored = train/3"]


def test_another_set_is_compared_in_any_form(tmp_path):
    data = folder(tmp_path / "in")
    save_halves(tmp_path / "halves" / "a.png", scene(2, 60, 80), noisy(scene(2, 60, 80)))
    save_halves(tmp_path / "halves" / "b.png", scene(50), noisy(scene(50)))
    save(tmp_path / "gray" / "val" / "c.jpg", scene(4)[:, :, :1], quality=90)
    save(tmp_path / "gray" / "val" / "d.png", np.asarray(Image.fromarray(scene(1)).convert("L")))
    for side, pixels in (("clean", scene(0, 96, 128)), ("noisy", noisy(scene(0, 96, 128)))):
        save(tmp_path / "pairs" / side / "e.png", pixels)
    assert checked(data, tmp_path / "halves").of_kind("leakage against") == ["train/2 = a"]
    assert checked(data, tmp_path / "gray").of_kind("leakage against") == ["train/1 = val/d"]
    assert checked(data, tmp_path / "pairs").of_kind("leakage against") == ["train/0 = e"]
    save(tmp_path / "shared" / "f.png", scene(5))
    found = checked(data, tmp_path / "shared")
    assert found.of_kind("shared") == ["test/5 = f (equal pixels)"] and not found.falsified
    prepared = prepare(folder(tmp_path / "other", train=3, test=1), tmp_path / "prepared")
    assert [text.partition(" =")[0] for text in checked(data, prepared).of_kind("leakage against")] == [
        "train/0",
        "train/1",
        "train/2",
        "train/3",
    ]
    with pytest.raises(ValueError, match="absent: no such folder"):
        checked(data, tmp_path / "absent")


def test_pairs_that_are_none_are_found(tmp_path):
    order = {0: 0, 1: 1, 2: 3, 3: 2, 4: 4, 5: 50}
    for index, other in order.items():
        save(tmp_path / "in" / "clean" / f"{index}.png", scene(index, 96, 128))
        save(tmp_path / "in" / "degraded" / f"{index}.png", noisy(scene(other, 96, 128), index))
    save(tmp_path / "in" / "degraded" / "4.png", scene(4, 96, 128))
    save(tmp_path / "in" / "clean" / "6.png", scene(6))
    save(tmp_path / "in" / "clean" / "7.png", scene(7, 96, 128))
    save(tmp_path / "in" / "degraded" / "7.png", noisy(scene(7, 96, 120)))
    data = Data(source=str(tmp_path / "in"), form="pairs", color="rgb", patch=16)
    found = checked(data)
    assert found.of_kind("mis-paired") == [
        "in/6 (not in degraded): has no partner",
        "2: its degraded image shows the scene of 3",
        "3: its degraded image shows the scene of 2",
        "4: clean and degraded image are equal",
        "5: clean and degraded image show two scenes",
    ]
    (line,) = found.of_kind("mis-sized")
    assert "7.png is 96x120" in line and "is 96x128" in line


def test_noise_that_hides_a_scene_is_no_mispairing(tmp_path):
    for index in range(4):
        save_halves(tmp_path / f"{index}.png", scene(index) // 8 + 100, noisy(scene(index) // 8 + 100, index, 80))
    assert checked(Data(source=str(tmp_path), form="halves", color="rgb", patch=16)).of_kind("mis-paired") == []


def test_blank_and_converted_images_are_named_but_invalidate_nothing(tmp_path):
    data = folder(tmp_path / "in")
    train = tmp_path / "in" / "train"
    save(train / "black.png", np.zeros((48, 64, 3), np.uint8))
    save(tmp_path / "in" / "test" / "black.png", np.zeros((48, 64, 3), np.uint8))
    save(train / "dark.png", scene(20) // 16)
    save(train / "clear.png", np.concatenate([scene(21), scene(22)[:, :, :1]], axis=2))
    found = checked(data)
    assert not found.falsified and {finding.kind for finding in found.findings} == {"blank", "converted"}
    assert found.of_kind("converted") == ["alpha channel dropped: train/clear"]
    assert [text.partition(":")[0] for text in found.of_kind("blank")] == ["test/black", "train/black", "train/dark"]


def test_many_lines_are_cut_short_and_say_so():
    findings = tuple(screening.Finding("leakage", f"test/{index} = train/{index}") for index in range(9))
    found = Screening({"test": 9}, {"test": 9}, {}, True, findings)
    lines = list(found.lines(3))
    assert lines[0].startswith("PROBLEM, leakage: 9") and lines[1:4] == [
        f"    {finding.text}" for finding in findings[:3]
    ]
    assert "6 more" in lines[4] and "too many images" in lines[5]
    assert len(list(found.lines())) == 11


def test_too_many_images_are_compared_by_pixels_alone(tmp_path, monkeypatch):
    data = folder(tmp_path / "in")
    save(tmp_path / "in" / "test" / "equal.bmp", scene(0))
    save(tmp_path / "in" / "test" / "alike.jpg", scene(1))
    assert len(checked(data).of_kind("leakage")) == 2
    monkeypatch.setattr(screening, "MOST_COMPARISONS", 5)
    found = checked(data)
    assert found.limited and found.of_kind("leakage") == ["test/equal = train/0 (equal pixels)"]


def test_a_check_writes_the_contact_sheet_alone_and_over_nothing(tmp_path, capsys):
    data = folder(tmp_path / "in")
    before = {path: path.read_bytes() for path in (tmp_path / "in").rglob("*.png")}
    save(tmp_path / "in" / "test" / "leak.png", scene(0))
    assert run_check(PrepareConfig(data=data)) == FALSIFIED
    printed = capsys.readouterr().out
    assert "PROBLEM, leakage: 1" in printed and "test/leak = train/0" in printed
    assert run_check(PrepareConfig(data=data, workers=1)) == FALSIFIED
    written = [path for path in tmp_path.rglob("*") if path.is_file() and "in" not in path.parts]
    assert sorted(path.name for path in written) == ["contact_sheet-2.png", "contact_sheet.png"]
    assert all(path.read_bytes() == content for path, content in before.items())
    with pytest.raises(ValueError, match="contact_sheet.png exists"):
        run_check(PrepareConfig(data=data, contact_sheet="contact_sheet.png"))
    run_check(PrepareConfig(data=data, contact_sheet=str(tmp_path / "new" / "sheet.png")))
    assert Image.open(tmp_path / "new" / "sheet.png").size == Image.open("contact_sheet.png").size


def test_preparing_says_and_keeps_what_it_found(tmp_path, caplog):
    data = folder(tmp_path / "in")
    save(tmp_path / "in" / "test" / "leak.jpg", scene(0, 96, 128), quality=80)
    known = known_images(str(tmp_path / "in" / "train"), "rgb")[1:2]
    prepared = prepare(data, tmp_path / "out", others=known)
    assert "test/leak = train/0" in caplog.text and "train/1 = 1 (equal pixels)" in caplog.text
    kept = Screening.load(prepared)
    assert kept is not None and kept.falsified
    assert [finding.kind for finding in kept.findings] == ["leakage", "leakage against"]
    assert (prepared / "contact_sheet.png").is_file()
    caplog.clear()
    prepare(data, tmp_path / "out")
    assert "test/leak = train/0" in caplog.text  # said again whenever the data are used
    (prepared / "screening.json").write_text("{}")
    assert Screening.load(prepared) is None and prepare(data, tmp_path / "out") == prepared


def test_scoring_names_conversions_once(tmp_path, caplog):
    for index in range(3):
        save(tmp_path / f"{index}.png", np.concatenate([scene(index), scene(9)[:, :, :1]], axis=2))
    records = list(read_test_images(Data(source=str(tmp_path), form="images", color="rgb")))
    assert len(records) == 3
    assert [record.message for record in caplog.records] == ["alpha channel dropped: 0, 1, 2"]


def test_the_exit_status_of_the_command(tmp_path, monkeypatch, capsys):
    data = folder(tmp_path / "in")
    arguments = [f"data.source={data.source}", "data.patch=16", "data.color=rgb", "degradation.kind=paired"]

    def status(*more: str) -> object:
        with pytest.raises(SystemExit) as caught:
            main(["prepare", *arguments, *more])
        return caught.value.code

    assert status("check=true") == 0
    assert status("check=true", f"check_against={data.source}/train") == FALSIFIED == 3
    assert status("check=true", f"check_against={tmp_path}/absent") == 1 and "absent" in capsys.readouterr().err
    assert status("chek=true") == 2
    prepare_or_check(PrepareConfig(data=dataclasses.replace(data, output=str(tmp_path / "out"))))
    assert "4 training images, 2 test images, rgb" in capsys.readouterr().out
