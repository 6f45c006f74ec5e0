"""What evaluate.py and restore.py do: everything in one table, kept with what it depends on, and mixtures refused."""

import csv
import json
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_cases import camera
from PIL import Image

from irnas_ray.datasets.commands import prepare_or_check
from irnas_ray.evaluation import commands
from irnas_ray.evaluation.commands import score_methods
from irnas_ray.evaluation.methods import named_paths
from irnas_ray.evaluation.restored_files import restore_images
from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.checkpoints import load_network, save_network
from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.networks.inference import fast, restore
from irnas_ray.settings.commands import EvaluateConfig, PrepareConfig, RestoreConfig
from irnas_ray.settings.study import Data

SIZES = {"1": (40, 52), "2": (48, 36), "10": (33, 33)}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of three small gray images."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, size in SIZES.items():
        Image.fromarray(camera(size=size).clean[0]).save(folder / f"{name}.png")
    return folder


def network_file(path: Path, seed: int = 0, **notes: Any) -> Path:
    """A saved tiny network that was never trained, with weights large enough to turn with the image, and notes."""
    torch.manual_seed(seed)
    genotype = Genotype((((Edge(0, "sep"), Edge(1, "skip")),),), (0,))
    network = DerivedNetwork(genotype, 1, 2, True, stem_channels=2, aspp_channels=2, low_level_channels=1)
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(1.7)
    save_network(network, path, {"protocol": "images-gray", "sigma": 50.0} | notes)
    return path


def config(photographs: Path, **values: Any) -> EvaluateConfig:
    return EvaluateConfig(data=Data(form="images", source=str(photographs)), **values)


def test_everything_is_in_one_table_and_kept(tmp_path, photographs, capsys):
    ours, other = network_file(tmp_path / "ours.pt"), network_file(tmp_path / "other.pt", 1)
    output = tmp_path / "scores"
    score_methods(config(photographs, network=[str(ours), str(other)], method=["degraded", "tv"], output=str(output)))
    table = capsys.readouterr().out
    assert "Protocol `images-gray`, sigma 50, 3 images" in table and "gain over total variation (dB)" in table
    assert (output / "table.md").read_text() in table
    record = json.loads((output / "scores.json").read_text())
    assert (record["protocol"], record["sigma"]) == ("images-gray", 50.0)
    names = ["ours", "other", "degraded input", "total variation"]
    assert [evaluation["method"] for evaluation in record["evaluations"]] == names
    assert "torch" in record["versions"] and record["hardware"]["cores"] >= 1 and record["seconds"] > 0
    assert record["settings"]["method"] == ["degraded", "tv"] and "0.9 sigma" in record["parameters"]["total variation"]
    with open(output / "table.csv", newline="") as file:
        means = {row["method"]: row for row in csv.DictReader(file)}
    for evaluation in record["evaluations"]:
        assert evaluation["protocol"] == means[evaluation["method"]]["protocol"] == "images-gray"
        with open(output / "per_image" / f"{evaluation['method'].replace(' ', '_')}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["image_id"] for row in rows] == list(SIZES) and {row["protocol"] for row in rows} == {"images-gray"}
        assert float(means[evaluation["method"]]["psnr"]) == pytest.approx(
            np.mean([float(row["psnr"]) for row in rows])
        )
    assert {path.relative_to(output).as_posix() for path in (output / "images").rglob("*.png")} == {
        f"images/{network}/{name}.png" for network in ("ours", "other") for name in SIZES
    }
    assert Image.open(output / "sheet.png").width > 5 * 200
    with pytest.raises(ValueError, match="output: .*scores is not an empty folder"):
        score_methods(config(photographs, method="tv", sigma=50.0, output=str(output)))


def test_restored_images_and_earlier_scores_join_the_table(tmp_path, photographs, capsys):
    ours = network_file(tmp_path / "ours.pt")
    score_methods(config(photographs, network=str(ours), output=str(tmp_path / "first"), baselines=False))
    first = json.loads((tmp_path / "first/scores.json").read_text())["evaluations"][0]
    capsys.readouterr()
    restored = {"files": str(tmp_path / "first/images/ours")}
    joined = config(
        photographs, restored=restored, scores=str(tmp_path / "first/scores.json"), protocol="images-gray", sigma=50.0
    )
    joined.output = str(tmp_path / "second")
    score_methods(joined)
    second = json.loads((tmp_path / "second/scores.json").read_text())["evaluations"]
    assert [row["method"] for row in second] == ["files", "degraded input", "non-local means", "ours"]
    assert second[3] == first
    # the same pictures, but for their rounding to 8 bit
    assert second[0]["psnr"] == pytest.approx(first["psnr"], abs=0.01) and second[0]["seconds"] is None
    assert "| files |" in capsys.readouterr().out


def test_ssim_of_the_other_border_is_scored_and_named(tmp_path, photographs, capsys):
    records, values = {}, {"protocol": "images-gray", "sigma": 50.0}
    for border in ("cropped", "zero_padded"):
        output = tmp_path / border
        score_methods(config(photographs, method="tv", ssim=border, output=str(output), **values))
        assert f"3 images, SSIM {border.replace('_', '-')};" in capsys.readouterr().out
        records[border] = json.loads((output / "scores.json").read_text())
        (row,) = csv.DictReader((output / "table.csv").read_text().splitlines())
        assert records[border]["ssim"] == row["ssim_border"] == border
    one, other = (record["evaluations"][0] for record in records.values())
    assert one["psnr"] == other["psnr"] and 0.001 < other["ssim"] - one["ssim"] < 0.1
    values["method"] = "degraded"
    with pytest.raises(ValueError, match="ssim_border zero_padded"):
        score_methods(config(photographs, scores=str(tmp_path / "zero_padded/scores.json"), **values))
    with pytest.raises(ValueError, match="ssim: 'reflected'; possible: cropped, zero_padded"):
        score_methods(config(photographs, ssim="reflected", **values))


def named_in_latin_1(folder: Path) -> Path:
    """A copy of the folder's first image whose name is not UTF-8."""
    path = Path(os.fsdecode(bytes(folder) + b"/caf\xe9.png"))
    path.write_bytes((folder / "1.png").read_bytes())
    return path


def test_names_that_are_not_utf_8_are_refused_by_every_command_before_any_work(tmp_path, photographs, monkeypatch):
    ours, other = network_file(tmp_path / "ours.pt"), tmp_path / "restored"
    shutil.copytree(photographs, other)
    source = {"data": Data(form="images", source=str(photographs), output=str(tmp_path / "x"))}
    wrong = named_in_latin_1(photographs)
    commands_refused = {
        "check": lambda: prepare_or_check(PrepareConfig(**source, check=True)),
        "prepare": lambda: prepare_or_check(PrepareConfig(**source)),
        "evaluate": lambda: score_methods(EvaluateConfig(**source, network=str(ours))),
        "restore": lambda: restore_images(RestoreConfig(str(ours), input=str(photographs), output=str(tmp_path / "x"))),
        "restore one": lambda: restore_images(RestoreConfig(str(ours), input=str(wrong), output=str(tmp_path / "x"))),
    }
    monkeypatch.chdir(tmp_path)
    for name, run in commands_refused.items():
        with pytest.raises(ValueError, match=r"caf\\xe9.png': this name is not UTF-8; rename"):
            run()
        assert not (tmp_path / "x").exists(), name
    wrong.unlink()
    named_in_latin_1(other)
    monkeypatch.setattr(commands, "_score", lambda *_: pytest.fail("began to work"))
    with pytest.raises(ValueError, match=r"restored/caf\\xe9.png': this name is not UTF-8; rename"):
        score_methods(EvaluateConfig(**source, network=str(ours), restored=str(other)))


def test_scores_do_not_depend_on_how_accents_are_stored(tmp_path, photographs):
    """The same photograph from macOS, which decomposes accents: equal noise, equal score, one table."""
    found, earlier = [], None
    for form, method in (("NFC", "degraded"), ("NFD", ["degraded", "tv"]), ("NFD", "tv")):
        folder, output = tmp_path / form, tmp_path / f"{form}-{len(found)}"
        folder.mkdir(exist_ok=True)
        shutil.copy(photographs / "1.png", folder / unicodedata.normalize(form, "caf\u00e9.png"))
        values = {"protocol": "images-gray", "sigma": 50.0, "scores": earlier if method == "tv" else None}
        score_methods(config(folder, method=method, output=str(output), **values))
        found.append(json.loads((output / "scores.json").read_text())["evaluations"])
        earlier = earlier or str(output / "scores.json")
    (first, *_), (second, *_), third = ([row["scores"][0] for row in rows] for rows in found)
    assert (first["psnr"], first["image_id"]) == (second["psnr"], second["image_id"]) and third[1] == first


def test_what_may_not_share_a_table_is_refused_before_any_work(tmp_path, photographs, monkeypatch):
    ours = network_file(tmp_path / "ours.pt")
    score_methods(config(photographs, network=str(ours), output=str(tmp_path / "first"), baselines=False))
    earlier = {"scores": str(tmp_path / "first/scores.json"), "method": "tv"}
    monkeypatch.setattr(commands, "_score", lambda *_: pytest.fail("began to work"))
    mixtures = [
        ({"protocol": "bsd200-gray-half", "sigma": 50.0}, "protocol"),
        ({"protocol": "images-gray", "sigma": 30.0}, "sigma"),
        ({"protocol": "images-gray", "sigma": 50.0, "images": 2}, "different images"),
        ({"network": str(ours)}, "two methods are called ours"),
    ]
    for values, message in mixtures:
        with pytest.raises(ValueError, match=message):
            score_methods(config(photographs, **earlier, **values))
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match="x.json holds no evaluations"):
        score_methods(config(photographs, scores=str(tmp_path / "x.json"), sigma=50.0))


def test_settings_that_do_not_fit_are_refused(tmp_path, photographs):
    ours, other = network_file(tmp_path / "ours.pt"), network_file(tmp_path / "other.pt", sigma=30.0)
    ranged = network_file(tmp_path / "ranged.pt", sigma=[5, 55])
    wrong = [
        ({"baselines": False}, "nothing to score: give network=FILE"),
        ({"method": "tv", "protocol": "images-gray"}, "sigma: is missing"),
        ({"method": 3}, "method: 3; give one name"),
        (
            {"network": [str(ours), str(other)]},
            "sigma: the networks were trained for different ones .ours: 50.0, other",
        ),
        ({"network": [str(ours), str(ranged)]}, r"different ones .ours: 50.0, ranged: \[5, 55\]"),
        ({"network": str(ranged)}, "sigma: is missing"),
        ({"network": [str(ours), str(ours)]}, "network: lists one path twice"),
        ({"network": {"a b": str(ours), "a_b": str(other)}, "sigma": 50.0}, "would share files"),
        ({"network": str(ours), "protocol": "images-rgb"}, "3 channels, network ours restores 1"),
        ({"network": str(tmp_path / "none.pt")}, "none.pt: cannot be read"),
        ({"method": "tv", "sigma": 50.0, "protocol": "images-gray", "sheet_images": -1, "output": "x"}, "sheet_images"),
    ]
    for values, message in wrong:
        with pytest.raises(ValueError, match=message):
            score_methods(config(photographs, **values))
    with pytest.raises(ValueError, match="data.source: is missing"):
        score_methods(EvaluateConfig(method="tv", protocol="images-gray", sigma=50.0))


def test_paths_are_named_by_what_tells_them_apart():
    assert named_paths("network", "results/a/network.pt", ".pt") == {"network": Path("results/a/network.pt")}
    files = ["s/finals/1/network.pt", "s/finals/2/network.pt"]
    assert list(named_paths("network", files, ".pt")) == ["1/network", "2/network"]
    assert named_paths("restored", {"ours": "x"}) == {"ours": Path("x")} and named_paths("restored", None) == {}
    assert list(named_paths("restored", "folder/BM3D.v2")) == ["BM3D.v2"]


def test_another_process_gives_the_same_scores(tmp_path, photographs, monkeypatch):
    monkeypatch.setattr(commands, "WORTH_PROCESSES", 0.0)
    found = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        values = {"protocol": "images-gray", "sigma": 50.0, "processes": processes, "output": str(output)}
        # the first image is always restored here, the second one elsewhere
        score_methods(config(photographs, method="tv", images=2, **values))
        (evaluation,) = json.loads((output / "scores.json").read_text())["evaluations"]
        found.append([(row["image_id"], row["psnr"], row["ssim"]) for row in evaluation["scores"]])
    assert found[0] == found[1] and [row[0] for row in found[0]] == ["1", "2"]
    assert (tmp_path / "1/sheet.png").read_bytes() == (tmp_path / "2/sheet.png").read_bytes()


def test_self_ensemble_and_tiles_reach_the_network(tmp_path, photographs):
    ours = network_file(tmp_path / "ours.pt")
    network, _ = load_network(ours)
    source = np.asarray(Image.open(photographs / "1.png"))
    for values in ({}, {"self_ensemble": True}, {"tile": 16, "overlap": 4}):
        output = tmp_path / f"restored{len(values)}"
        files = {"network": str(ours), "input": str(photographs / "1.png"), "output": str(output)}
        restore_images(RestoreConfig(**files, **({"tile": None} | values)))
        expected = np.rint(restore(fast(network), source, **values) * 255)
        np.testing.assert_array_equal(np.asarray(Image.open(output / "1.png")), expected)
    score_methods(
        config(photographs, network=str(ours), self_ensemble=True, baselines=False, output=str(tmp_path / "x"))
    )
    (evaluation,) = json.loads((tmp_path / "x/scores.json").read_text())["evaluations"]
    assert evaluation["method"] == "ours (self-ensemble)"
    score_methods(config(photographs, network=str(ours), baselines=False, output=str(tmp_path / "y")))
    (plain,) = json.loads((tmp_path / "y/scores.json").read_text())["evaluations"]
    assert plain["psnr"] != evaluation["psnr"]
