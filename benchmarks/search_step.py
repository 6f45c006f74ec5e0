"""A full search step (weight + architecture) of the paper's denoising supernet against the plain op-by-op supernet.

``--variants`` times it in other forms instead: in bfloat16, with its forward and backward passes as CUDA graphs, and
through ``torch.compile``. A row of what does not work here says why.
"""

import argparse
import copy
import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from measuring import arguments, attempted, interleaved, ratio, report
from reference import ReferenceSuperNet
from reference_deformable import torchvision_deform_conv2d
from torch import Tensor

from irnas_ray.networks.supernet import SuperNet
from irnas_ray.search.bilevel import BilevelSearch

OPERATORS = ("conv", "sep", "dil", "def", "skip", "none")
Batches = list[tuple[Tensor, Tensor]]


def searcher(net: Any, batches: Batches) -> BilevelSearch:
    """The bilevel search around a supernet; the reference has the same two kinds of parameters."""
    if isinstance(net, ReferenceSuperNet):
        architecture = [net.alpha, net.beta]
        weights = [p for p in net.parameters() if p is not net.alpha and p is not net.beta]
        net.arch_parameters, net.weight_parameters = lambda: architecture, lambda: weights  # type: ignore[assignment]
    return BilevelSearch(net, batches, batches, lambda _: {}, epochs=10**6, warmup_epochs=0, steps_per_epoch=1)


def step(own: BilevelSearch) -> None:
    """A step of the weights and one of alpha and beta."""
    if not all(torch.isfinite(loss) for loss in own._steps(True)):
        raise FloatingPointError("the loss is no number")


def peak_memory(call: Callable[[], object]) -> dict[str, float]:
    """The most GPU memory that PyTorch holds during a call, beyond what it only keeps for later ones.

    It is what is reserved, not what is allocated: a replayed CUDA graph allocates nothing, and works in a pool that
    was reserved when it was recorded. Rounding and gaps between tensors count as well, for every network alike.
    """
    gc.collect()  # a graph's pool is free when the cycles around a supernet of before are
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return {"peak MB": torch.cuda.max_memory_reserved() / 1e6}


def in_bfloat16(net: SuperNet, image: Tensor) -> None:
    """Let a supernet be computed in bfloat16 where PyTorch's autocast does so."""
    forward = net.forward

    def cast(*arguments: Any, **more: Any) -> Tensor:
        with torch.autocast(image.device.type, torch.bfloat16):
            return forward(*arguments, **more)

    net.forward = cast  # type: ignore[method-assign]


def compiled(net: SuperNet, image: Tensor) -> None:
    """Let PyTorch compile a supernet."""
    net.forward = torch.compile(net.forward)  # type: ignore[method-assign]


def as_graphs(net: SuperNet, image: Tensor) -> None:
    """Record a supernet's forward and backward pass for batches of one shape.

    Once for a step of the weights and once for one of alpha and beta, each with the other parameters frozen as in the
    search, because a recorded backward pass computes every gradient that was wanted when it was recorded.
    """
    if not image.is_cuda:
        raise RuntimeError("CUDA graphs need a GPU")
    recorded: dict[bool, Callable[[Tensor], Tensor]] = {}
    weights, architecture = net.weight_parameters(), net.arch_parameters()
    for frozen in (weights, architecture):
        for parameter in frozen:
            parameter.requires_grad_(False)
        torch.cuda.make_graphed_callables(net, (image,), allow_unused_input=True)
        # PyTorch has put its replay in place of the method, which the next recording needs again
        recorded[net.alpha.requires_grad] = net.__dict__.pop("forward")
        for parameter in frozen:
            parameter.requires_grad_(True)
    alpha = net.alpha
    net.forward = lambda image: recorded[alpha.requires_grad](image)  # type: ignore[method-assign]


VARIANTS: dict[str, Callable[[SuperNet, Tensor], None]] = {
    "bfloat16": in_bfloat16,
    # behind bfloat16, because a recording that fails may leave CUDA unusable for what follows
    "graphs": as_graphs,
    # last, because it may take minutes
    "compile": compiled,
}


def rows_of(
    searches: dict[str, BilevelSearch], base: str, seconds: dict[str, float], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """What a step of each supernet takes, timed in turn; ``seconds`` has those of before, and gets these."""
    failures: dict[str, str] = {}
    steps = {name: partial(step, own) for name, own in searches.items()}
    seconds |= interleaved(steps, options.repeats, options.device, failures=failures)
    rows: list[dict[str, Any]] = []
    for name, own in searches.items():
        if name in failures:
            rows.append({"network": name, "error": failures[name]})
            continue
        row: dict[str, Any] = {"network": name, "step (s)": seconds[name]}
        row[f"times faster than {base}"] = ratio(seconds, base, name)
        # a search divides batches that do not fit into memory
        row["micro batch"] = own.accumulation.micro_batch or options.batch
        if options.device == "cuda":
            row |= attempted(partial(peak_memory, steps[name]))
        rows.append(row)
    return rows


def variant(
    name: str, net: SuperNet, batches: Batches, seconds: dict[str, float], options: argparse.Namespace
) -> dict[str, Any]:
    """The row of one form of a supernet; nothing of it is left in memory when the next one is measured."""
    changed = copy.deepcopy(net)
    if name in VARIANTS:
        VARIANTS[name](changed, batches[0][0])
    return rows_of({name: searcher(changed, batches)}, "ours", seconds, options)[0]


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The supernet beside the reference, with and without deformable convolutions, or its variants."""
    without = tuple(name for name in OPERATORS if name != "def")
    for operators in (OPERATORS,) if options.variants else (OPERATORS, without):
        torch.manual_seed(0)
        net = SuperNet(1, options.layers, options.nodes, options.width, operators=operators).to(options.device)
        clean = torch.rand(options.batch, 1, options.crop, options.crop, device=options.device)
        batches = [(clean + 0.2 * torch.randn_like(clean), clean)]
        about, seconds = {"operators": " ".join(operators)}, dict[str, float]()
        if options.variants:
            for name in ("ours", *options.variants):
                measured = attempted(partial(variant, name, net, batches, seconds, options))
                yield about | {"network": name} | measured
        else:
            reference = ReferenceSuperNet.from_supernet(net).to(options.device)
            searches = {"reference": searcher(reference, batches), "ours": searcher(net, batches)}
            for row in rows_of(searches, "reference", seconds, options):
                yield about | row


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--width", type=int, default=10)
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), help="these instead of the reference")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if torchvision_deform_conv2d is None:
        raise SystemExit("the reference of this benchmark is torchvision.ops.deform_conv2d; install torchvision")
    report("search_step", rows(options), options)


if __name__ == "__main__":
    main()
