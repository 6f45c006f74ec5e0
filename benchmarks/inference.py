"""Restoring a 481x321 photograph with the folded final network against the network as it was trained, and others.

Beside them: ``torch.compile`` of the folded network, ONNX Runtime with what ``irnas-ray export`` writes (where it is
installed), and a DnCNN of 17 layers with about as many parameters. Compiling and exporting are not timed; what does not
work here is named in the row.
"""

import argparse
import importlib.util
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from measuring import arguments, attempted, errors, interleaved, ratio, report
from torch import Tensor, nn

import irnas_ray as ir
from irnas_ray.export.file_formats import written_as
from irnas_ray.genotypes.cell import Edge
from irnas_ray.networks.derived import DerivedNetwork, count_parameters
from irnas_ray.networks.inference import fast

HEIGHT, WIDTH = 321, 481
#: The paper's denoising cell.
PUBLISHED = (
    (Edge(0, "conv"), Edge(1, "conv")),
    (Edge(2, "dil"), Edge(1, "dil")),
    (Edge(0, "skip"), Edge(2, "def")),
    (Edge(4, "def"), Edge(0, "def")),
    (Edge(5, "skip"), Edge(1, "skip")),
)
#: The plain cell of `compact`.
PLAIN = ((Edge(1, "conv"), Edge(0, "skip")), (Edge(2, "conv"), Edge(1, "skip")))
COMPACT = ir.Macro(unshuffle=2, normalisation="none", aspp=False, low_level=False, head="linear")
NETWORKS = {
    "paper's denoiser": (ir.Genotype((PUBLISHED,), (0, 0, 1, 1)), 20, (64, 128, 48)),
    "the same at width 8": (ir.Genotype((PUBLISHED,), (0, 0, 1, 1)), 8, (16, 24, 12)),
    "compact, width 24": (ir.Genotype((PLAIN,), (0, 0, 0, 0), (1,), COMPACT), 24, (64, 128, 48)),
}


def trained(name: str, device: str) -> DerivedNetwork:
    """A network whose running statistics are those of one that has been trained on something."""
    torch.manual_seed(0)
    genotype, width, (stem, aspp, low) = NETWORKS[name]
    network = DerivedNetwork(genotype, 1, width, stem_channels=stem, aspp_channels=aspp, low_level_channels=low)
    network = network.to(device)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():  # a head that is zero at first
                nn.init.normal_(parameter, std=0.1)
        for _ in range(3):
            network.train()(torch.rand(2, 1, 48, 48, device=device))
    return network.eval()


def equal_dncnn(parameters: int) -> ir.DnCNN:
    """A DnCNN of 17 layers with about as many parameters."""
    sizes = {width: count_parameters(ir.DnCNN(channels=1, depth=17, width=width)) for width in range(4, 96)}
    width = min(sizes, key=lambda width: abs(sizes[width] - parameters))
    return ir.DnCNN(channels=1, depth=17, width=width)


def made_first(make: Callable[[], Callable[[], object]]) -> Callable[[], object]:
    """A call of what ``make`` gives, which is made by the first call: that is not timed, and its errors are caught."""
    made = cache(make)
    return lambda: made()()


def in_onnxruntime(network: nn.Module, image: Tensor, threads: int) -> Callable[[], object]:
    """A call of the exported network on the CPU."""
    import onnxruntime

    with torch.inference_mode(False):  # an export traces the network
        content, _ = written_as("onnx", network, {})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: image.numpy()}
    return lambda: session.run(None, feed)


def forms(network: nn.Module, image: Tensor, options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """The calls to compare: of what everybody has, of what was asked for, and of what is installed."""
    folded = fast(network)
    peer = fast(equal_dncnn(count_parameters(network)).to(options.device).eval())
    calls: dict[str, Callable[[], object]] = {
        "as trained": partial(network, image),
        "folded": partial(folded, image),
        "DnCNN of equal size": partial(peer, image),
    }
    if options.compile:
        calls["torch.compile"] = made_first(lambda: partial(torch.compile(folded), image))
    if options.device == "cpu" and importlib.util.find_spec("onnxruntime") is not None:
        calls["ONNX Runtime"] = made_first(partial(in_onnxruntime, network, image, options.threads))
    return calls


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The seconds of one network in all forms."""
    network = trained(name, options.device)
    image = torch.rand(1, 1, HEIGHT, WIDTH, device=options.device)
    calls = forms(network, image, options)
    failures: dict[str, str] = {}
    with torch.inference_mode():
        expected = network(image)
        difference = (fast(network)(image) - expected).abs().max().item() / expected.abs().max().item()
        seconds = interleaved(calls, options.repeats, options.device, failures=failures)
    return (
        {"parameters": count_parameters(network)}
        | {f"{key} (s)": seconds.get(key) for key in calls}
        | {
            "times faster": ratio(seconds, "as trained", "folded"),
            "folded, s per megapixel": seconds["folded"] / (HEIGHT * WIDTH / 1e6) if "folded" in seconds else None,
            "largest difference": difference,
        }
        | errors(failures)
    )


def main() -> None:
    parser = arguments(__doc__ or "", repeats=5)
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=True, help="torch.compile, which may take minutes"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report("inference", ({"network": name} | attempted(partial(measured, name, options)) for name in NETWORKS), options)


if __name__ == "__main__":
    main()
