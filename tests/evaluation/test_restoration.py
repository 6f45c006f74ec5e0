"""What `restore` makes of files: depth, alpha, profile, resolution and EXIF stay, and a bad file ends no batch."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from command_line_cases import ROOT
from picture_cases import write_deep_png
from PIL import Image, ImageCms

from irnas_ray.__main__ import main
from irnas_ray.degradations.downscale import enlarged
from irnas_ray.evaluation.commands import score_methods
from irnas_ray.evaluation.restored_files import restore_images
from irnas_ray.evaluation.scores import save_pictures
from irnas_ray.images import attributes, pillow
from irnas_ray.images.attributes import Attributes
from irnas_ray.networks.checkpoints import load_network, save_network
from irnas_ray.networks.dncnn import DnCNN
from irnas_ray.networks.inference import restore
from irnas_ray.settings.commands import EvaluateConfig, RestoreConfig
from irnas_ray.settings.study import Data

CASES = ROOT.parent / "shared" / "cases"
RGB, RGBA = 2, 6
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def network(path: Path, channels: int, changes: bool = False) -> str:
    """A network file; untrained DnCNN changes nothing, unless its last layer is drawn anew."""
    torch.manual_seed(0)
    made = DnCNN(channels, depth=3, width=4)
    if changes:
        torch.nn.init.normal_(made.layers[-1].weight, std=0.05)  # type: ignore[arg-type]
    save_network(made, path)
    return str(path)


def noise(*shape: int, seed: int = 0, kind: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, shape, dtype=kind)


def run(tmp_path: Path, file: Path, channels: int, changes: bool = False, **values: Any) -> Path:
    """The result of a file."""
    made = network(tmp_path / "network.pt", channels, changes)
    restore_images(RestoreConfig(made, input=str(file), output=str(tmp_path / "out"), **values))
    return tmp_path / "out" / f"{file.stem}.png"


def status(*words: str) -> object:
    with pytest.raises(SystemExit) as caught:
        main(["restore", *words])
    return caught.value.code


def batch(folder: Path) -> bytes:
    """Three JPEGs, of which the middle one is cut; its whole content."""
    folder.mkdir()
    for index in range(3):
        Image.fromarray(noise(40, 50, seed=index)).save(folder / f"{index}.jpg")
    whole = (folder / "1.jpg").read_bytes()
    (folder / "1.jpg").write_bytes(whole[: len(whole) // 2])
    return whole


def test_a_bad_file_does_not_end_a_batch_and_the_same_command_does_what_is_missing(tmp_path, capsys):
    whole = batch(tmp_path / "in")
    made, out = network(tmp_path / "network.pt", 1), tmp_path / "out"
    words = [f"network={made}", f"input={tmp_path / 'in'}", f"output={out}"]
    assert status(*words) == 1
    said = capsys.readouterr()
    assert f"{tmp_path / 'in' / '1.jpg'}: cannot be read as an image" in said.err and "of 3 images not all" in said.err
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert sorted(path.name for path in before) == ["0.png", "2.png"]
    assert status(*words) == 1
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    (tmp_path / "in" / "1.jpg").write_bytes(whole)
    main(["restore", *words])
    assert {path: path.stat().st_mtime_ns for path in before} == before and (out / "1.png").exists()
    main(["restore", *words])  # nothing is left to do


def test_what_another_call_made_is_neither_kept_as_done_nor_replaced(tmp_path):
    batch(tmp_path / "in")
    shutil.copy(tmp_path / "in" / "0.jpg", tmp_path / "in" / "1.jpg")
    files = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out")}
    made = network(tmp_path / "network.pt", 1)
    restore_images(RestoreConfig(made, **files))
    for changed in ({"tile": 16}, {"self_ensemble": True}):
        with pytest.raises(ValueError, match=r"0.png exists; choose another output folder or add overwrite=true"):
            restore_images(RestoreConfig(made, **files, **changed))
    other = network(tmp_path / "other.pt", 1, changes=True)
    with pytest.raises(ValueError, match=r"0.png exists"):
        restore_images(RestoreConfig(other, **files))
    Image.fromarray(noise(40, 50, seed=9)).save(tmp_path / "in" / "2.jpg")
    with pytest.raises(ValueError, match=r"2.png exists"):
        restore_images(RestoreConfig(made, **files))
    restore_images(RestoreConfig(other, **files, overwrite=True))
    with pytest.raises(ValueError, match=r"0.png exists"):
        restore_images(RestoreConfig(other, input=str(tmp_path / "in" / "0.jpg"), output=str(tmp_path / "out")))


def test_colours_that_do_not_fit_are_bad_files_too(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(noise(20, 30)).save(tmp_path / "in" / "gray.png")
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "in" / "rgb.png")
    with pytest.raises(ValueError, match=r"(?s)not all.*rgb.png is a colour image.*color=luma or color=each"):
        run(tmp_path, tmp_path / "in", 1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["gray.png"]


def tagged(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[274], exif[315] = orientation, "A Photographer"
    exif.get_ifd(0x8769)[33434] = 0.01
    return exif


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_profile_resolution_and_exif_stay(tmp_path, name):
    options: dict[str, Any] = {"icc_profile": PROFILE, "dpi": (300, 150)}
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / name, exif=tagged(), **options)
    with Image.open(run(tmp_path, tmp_path / name, 3)) as image:
        assert image.info["icc_profile"] == PROFILE
        if name != "a.webp":  # which has no resolution
            assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        exif = image.getexif()
        assert exif[315] == "A Photographer"
        if name != "a.tif":  # into which Pillow does not write it
            assert float(exif.get_ifd(0x8769)[33434]) == pytest.approx(0.01)
        assert not {273, 279, 259, 274} & set(exif)


def test_a_turned_picture_is_stored_upright(tmp_path):
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "a.png", exif=tagged(6), dpi=(300, 150))
    with Image.open(run(tmp_path, tmp_path / "a.png", 3)) as image:
        assert image.size == (20, 30) and image.info["dpi"] == pytest.approx((150, 300), abs=0.02)
        assert 274 not in image.getexif()
        assert np.array_equal(np.asarray(image), np.rot90(noise(20, 30, 3), -1))


def test_a_profile_of_other_colours_is_left_out(tmp_path):
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "a.png", icc_profile=PROFILE)
    with Image.open(run(tmp_path, tmp_path / "a.png", 1, color="gray")) as image:
        assert image.mode == "L" and "icc_profile" not in image.info


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_carried_over(tmp_path, mode):
    pixels = noise(20, 30, len(mode))
    Image.fromarray(pixels, mode).save(tmp_path / "a.png")
    with Image.open(run(tmp_path, tmp_path / "a.png", len(mode) - 1)) as image:
        assert image.mode == mode and np.array_equal(np.asarray(image), pixels)


def test_a_transparent_palette_becomes_alpha(tmp_path):
    picture = Image.fromarray(noise(20, 30, 3)).quantize(8)
    picture.save(tmp_path / "a.png", transparency=3)
    with Image.open(run(tmp_path, tmp_path / "a.png", 3)) as image:
        assert np.array_equal(np.asarray(image)[..., 3] == 0, np.asarray(picture) == 3)


@pytest.mark.parametrize("name", ["gray.png", "rgb.png", "rgba.png", "gray.tif", "rgb.tif", "rgba.tif"])
def test_16_bits_stay_16_bits(tmp_path, name):
    channels = {"gray": 1, "rgb": 3, "rgba": 4}[name.partition(".")[0]]
    pixels = noise(300, 31, channels, kind=np.uint16)
    if name.endswith("png"):
        write_deep_png(tmp_path / name, pixels, {1: 0, 3: RGB, 4: RGBA}[channels])
    else:
        extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        photometric = "minisblack" if channels == 1 else "rgb"
        tifffile.imwrite(tmp_path / name, pixels.squeeze(), photometric=photometric, **extra)
    result = run(tmp_path, tmp_path / name, min(channels, 3))
    found = pillow.read(result, alpha=True)
    assert found.white == 65535 and np.array_equal(found.values.reshape(300, 31, -1), pixels[..., :3])
    assert (found.alpha is None) == (channels < 4) and (channels < 4 or np.array_equal(found.alpha, pixels[..., 3]))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_each_channel_or_luma_goes_through_a_gray_network(tmp_path, kind):
    pixels = noise(24, 30, 3, kind=kind) // 2 + np.iinfo(kind).max // 4
    write_deep_png(tmp_path / "a.png", pixels, RGB) if kind == np.uint16 else Image.fromarray(pixels).save(
        tmp_path / "a.png"
    )
    largest = np.iinfo(kind).max
    inputs = pixels.astype(np.float32) / largest
    found = {}
    for color in ("each", "luma"):
        path = run(tmp_path, tmp_path / "a.png", 1, changes=True, color=color, overwrite=True)
        found[color] = pillow.read(path).values.astype(float) / largest
    made, _ = load_network(tmp_path / "network.pt")
    each = np.stack([restore(made, np.ascontiguousarray(inputs[..., channel])) for channel in range(3)], axis=2)
    assert abs(found["each"] - each).max() <= 0.51 / largest + 1e-6
    weights = np.array([0.299, 0.587, 0.114])
    luma = restore(made, (inputs @ weights).astype(np.float32))
    free = ((found["luma"] > 0) & (found["luma"] < 1)).all(axis=2)
    assert free.mean() > 0.5 and abs(found["luma"] @ weights - luma)[free].max() < 1 / largest + 1e-6
    # what is no luma stays as it was
    chroma = [values - (values @ weights)[..., None] for values in (found["luma"], inputs)]
    assert abs(chroma[0] - chroma[1])[free].max() < 1.1 / largest + 1e-6
    assert abs(found["each"] - found["luma"]).max() > 0.01


def test_names_of_255_bytes(tmp_path):
    """Of images, networks and what they are scored by; what would be longer is cut and told apart by a digest."""
    (tmp_path / "in").mkdir()
    for name in ("x" * 251 + ".png", "\u00e9" * 125 + ".tiff"):
        assert len(name.encode()) == 255
        Image.fromarray(noise(20, 30)).save(tmp_path / "in" / name)
    made = network(tmp_path / ("n" * 252 + ".pt"), 1)
    restore_images(RestoreConfig(made, input=str(tmp_path / "in"), output=str(tmp_path / "out")))
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {path.stem for path in (tmp_path / "in").iterdir()}
    data = Data(source=str(tmp_path / "in"), form="images")
    scored = EvaluateConfig(made, data=data, protocol="images-gray", sigma=25.0, baselines=False, self_ensemble=True)
    scored.output = str(tmp_path / "scored")
    score_methods(scored)
    (table,) = (tmp_path / "scored" / "per_image").iterdir()
    assert len(table.name) == 255 and len(list((tmp_path / "scored" / "images").rglob("*.png"))) == 2
    pictures = {"y" * 252: torch.zeros(1, 9, 9), "y" * 253: torch.zeros(1, 9, 9)}
    paths = save_pictures(tmp_path / "pictures", pictures)
    assert len({path.name for path in paths}) == 2 and all(path.exists() for path in paths)


def test_a_picture_larger_than_the_bound_needs_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 250)
    Image.fromarray(noise(20, 30)).save(tmp_path / "a.png")
    with pytest.raises(
        ValueError, match="a.png: is larger than 0 megapixels; .* max_megapixels=N of `irnas-ray restore`"
    ):
        run(tmp_path, tmp_path / "a.png", 1)
    assert run(tmp_path, tmp_path / "a.png", 1, max_megapixels=0.001).exists()
    assert Image.MAX_IMAGE_PIXELS == 250
    with pytest.raises(ValueError, match="max_megapixels: more than 179 only in tiles; add their side"):
        run(tmp_path, tmp_path / "a.png", 1, max_megapixels=200, tile=None)


def test_bad_files_do_not_end_an_evaluation(tmp_path, capsys):
    batch(tmp_path / "in")
    made, out = network(tmp_path / "network.pt", 1), tmp_path / "scored"
    shutil.copytree(tmp_path / "in", tmp_path / "theirs")
    (tmp_path / "theirs" / "2.jpg").write_bytes(b"no picture")
    values: dict[str, Any] = {"protocol": "images-gray", "sigma": 25.0, "baselines": False, "sheet_images": 1}

    def score() -> dict[str, Any]:
        data = Data(source=str(tmp_path / "in"), form="images")
        config = EvaluateConfig(made, data=data, restored=str(tmp_path / "theirs"), output=str(out), **values)
        try:
            score_methods(config)
        finally:
            capsys.readouterr()
        return json.loads((out / "scores.json").read_text())

    with pytest.raises(
        ValueError, match=r"(?s)the rest is scored.*in/1.jpg: cannot be read.*theirs: .*2.jpg: cannot be"
    ):
        score()
    record = json.loads((out / "scores.json").read_text())
    (evaluation,) = record["evaluations"]
    assert [row["image_id"] for row in evaluation["scores"]] == ["0", "2"] and len(record["not_scored"]) == 2
    for folder in ("in", "theirs"):
        for index in range(3):
            Image.fromarray(noise(40, 50, seed=index)).save(tmp_path / folder / f"{index}.jpg")
    record = score()  # the same command
    assert [len(evaluation["scores"]) for evaluation in record["evaluations"]] == [3, 3] and "not_scored" not in record
    with pytest.raises(ValueError, match="not an empty folder"):
        score()


def test_text_and_pixels_of_a_png_come_back(tmp_path):
    attributes.write_png(
        tmp_path / "a.png", [noise(3, 4)[:1], noise(3, 4)[1:]], 3, Attributes(texts={"Name": "caf\u00e9"})
    )
    assert attributes.read_text(tmp_path / "a.png", "Name") == "caf\u00e9"
    assert attributes.read_text(tmp_path / "a.png", "Other") is attributes.read_text(tmp_path / "b.png", "Name") is None
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), noise(3, 4))


def test_a_png_whose_pixels_fail_midway_is_not_there(tmp_path):
    def bands():
        yield noise(3, 4)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        attributes.write_png(tmp_path / "a.png", bands(), 6, Attributes())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared files are not here")
def test_files_that_went_wrong(tmp_path):
    with Image.open(CASES / "icc.png") as before, Image.open(run(tmp_path, CASES / "icc.png", 3)) as after:
        assert after.info["icc_profile"] == before.info["icc_profile"] and after.info["dpi"] == before.info["dpi"]
    with pytest.raises(ValueError, match="of 3 images not all"):
        run(tmp_path, CASES / "truncated", 1, color="gray")
    assert len(list((tmp_path / "out").iterdir())) == 3


def enlarging(path: Path, channels: int, factor: int) -> str:
    """A network file of super-resolution, whose network changes nothing but what is enlarged."""
    notes = {"degradation": {"kind": "downscale", "downscale": {"factor": factor}}}
    save_network(DnCNN(channels, depth=3, width=4), path, notes)
    return str(path)


def bicubic(pixels: np.ndarray, factor: int, largest: int = 255) -> np.ndarray:
    planes = torch.from_numpy(np.atleast_3d(pixels) / largest).permute(2, 0, 1)[None]
    larger = (enlarged(planes, factor)[0].clamp(0, 1) * largest).round().permute(1, 2, 0).numpy()
    return larger.reshape(*larger.shape[:2], *pixels.shape[2:])


@pytest.mark.parametrize("factor", [2, 3])
def test_a_network_of_super_resolution_enlarges_what_it_restores(tmp_path, capsys, factor):
    # in a range that interpolation does not leave, because luma is clipped before colours are added
    pixels, deep = 80 + noise(20, 31, 4) // 3, noise(9, 12, 1, kind=np.uint16)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    write_deep_png(tmp_path / "deep.png", deep, 0)
    gray, colour = (enlarging(tmp_path / f"{channels}.pt", channels, factor) for channels in (1, 3))
    for made, color in ((colour, None), (gray, "each"), (gray, "luma")):
        values = {"input": str(tmp_path / "a.png"), "output": str(tmp_path / f"{made}-{color}"), "color": color}
        restore_images(RestoreConfig(made, tile=16, **values))
        assert f"images are enlarged {factor} times first, as for the network's training" in capsys.readouterr().out
        with Image.open(tmp_path / f"{made}-{color}" / "a.png") as image:
            off = np.abs(np.asarray(image) - bicubic(pixels, factor))
            assert image.mode == "RGBA" and off.max() <= 1 and (off > 0).mean() < 0.01
    restore_images(RestoreConfig(gray, input=str(tmp_path / "deep.png"), output=str(tmp_path / "deep")))
    found = pillow.read(tmp_path / "deep" / "deep.png").values
    assert np.abs(found - bicubic(deep, factor, 65535)[:, :, 0]).max() <= 1


def test_enlarging_is_chosen_and_bounded(tmp_path, capsys):
    Image.fromarray(noise(20, 30)).save(tmp_path / "a.png")
    file, out = {"input": str(tmp_path / "a.png")}, tmp_path / "out"
    made, plain = enlarging(tmp_path / "x2.pt", 1, 2), network(tmp_path / "plain.pt", 1)
    for name, chosen, sides in ((made, 1, (30, 20)), (plain, 3, (90, 60)), (plain, None, (30, 20))):
        restore_images(RestoreConfig(name, output=str(out), upscale=chosen, overwrite=True, **file))
        with Image.open(out / "a.png") as image:
            assert image.size == sides
    assert "enlarged" not in capsys.readouterr().out
    (tmp_path / "in").mkdir()
    shutil.copy(tmp_path / "a.png", tmp_path / "in")
    folders = {"input": str(tmp_path / "in"), "output": str(tmp_path / "twice")}
    restore_images(RestoreConfig(plain, upscale=2, **folders))
    restore_images(RestoreConfig(plain, upscale=2, **folders))  # nothing is left to do
    with pytest.raises(ValueError, match=r"a.png exists"):
        restore_images(RestoreConfig(plain, upscale=3, **folders))
    with pytest.raises(ValueError, match=r"would have 5 megapixels when it is enlarged 4 times, more than max_meg"):
        Image.fromarray(np.zeros((500, 600), np.uint8)).save(tmp_path / "b.png")
        large = {"input": str(tmp_path / "b.png"), "output": str(tmp_path / "large")}
        restore_images(RestoreConfig(plain, upscale=4, max_megapixels=4, **large))
    save_network(DnCNN(1, depth=3, width=4), made, {"degradation": {"kind": "downscale", "downscale": {"factor": 9}}})
    with pytest.raises(ValueError, match=r"x2.pt: downscale.factor: 9; possible: 2, 3, 4"):
        restore_images(RestoreConfig(made, output=str(out), **file))
    assert status(f"network={made}", *(f"{key}={value}" for key, value in file.items()), "upscale=9") == 2
    assert "upscale: 9; at least 1 and at most 8" in capsys.readouterr().err
