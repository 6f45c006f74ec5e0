"""`irnas-ray export`: files that other runtimes read, that restore the same, and that score the same."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from evaluation_cases import camera
from export_cases import settled, small_network
from PIL import Image
from torch import nn

import irnas_ray as ir
from irnas_ray.evaluation.commands import score_methods
from irnas_ray.evaluation.restored_files import restore_images
from irnas_ray.export import file_formats
from irnas_ray.export.commands import export_network
from irnas_ray.export.exported_network import load_any, load_exported
from irnas_ray.networks.checkpoints import save_network
from irnas_ray.settings.commands import EvaluateConfig, ExportConfig, RestoreConfig
from irnas_ray.settings.study import Data

NOTES = {"protocol": "images-gray", "sigma": 50.0}
SHAPES = ((1, 33, 21), (3, 18, 48))


def denoiser() -> nn.Module:
    genotype = ir.load_genotype("irnas_denoise")
    sizes = {"stem_channels": 4, "aspp_channels": 4, "low_level_channels": 2}
    torch.manual_seed(0)
    return settled(ir.DerivedNetwork(genotype, 1, 4, **sizes))


#: The paper's network and a smaller one with deformable convolutions; other macro choices; one without a genotype.
NETWORKS: dict[str, Any] = {
    "irnas_denoise": denoiser,
    "deformable": lambda: small_network(ir.Macro(), "def sep dil skip", levels=(0,)),
    "lower level": lambda: small_network(ir.Macro(unshuffle=4, lower_level=True), "conv dil gate skip", levels=(0,)),
    "dncnn": lambda: ir.DnCNN(1, depth=3, width=4).eval(),
}


def exported(tmp_path: Path, network: nn.Module, name: str) -> Path:
    save_network(network, tmp_path / "network.pt", NOTES)
    export_network(ExportConfig(network=str(tmp_path / "network.pt"), format=name))
    return tmp_path / f"network{file_formats.FORMATS[name].suffix}"


@pytest.mark.parametrize("name", [pytest.param("irnas_denoise", marks=pytest.mark.whole), *list(NETWORKS)[1:]])
def test_onnx_restores_the_same_at_any_size(tmp_path, name, capsys):
    network = NETWORKS[name]()
    path = exported(tmp_path, network, "onnx")
    onnx.checker.check_model(str(path))
    # as another program would, without this package
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, *size in SHAPES:
        image = torch.rand(batch, network.channels, *size)
        (restored,) = session.run(["restored"], {"degraded": image.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(restored, network(image).numpy(), rtol=0, atol=1e-5)
    needs = json.loads((tmp_path / "network.onnx.json").read_text())
    assert needs["opset"] == onnx.load(path).opset_import[0].version == 18
    assert ("GridSample" in needs["operators"]) == (name in ("irnas_denoise", "deformable")) and needs["notes"] == NOTES
    assert "onnxruntime 1.18 or newer" in needs["runtimes"] and len(needs["checked"]) == 2
    assert max(row["largest_difference"] for row in needs["checked"]) < 1e-5
    assert str(Path(ir.__file__).parent).encode() not in path.read_bytes()
    assert "differs from PyTorch by" in capsys.readouterr().out


def test_exported_files_score_and_restore_as_the_network_does(tmp_path):
    macro = ir.Macro(unshuffle=2, normalisation="none", aspp=False, low_level=False, head="plain")
    network = small_network(macro, "gate sep conv skip", levels=(0,))
    files = [exported(tmp_path, network, name) for name in ("onnx", "torch_export")]
    # as another program would, without this package
    program = torch.export.load(files[1]).module()
    for batch, *size in SHAPES:
        image = torch.rand(batch, 1, *size)
        with torch.no_grad():
            torch.testing.assert_close(program(image), network(image), rtol=0, atol=1e-5)
    assert str(Path(ir.__file__).parent).encode() not in files[1].read_bytes()
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for name, size in {"1": (40, 52), "2": (37, 33)}.items():
        Image.fromarray(camera(size=size).clean[0]).save(photographs / f"{name}.png")
    paths = [str(path) for path in (tmp_path / "network.pt", *files)]
    data = Data(form="images", source=str(photographs))
    score_methods(EvaluateConfig(network=paths, baselines=False, data=data, output=str(tmp_path / "scores")))
    first, *others = json.loads((tmp_path / "scores/scores.json").read_text())["evaluations"]
    assert [row["method"] for row in others] == ["network.onnx", "network.pt2"] and first["sigma"] == 50.0
    for other in others:
        for ours, theirs in zip(first["scores"], other["scores"], strict=True):
            assert theirs["psnr"] == pytest.approx(ours["psnr"], abs=1e-3)
            assert theirs["ssim"] == pytest.approx(ours["ssim"], abs=1e-5)
    for number, path in enumerate(paths[:2]):
        restore_images(RestoreConfig(path, input=str(photographs / "1.png"), output=str(tmp_path / str(number))))
    pictures = [np.asarray(Image.open(tmp_path / str(number) / "1.png")).astype(int) for number in range(2)]
    assert np.abs(pictures[1] - pictures[0]).max() <= 1
    small, _ = load_any(files[0])
    with pytest.raises(ValueError, match="no image with a side below 3 pixels"):
        small(torch.rand(1, 1, 2, 9))


def test_nothing_is_written_that_differs_or_replaces_a_file(tmp_path, monkeypatch):
    save_network(ir.DnCNN(1, depth=2, width=2).eval(), tmp_path / "network.pt")
    config = ExportConfig(network=str(tmp_path / "network.pt"), format="torch_export")
    monkeypatch.setattr(
        file_formats, "plain", lambda network: ir.DnCNN(1, depth=2, width=3).eval().requires_grad_(False)
    )
    assert {path.name for path in tmp_path.iterdir()} == {"network.pt"}
    monkeypatch.setattr(file_formats, "TOLERANCE", -1.0)
    with pytest.raises(
        ValueError, match=r"network.pt: the exported file differs from PyTorch by .* nothing was written"
    ):
        export_network(config)
    monkeypatch.undo()
    export_network(config)
    before = (tmp_path / "network.pt2").read_bytes()
    with pytest.raises(ValueError, match="network.pt2 exists; choose another output or add overwrite=true"):
        export_network(config)
    assert (tmp_path / "network.pt2").read_bytes() == before
    export_network(ExportConfig(config.network, "torch_export", overwrite=True))


class Branching(nn.Module):
    """What no exporter can follow."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * 2 if image.sum() > 3 else image


def test_what_cannot_be_exported_is_refused_with_a_reason(tmp_path, monkeypatch):
    network = str(tmp_path / "network.pt")
    save_network(ir.UserNetwork(Branching, channels=1), network)
    name = f"{Branching.__module__}:Branching"
    with pytest.raises(ValueError, match=r"network.pt: PyTorch cannot export this network \("):
        export_network(ExportConfig(network, "torch_export", network_class=name))
    with pytest.raises(ValueError, match="format: unknown 'tflite'; possible: onnx, torch_export"):
        export_network(ExportConfig(network, "tflite"))
    with pytest.raises(ValueError, match="does not end in .onnx, as files of format=onnx do"):
        export_network(ExportConfig(network, output="x.pt2"))
    with pytest.raises(ValueError, match="network: is missing"):
        export_network(ExportConfig())
    monkeypatch.setattr(file_formats.importlib.util, "find_spec", lambda name: None if "onnx" in name else name)
    with pytest.raises(
        ValueError, match=r"format: onnx needs onnx, onnxscript, onnxruntime; pip install 'irnas_ray\[ex"
    ):
        export_network(ExportConfig(network))


def test_files_that_no_export_wrote_are_refused_and_run_nothing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="none.onnx: cannot be read"):
        load_exported(tmp_path / "none.onnx")
    for suffix in (".onnx", ".pt2"):
        (tmp_path / f"noise{suffix}").write_bytes(b"noise" * 100)
        with pytest.raises(ValueError, match=f"noise{suffix}: is damaged, or irnas-ray export did not write it"):
            load_exported(tmp_path / f"noise{suffix}")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"onnxruntime is not installed; pip install 'irnas_ray\[export\]'"):
        load_exported(tmp_path / "noise.onnx")


class Touch:
    """Pickled as a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pt2_file_runs_no_code_of_its_maker(tmp_path):
    path = exported(tmp_path, ir.DnCNN(1, depth=2, width=2).eval(), "torch_export")
    pickled = io.BytesIO()
    torch.save(Touch(tmp_path / "touched"), pickled)
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(tmp_path / "evil.pt2", "w") as evil:
        for name in good.namelist():
            content = good.read(name)
            if name.endswith("weights_config.json"):
                config = json.loads(content)
                for entry in config["config"].values():
                    entry["use_pickle"] = True
                content = json.dumps(config).encode()
            elif "/weights/weight" in name:
                content = pickled.getvalue()
            evil.writestr(name, content)
    with pytest.raises(ValueError, match="evil.pt2: is damaged, or"):
        load_exported(tmp_path / "evil.pt2")
    assert not (tmp_path / "touched").exists() and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    # the file does hold what would run
    with pytest.raises(Exception):  # noqa: B017
        torch.export.load(tmp_path / "evil.pt2")
    assert (tmp_path / "touched").exists()
