"""Restoring a 481x321 photograph with the folded final network against the network as it was trained, and others.

Beside them: ``torch.compile`` of the folded network, ONNX Runtime with what ``irnas-ray export`` writes (where it is
installed), and a DnCNN of 17 layers with about as many parameters. Compiling and exporting are not timed.
"""

import argparse
import importlib.util
from collections.abc import Callable

import torch
from measuring import arguments, interleaved, report
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


def compiled(network: nn.Module, image: Tensor) -> Callable[[], Tensor] | None:
    """A call of the compiled network; None where this machine cannot compile it."""
    function = torch.compile(network)
    try:
        function(image)
    except Exception as error:  # no C++ compiler, or an operator that the compiler refuses
        print(f"torch.compile: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
        return None
    return lambda: function(image)


def in_onnxruntime(network: nn.Module, image: Tensor, threads: int) -> Callable[[], object] | None:
    """A call of the exported network on the CPU; None where ONNX Runtime is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    content, _ = written_as("onnx", network, {})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: image.numpy()}
    return lambda: session.run(None, feed)


def row_of(name: str, options: argparse.Namespace) -> dict[str, object]:
    """The seconds of one network in all forms."""
    network = trained(name, options.device)
    folded = fast(network)
    peer = fast(equal_dncnn(count_parameters(network)).to(options.device).eval())
    image = torch.rand(1, 1, HEIGHT, WIDTH, device=options.device)
    exported = in_onnxruntime(network, image, options.threads) if options.device == "cpu" else None
    with torch.inference_mode():
        expected = network(image)
        difference = (folded(image) - expected).abs().max().item() / expected.abs().max().item()
        calls: dict[str, Callable[[], object] | None] = {
            "as trained": lambda: network(image),
            "folded": lambda: folded(image),
            "DnCNN of equal size": lambda: peer(image),
            "torch.compile": compiled(fast(network), image),
            "ONNX Runtime": exported,
        }
        seconds = interleaved(
            {key: call for key, call in calls.items() if call is not None}, options.repeats, options.device
        )
    return (
        {"network": name, "parameters": count_parameters(network)}
        | {f"{key} (s)": seconds.get(key) for key in calls}
        | {
            "times faster": seconds["as trained"] / seconds["folded"],
            "folded, s per megapixel": seconds["folded"] / (HEIGHT * WIDTH / 1e6),
            "largest difference": difference,
        }
    )


def main() -> None:
    options = arguments(__doc__ or "", repeats=5).parse_args()
    torch.set_num_threads(options.threads)
    report("inference", [row_of(name, options) for name in NETWORKS], options)


if __name__ == "__main__":
    main()
