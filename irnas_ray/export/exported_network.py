"""Networks read back from files that ``irnas-ray export`` wrote: they restore, and can do nothing else."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.networks.checkpoints import load_network
from irnas_ray.networks.user_network import NetworkClass
from irnas_ray.system.environment import variable_set

#: Where the files keep channels, smallest side and notes: an entry of ONNX's metadata, a file in a .pt2.
METADATA, PT2_METADATA = "irnas_ray", "irnas_ray.json"
SUFFIXES = (".onnx", ".pt2")
#: torch obeys it: whoever made a file must not run code here.
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class ExportedNetwork(nn.Module):
    """A network of an exported file: takes and gives images (b c h w) in [0, 1], on the CPU.

    ``apply`` is what the file does. Raises ValueError for images whose height or width is below ``least_side`` pixels.
    """

    def __init__(self, apply: Callable[[Tensor], Tensor], channels: int, least_side: int) -> None:
        super().__init__()
        self.apply_file, self.channels, self.least_side = apply, channels, least_side
        self.pixel_step = max(1, least_side - 1)

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The restored image of a degraded one."""
        if min(image.shape[-2:]) < self.least_side:
            raise ValueError(f"the exported network restores no image with a side below {self.least_side} pixels")
        return self.apply_file(image)


def load_any(
    path: str | Path, device: torch.device | str = "cpu", network_class: NetworkClass | str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a ``network.pt`` or of an exported file, told by its suffix, and its notes; ValueError otherwise.

    Exported files run on the CPU, whatever the device.
    """
    if Path(path).suffix.lower() in SUFFIXES:
        return load_exported(path)
    return load_network(path, device, network_class)


def load_exported(path: str | Path, content: bytes | None = None) -> tuple[ExportedNetwork, dict[str, Any]]:
    """The network of an exported file and its notes; ``content`` takes the place of what the file holds.

    Raises ValueError naming the file if it cannot be read, no ``irnas-ray export`` wrote it, or onnxruntime is missing.
    """
    try:
        content = Path(path).read_bytes() if content is None else content
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    read = _read_onnx if Path(path).suffix.lower() == ".onnx" else _read_torch_export
    try:
        apply, text = read(content)
        metadata = json.loads(text)
        return ExportedNetwork(apply, metadata["channels"], metadata["least_side"]), dict(metadata["notes"])
    except ImportError:
        raise ValueError(f"{path}: onnxruntime is not installed; pip install 'irnas_ray[export]'") from None
    except Exception:  # both libraries meet damaged bytes with errors of many kinds
        raise ValueError(f"{path}: is damaged, or irnas-ray export did not write it") from None


def _read_onnx(content: bytes) -> tuple[Callable[[Tensor], Tensor], str]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()

    def apply(image: Tensor) -> Tensor:
        (restored,) = session.run(None, {given.name: image.detach().cpu().float().contiguous().numpy()})
        return torch.from_numpy(restored).to(image.device)

    return apply, session.get_modelmeta().custom_metadata_map[METADATA]


def _read_torch_export(content: bytes) -> tuple[Callable[[Tensor], Tensor], str]:
    kept = {PT2_METADATA: ""}
    with variable_set(WEIGHTS_ONLY):
        module = torch.export.load(io.BytesIO(content), extra_files=kept).module()
    return (lambda image: module(image.cpu().float()).to(image.device)), kept[PT2_METADATA]
