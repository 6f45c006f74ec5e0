"""A full search step (weight + architecture) of the paper's denoising supernet against the plain op-by-op supernet.

``--variants`` adds the same step in bfloat16, through ``torch.compile`` and, on a GPU, with its forward and backward
pass as CUDA graphs; where one of them does not work, the row says why.
"""

import copy
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


def in_bfloat16(net: SuperNet, image: torch.Tensor) -> None:
    """Let a supernet be computed in bfloat16 where PyTorch's autocast does so."""
    forward = net.forward

    def cast(*arguments: Any, **more: Any) -> torch.Tensor:
        with torch.autocast(image.device.type, torch.bfloat16):
            return forward(*arguments, **more)

    net.forward = cast  # type: ignore[method-assign]


def compiled(net: SuperNet, image: torch.Tensor) -> None:
    """Let PyTorch compile a supernet."""
    net.forward = torch.compile(net.forward)  # type: ignore[method-assign]


def as_graphs(net: SuperNet, image: torch.Tensor) -> None:
    """Record a supernet's forward and backward pass for batches of one shape."""
    if image.device.type != "cuda":
        raise RuntimeError("CUDA graphs need a GPU")
    torch.cuda.make_graphed_callables(net, (image,), allow_unused_input=True)


VARIANTS: dict[str, Callable[[SuperNet, torch.Tensor], None]] = {
    "bfloat16": in_bfloat16,
    "CUDA graphs": as_graphs,
    # last, because it may take minutes
    "torch.compile": compiled,
}


def variants(net: SuperNet, batches: list[tuple[torch.Tensor, torch.Tensor]], repeats: int) -> dict[str, Any]:
    """Seconds and, on a GPU, peak memory of the step in every variant, or why there is none."""
    found: dict[str, Any] = {}
    image = batches[0][0]
    for name, change in VARIANTS.items():
        changed = copy.deepcopy(net)
        try:
            change(changed, image)
            own = searcher(changed, batches)
            loss = own._steps(True)
            if not torch.isfinite(loss[0]):
                raise RuntimeError("the loss is no number")
            found[f"{name} (s)"] = interleaved({name: lambda: own._steps(True)}, repeats, image.device.type)[name]  # noqa: B023
            if image.is_cuda:
                found[f"{name} (peak MB)"] = peak_bytes(lambda: own._steps(True)) / 1e6  # noqa: B023
        except Exception as error:  # whatever PyTorch cannot do here
            found[f"{name} (s)"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    return found


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--width", type=int, default=10)
    parser.add_argument("--variants", action="store_true", help="bfloat16, torch.compile and CUDA graphs as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if torchvision_deform_conv2d is None:
        raise SystemExit("the reference of this benchmark is torchvision.ops.deform_conv2d; install torchvision")
    rows = []
    without = tuple(name for name in OPERATORS if name != "def")
    for operators in (OPERATORS,) if options.variants else (OPERATORS, without):
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
                **(variants(net, batches, options.repeats) if options.variants else {}),
            }
        )
    report("search_step", rows, options)


if __name__ == "__main__":
    main()
