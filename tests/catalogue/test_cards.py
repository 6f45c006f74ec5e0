"""The networks that ship: listed by their cards, loaded by their names, chosen by the images' colours."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from evaluation_cases import camera
from PIL import Image

import irnas_ray as ir
from irnas_ray.__main__ import main
from irnas_ray.catalogue import cards
from irnas_ray.datasets.whole_images import read_test_images
from irnas_ray.evaluation.restored_files import restore_images
from irnas_ray.networks.checkpoints import load_network, save_network
from irnas_ray.networks.derived import count_parameters
from irnas_ray.networks.inference import restorer
from irnas_ray.settings.commands import RestoreConfig
from irnas_ray.settings.study import Data

CARD = """\
---
license: apache-2.0
tags: [denoising]
irnas_ray:
  summary: {summary}
  channels: {channels}
  degradation: {degradation}
  sigma: {sigma}
  parameters: 112
---
# {summary}

Trained on nothing.
"""


def ship(folder: Path, name: str, channels: int = 1, sigma: str = "[0, 55]", degradation: str = "gaussian") -> None:
    """A network that was never trained, with its card, as a further one is added."""
    torch.manual_seed(len(name))
    save_network(ir.DnCNN(channels, depth=3, width=2), folder / f"{name}.pt")
    summary = f"Images of {channels} channels"
    fields = {"channels": channels, "sigma": sigma, "degradation": degradation, "summary": summary}
    (folder / f"{name}.md").write_text(CARD.format(**fields))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that takes the place of the one that ships, and another one to stand in."""
    monkeypatch.setattr(cards, "FOLDER", tmp_path / "shipped")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "shipped"


def test_a_file_and_its_card_are_all_that_a_network_needs(shelf, capsys):
    main(["networks"])
    assert capsys.readouterr().out.splitlines()[0].startswith("a name stands wherever")
    ship(shelf, "gray-noise")
    ship(shelf, "rgb-25", 3, "[25, 25]")
    main(["networks"])
    assert capsys.readouterr().out.splitlines()[:2] == [
        "gray-noise  Images of 1 channels (gray, 112 parameters)",
        "rgb-25      Images of 3 channels (RGB, 112 parameters)",
    ]
    main(["networks", "network=gray-noise"])
    assert capsys.readouterr().out == (shelf / "gray-noise.md").read_text()
    network, _ = load_network("gray-noise")
    loaded, _ = ir.load_network(shelf / "gray-noise.pt")
    assert all(map(torch.equal, network.state_dict().values(), loaded.state_dict().values()))
    Path("gray-noise").write_bytes(b"my own")
    with pytest.raises(ValueError, match="gray-noise: is truncated, damaged"):
        load_network("gray-noise")


def test_what_does_not_ship_is_refused_with_what_does(shelf, capsys):
    ship(shelf, "gray-noise")
    with pytest.raises(ValueError, match="gray: there is no such file, and the networks that ship are gray-noise"):
        load_network("gray")
    with pytest.raises(SystemExit) as caught:
        main(["networks", "network=gray"])
    assert caught.value.code == 2 and "gray does not ship; possible: gray-noise" in capsys.readouterr().err
    card = shelf / "gray-noise.md"
    for text in ("# No head\n", card.read_text().replace("channels: 1", ""), card.read_text().replace("[0, 55]", "x")):
        card.write_text(text)
        with pytest.raises(ValueError, match="gray-noise.md: its head does not say what it must"):
            cards.shipped_networks()
    card.unlink()
    with pytest.raises(ValueError, match="gray-noise.md: is missing; every network that ships has a card"):
        cards.shipped_networks()


def test_the_widest_range_of_noise_of_the_right_colour_is_chosen(shelf):
    with pytest.raises(ValueError, match="network: is missing, and none that ships fits; give it as network=PATH"):
        cards.fitting_network(1)
    ship(shelf, "gray-a-noise")
    ship(shelf, "gray-b-25", 1, "[25, 25]")
    ship(shelf, "rgb-rain", 3, "null", "paired")
    assert cards.fitting_network(1).name == cards.fitting_network(3).name == "gray-a-noise"
    ship(shelf, "rgb-25", 3, "[25, 25]")
    assert (cards.fitting_network(1).name, cards.fitting_network(3).name) == ("gray-a-noise", "rgb-25")


def test_a_photograph_alone_is_restored_beside_where_one_stands(shelf, tmp_path, capsys):
    ship(shelf, "gray-noise")
    ship(shelf, "rgb-noise", 3)
    photograph = tmp_path / "photo one.png"
    Image.fromarray(camera(size=(20, 30)).clean[0]).save(photograph)
    main(["restore", str(photograph)])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "network: gray-noise, Images of 1 channels; network=FILE takes another"
    assert told[1] == f"{photograph} -> photo one_restored.png"
    expected = ir.restore(load_network("gray-noise")[0], np.asarray(Image.open(photograph)))
    restored = np.asarray(Image.open("photo one_restored.png"))
    np.testing.assert_array_equal(restored, np.rint(expected * 255).astype(np.uint8))
    with pytest.raises(
        ValueError, match="photo one_restored.png exists; choose another output folder or add overwrite=true"
    ):
        restore_images(RestoreConfig(input=str(photograph)))
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "colour.png")
    restore_images(RestoreConfig(input=str(tmp_path / "colour.png"), output=str(tmp_path / "out")))
    assert Image.open(tmp_path / "out" / "colour.png").mode == "RGB"
    (shelf / "rgb-noise.pt").unlink()
    capsys.readouterr()
    restore_images(RestoreConfig(input=str(tmp_path / "colour.png")))
    assert "Images of 1 channels, for each colour apart;" in capsys.readouterr().out
    assert Image.open("colour_restored.png").mode == "RGB"
    with pytest.raises(ValueError, match="output: is missing; give it as output=PATH"):
        restore_images(RestoreConfig(input=str(tmp_path)))


def test_what_ships_is_small_described_and_free():
    """Of those that are in the tree."""
    networks = cards.shipped_networks()
    files = [*cards.FOLDER.glob("*.pt"), *cards.FOLDER.glob("*.md")]
    assert sum(path.stat().st_size for path in files) < 3e6
    assert {path.stem for path in files} == {network.name for network in networks}
    for shipped in networks:
        network, notes = load_network(shipped.name)
        assert (network.channels, count_parameters(network)) == (shipped.channels, shipped.parameters)
        text = shipped.card.read_text(encoding="utf-8")
        assert "license:" in text and "datasets:" in text and len(text) < 8000 and isinstance(notes, dict)


def test_the_command_of_a_card_trains_as_the_card_says():
    """Whatever the defaults of its search space have become."""
    for shipped in cards.shipped_networks():
        text = shipped.card.read_text(encoding="utf-8")
        command = shlex.split(text.split("```sh\n")[1].split("```")[0].replace("\\\n", " "))
        assert command[:2] == ["irnas-ray", "retrain"]
        final = ir.compose("retrain", command[2:]).final
        said = re.search(r"([\d,]+) steps of AdamW, batches of four crops of 64 x 64\s+pixels( in bfloat16)?", text)
        assert said, shipped.name
        precision = "bfloat16" if said[2] else "float32"
        told = ("adamw", int(said[1].replace(",", "")), 4, 64, precision)
        assert (final.optimizer, final.steps, final.batch, final.crop, final.precision) == told, shipped.name


def test_what_ships_scores_what_its_card_says():
    """Measured again on the photographs of scikit-image that nothing was trained on."""
    networks = cards.shipped_networks()
    assert networks
    for shipped in networks:
        network, _ = load_network(shipped.name)
        scores = yaml.safe_load(shipped.card.read_text(encoding="utf-8").split("---\n")[1])["irnas_ray"]["scores"]
        assert scores
        color = "gray" if shipped.channels == 1 else "rgb"
        images = list(read_test_images(Data(form="photographs", color=color)))
        for score in scores:
            found = ir.evaluate(restorer(network), images, ir.get_protocol(score["protocol"]), score.get("sigma"))
            assert found.psnr == pytest.approx(score["psnr"], abs=0.02), (shipped.name, score)
