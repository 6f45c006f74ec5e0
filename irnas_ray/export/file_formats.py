"""The files that other tools read: what is in them, what they need, and that they hold the network that was given."""

import importlib.util
import io
import json
import logging
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from irnas_ray.export.exported_network import METADATA, PT2_METADATA, ExportedNetwork
from irnas_ray.export.plain_network import least_side, plain
from irnas_ray.system.exit_status import WrongSetting

#: The operator set of ONNX that is written: the oldest that the exporter knows, so that most runtimes read it.
OPSET = 18
#: The version of the ONNX file format, and the first onnxruntime that reads it.
IR_VERSION, FIRST_ONNXRUNTIME = 10, "1.18"
#: Largest difference from PyTorch, for images in [0, 1], and the sizes (height, width) at which it is looked at.
TOLERANCE = 1e-4
CHECKED_SIZES = ((37, 50), (64, 41))
#: Batch, height and width with which the network is traced; none of them stays in the file.
TRACED = (2, 42, 54)
INPUT, OUTPUT = "degraded", "restored"


@dataclass(frozen=True)
class FileFormat:
    """A format: the suffix of its files, and what must be installed to write and to read them."""

    suffix: str
    writing: tuple[str, ...]
    reading: tuple[str, ...]


FORMATS = {
    "onnx": FileFormat(".onnx", ("onnx", "onnxscript"), ("onnxruntime",)),
    "torch_export": FileFormat(".pt2", (), ()),
}


def check_format(name: str) -> FileFormat:
    """The format of this name; WrongSetting that lists the possible ones, or says what is not installed."""
    if name not in FORMATS:
        raise WrongSetting(f"format: unknown {name!r}; possible: {', '.join(FORMATS)}")
    kind = FORMATS[name]
    missing = [package for package in (*kind.writing, *kind.reading) if importlib.util.find_spec(package) is None]
    if missing:
        raise WrongSetting(
            f"format: {name} needs {', '.join(missing)}; pip install 'irnas_ray[export]', or choose format=torch_export"
        )
    return kind


def written_as(name: str, network: nn.Module, notes: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a file that holds the network with its notes, and what is said of its content.

    Raises ValueError if PyTorch cannot export the network, or JSON cannot hold a note.
    """
    channels: int = network.channels  # type: ignore[assignment]
    try:
        json.dumps(notes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"notes: {error}; save the network with text, numbers, lists or dicts for notes") from None
    metadata = json.dumps({"channels": channels, "least_side": least_side(network), "notes": notes})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = _traced(plain(network), channels, least_side(network))
        return _onnx(program, metadata) if name == "onnx" else _torch_export(program, metadata)


def _traced(network: nn.Module, channels: int, least: int) -> ExportedProgram:
    batch, height, width = TRACED
    sizes = {0: Dim("batch"), 2: Dim("height", min=least), 3: Dim("width", min=least)}
    example = torch.rand(batch, channels, height, width)
    try:
        program = torch.export.export(network, (example,), dynamic_shapes=(sizes,))
    except Exception as error:  # a user's own network may hold anything
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"PyTorch cannot export this network ({type(error).__name__}: {reason})") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # folders of this machine are nobody's business
    return program


def _torch_export(program: ExportedProgram, metadata: str) -> tuple[bytes, dict[str, Any]]:
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={PT2_METADATA: metadata})
    version = torch.__version__.partition("+")[0]
    return file.getvalue(), {"runtimes": [f"torch {version} or newer"]}


def _onnx(program: ExportedProgram, metadata: str) -> tuple[bytes, dict[str, Any]]:
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    exported = torch.onnx.export(
        program,
        opset_version=OPSET,
        dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
        input_names=[INPUT],
        output_names=[OUTPUT],
        verbose=False,
    )
    assert exported is not None
    exported.model.ir_version = IR_VERSION
    model: Any = exported.model_proto
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        # half of the file, and of use only to who wrote the exporter
        del part.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, metadata
    return model.SerializeToString(), {
        "opset": OPSET,
        "ir_version": IR_VERSION,
        "operators": sorted({node.op_type for node in model.graph.node}),
        "runtimes": [
            f"onnxruntime {FIRST_ONNXRUNTIME} or newer",
            f"any runtime of ONNX opset {OPSET} with these operators",
        ],
    }


def check_same(network: nn.Module, exported: ExportedNetwork) -> list[dict[str, Any]]:
    """The largest differences between what both make of noise, at two sizes; ValueError if one exceeds the tolerance.

    Where results leave [0, 1], as those of an untrained network may, the tolerance grows with them.
    """
    network = network.cpu().eval()
    generator = torch.Generator().manual_seed(0)
    found = []
    for height, width in CHECKED_SIZES:
        image = torch.rand(1, exported.channels, height, width, generator=generator)
        with torch.inference_mode():
            expected, given = network(image), exported(image)
        if given.shape != expected.shape:
            raise ValueError(f"the exported file makes {tuple(given.shape)} of {tuple(image.shape)}")
        difference = float((given - expected).abs().max())
        largest = max(1.0, float(expected.abs().max()))
        if not difference <= TOLERANCE * largest:
            raise ValueError(
                f"the exported file differs from PyTorch by {difference:.2g} at {height}x{width} pixels, more than "
                f"{TOLERANCE:g}; nothing was written"
            )
        found.append({"height": height, "width": width, "largest_difference": difference})
    return found
