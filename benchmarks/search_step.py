"""A full search step (weight + architecture) of the paper's denoising supernet against the plain op-by-op supernet."""

from collections.abc import Callable
from typing import Any

import torch
from measuring import arguments, interleaved, report
from reference import ReferenceSuperNet
from reference_deformable import torchvision_deform_conv2d

from irnas_ray.networks.supernet import SuperNet
from irnas_ray.search.bilevel import BilevelSearch

OPERATORS = ("conv", "sep", "dil", "def", "skip", "none")


def searcher(net: Any, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> BilevelSearch:
    """The bilevel search around a supernet; the reference has the same two kinds of parameters."""
    if isinstance(net, ReferenceSuperNet):
        architecture = [net.alpha, net.beta]
        weights = [p for p in net.parameters() if p is not net.alpha and p is not net.beta]
        net.arch_parameters, net.weight_parameters = lambda: architecture, lambda: weights  # type: ignore[assignment]
    return BilevelSearch(net, batches, batches, lambda _: {}, epochs=10**6, warmup_epochs=0, steps_per_epoch=1)


def peak_bytes(step: Callable[[], object]) -> int:
    """The most GPU memory that is allocated during a step."""
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated()


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--width", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if torchvision_deform_conv2d is None:
        raise SystemExit("the reference of this benchmark is torchvision.ops.deform_conv2d; install torchvision")
    rows = []
    for operators in (OPERATORS, tuple(name for name in OPERATORS if name != "def")):
        torch.manual_seed(0)
        net = SuperNet(1, options.layers, options.nodes, options.width, operators=operators).to(options.device)
        reference = ReferenceSuperNet.from_supernet(net).to(options.device)
        clean = torch.rand(options.batch, 1, options.crop, options.crop, device=options.device)
        batches = [(clean + 0.2 * torch.randn_like(clean), clean)]
        ours, theirs = searcher(net, batches), searcher(reference, batches)
        steps = {"reference": lambda: theirs._steps(True), "ours": lambda: ours._steps(True)}  # noqa: B023
        seconds = interleaved(steps, options.repeats, options.device)
        memory = {name: peak_bytes(step) / 1e6 for name, step in steps.items()} if options.device == "cuda" else {}
        rows.append(
            {
                "operators": " ".join(operators),
                "reference (s)": seconds["reference"],
                "ours (s)": seconds["ours"],
                "times faster": seconds["reference"] / seconds["ours"],
                **{f"{name} (peak MB)": value for name, value in memory.items()},
            }
        )
    report("search_step", rows, options)


if __name__ == "__main__":
    main()
