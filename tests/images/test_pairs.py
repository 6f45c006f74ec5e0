"""Pairs are found by folders, by names or by a CSV, and whatever does not pair is named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from irnas_ray.images import sources
from irnas_ray.settings.study import Data


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        value = sum(name.encode()) % 256
        Image.fromarray(np.full((12, 12, 3), value, np.uint8)).save(root / name)


def found(source: Path, **settings: object) -> dict[str, tuple[str, str, str]]:
    """Image id -> clean file, degraded file, split; none is held out."""
    settings = {"form": "pairs", "color": "rgb"} | settings
    listed = sources.find_all(Data(source=str(source), **settings))  # type: ignore[arg-type]
    return {image.image_id: (image.clean.name, image.degraded.name, image.split) for image in listed if image.degraded}


def test_polyu_names_pair_in_one_folder(tmp_path):
    names = ("Canon5D2_5_160_3200_bike_1", "Canon5D2_5_160_3200_bike_10", "Nikon_toy_real_1")
    touch(tmp_path, *(f"{name}_{kind}.JPG" for name in names for kind in ("mean", "real")))
    expected = {name: (f"{name}_mean.JPG", f"{name}_real.JPG", "train") for name in names}
    assert found(tmp_path) == expected
    # told by its names alone
    assert sources.form_of(Data(source=str(tmp_path))) == "pairs"
    touch(tmp_path, "readme.jpg")
    assert sources.form_of(Data(source=str(tmp_path))) == "images"
    with pytest.raises(ValueError, match=r"1 images are named otherwise: readme"):
        found(tmp_path)


def test_names_are_configured(tmp_path):
    touch(tmp_path, "GT_01.png", "NOISY_01.png", "gt_2.png", "noisy_2.png")
    names = {"clean_names": "GT_*", "degraded_names": "NOISY_*"}
    assert found(tmp_path, **names) == {
        "01": ("GT_01.png", "NOISY_01.png", "train"),
        "2": ("gt_2.png", "noisy_2.png", "train"),
    }
    for wrong in ("clean", "*_*"):
        with pytest.raises(ValueError, match="data.clean_names"):
            found(tmp_path, clean_names=wrong)
    touch(tmp_path, "gt_2.jpg")
    with pytest.raises(ValueError, match="gt_2.jpg and gt_2.png have one name|gt_2.png and gt_2.jpg have one name"):
        found(tmp_path, **names)


def test_images_without_partner_are_named_or_set_aside(tmp_path):
    touch(tmp_path, "1_mean.png", "1_real.png", "2_mean.png", "3_real.png")
    with pytest.raises(ValueError, match=r"2 images have no partner: 2 \(not in degraded\), 3 \(not in clean\)"):
        found(tmp_path)
    alone: list[str] = []
    listed = sources.find_all(Data(source=str(tmp_path), form="pairs", color="rgb"), alone)
    assert [image.image_id for image in listed] == ["1"]
    assert [name.partition("/")[2] for name in alone] == ["2 (not in degraded)", "3 (not in clean)"]


def test_split_folders_hold_pairs_of_any_kind(tmp_path):
    touch(tmp_path, "train/1_mean.png", "train/1_real.png", "test/clean/1.png", "test/noisy/1.jpg")
    assert found(tmp_path) == {
        "test/1": ("1.png", "1.jpg", "test"),
        "train/1": ("1_mean.png", "1_real.png", "train"),
    }


NFC, NFD = "d\u00e9j\u00e0", "de\u0301ja\u0300"


@pytest.mark.parametrize(("clean", "degraded"), [(NFC, NFD), (NFD, NFC), (NFD, NFD)])
def test_names_match_however_accents_are_stored(tmp_path, clean, degraded):
    """macOS decomposes accents where Linux and Windows mostly do not; a pair may come from both."""
    touch(tmp_path / "two", f"clean/{clean}.png", f"noisy/{degraded}.png")
    assert found(tmp_path / "two") == {NFC: (f"{clean}.png", f"{degraded}.png", "train")}
    touch(tmp_path / "one", f"{clean}_mean.png", f"{degraded}_real.png")
    assert found(tmp_path / "one") == {NFC: (f"{clean}_mean.png", f"{degraded}_real.png", "train")}
    touch(tmp_path / "named", f"{clean}-1.png", f"{degraded}+1.png")
    names = {"clean_names": f"{degraded}-*", "degraded_names": f"{clean}+*"}
    assert found(tmp_path / "named", **names) == {"1": (f"{clean}-1.png", f"{degraded}+1.png", "train")}
    touch(tmp_path / "listed", f"{clean}/{clean}.png", f"{degraded}.png")
    (tmp_path / "listed/pairs.csv").write_text(f"clean,degraded\n{degraded}/{degraded}.png,{clean}.png\n")
    assert found(tmp_path / "listed/pairs.csv") == {NFC: (f"{clean}.png", f"{degraded}.png", "train")}
    touch(tmp_path / "images", f"{clean}.png")
    data = Data(source=str(tmp_path / "images"), form="images", color="rgb")
    assert [image.image_id for image in sources.find_all(data)] == [NFC]


def test_two_forms_of_one_name_are_refused(tmp_path):
    touch(tmp_path, f"{NFC}.png", f"{NFD}.png")
    with pytest.raises(ValueError, match="have one name but for .* how accents are stored"):
        sources.find_all(Data(source=str(tmp_path), form="images", color="rgb"))
    touch(tmp_path / "pairs", f"clean/{NFC}.png", f"clean/{NFD}.png", "noisy/1.png")
    with pytest.raises(ValueError, match="clean: two files have one name"):
        found(tmp_path / "pairs")


def test_a_csv_lists_pairs_relative_to_itself(tmp_path):
    touch(tmp_path, "a/clean/1.png", "a/rain/1-heavy.png", "a/rain/1-light.png", "b/2.png", "b/2n.png")
    rows = "\ufeffDegraded,note,Clean,split\r\n../a/rain/1-heavy.png,x,../a/clean/1.png,train\r\n"
    rows += f"../a/rain/1-light.png,,../a/clean/1.png,training\r\n{tmp_path}/b/2n.png,,../b/2.png,Test\r\n"
    (tmp_path / "lists").mkdir()
    listing = tmp_path / "lists" / "pairs.csv"
    listing.write_text(rows)
    listed = found(listing)
    assert [value for name, value in listed.items()] == [
        ("1.png", "1-heavy.png", "train"),
        ("1.png", "1-light.png", "train"),
        ("2.png", "2n.png", "test"),
    ]
    # results are filed under these names
    assert all(not name.startswith("/") and ".." not in name for name in listed)
    data = Data(source=str(listing), color="rgb")
    assert sources.form_of(data) == "pairs"
    assert [image.clean.name for image in sources.find_test_images(data)] == ["2.png"]
    listing.write_text("clean;degraded\n../b/2.png;../b/2n.png\n../a/clean/1.png;../a/rain/1-heavy.png\n")
    assert len(sources.find_test_images(data)) == 2
    assert sorted(image.split for image in sources.find_images(data)) == ["test", "train"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clean,noisy\n1.png,1n.png\n", "has no column degraded"),
        ("", "has no column clean and no column degraded"),
        ("clean,degraded\n", "lists no pair"),
        ("clean,degraded\n1.png,1n.png\n2.png,\n", "line 3: column degraded is empty"),
        ("clean,degraded\n1.png\n", "line 2: column degraded is empty"),
        ("clean,degraded\n1.png,1n.png\n1.png,9.png\n", "line 3: there is no file .*9.png"),
        ("clean,degraded,split\n1.png,1n.png,dev\n", "line 2: split is 'dev'; possible: train, training"),
        ("clean,degraded\n1.png,1n.png\n1.png,1n.png\n", "line 3: 1n.png is listed a second time"),
        ("clean,degraded\n1.png,1n.png\n1.png,1n.jpg\n", "1.png and 1.png have one name|one name but for the suffix"),
    ],
)
def test_a_wrong_csv_is_refused_by_line(tmp_path, text, message):
    touch(tmp_path, "1.png", "1n.png", "1n.jpg", "2.png")
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ValueError, match=f"pairs.csv.*{message}|{message}"):
        found(tmp_path / "pairs.csv")


def test_a_csv_that_is_none_is_named(tmp_path):
    (tmp_path / "pairs.csv").write_bytes(b"\xff\xfe\x00")
    for source in ("pairs.csv", "absent.csv"):
        with pytest.raises(ValueError, match=f"{source}: cannot be read as a CSV"):
            found(tmp_path / source)
    with pytest.raises(ValueError, match="data.form=pairs"):
        found(tmp_path / "pairs.csv", form="halves")
