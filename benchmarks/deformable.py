"""deform_conv2d, forward and backward, against torchvision.ops.deform_conv2d at the widths of the supernet.

On a GPU "ours" is what everybody gets, by grid_sample, and "triton" what IRNAS_RAY_TRITON=1 gives.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from irnas_ray.kernels.deform_conv import deform_conv2d  # isort: skip  before torch, so that no thread waits by spinning
import torch
from measuring import arguments, attempted, busy_cores, errors, interleaved, ratio, report
from torch import Tensor

try:
    from torchvision.ops import deform_conv2d as torchvision_deform_conv2d
except (ImportError, RuntimeError):
    raise SystemExit("the reference of this benchmark is torchvision.ops.deform_conv2d; install torchvision") from None


def ours(triton: str) -> Callable[..., Tensor]:
    """deform_conv2d where ``IRNAS_RAY_TRITON`` is as given, until the next call: the backward pass reads it too."""

    def call(*tensors: Tensor, **others: Any) -> Tensor:
        os.environ["IRNAS_RAY_TRITON"] = triton
        return deform_conv2d(*tensors, **others)

    return call


def step(function: Callable[..., Tensor], inputs: dict[str, Tensor]) -> Callable[[], object]:
    """One forward and backward pass in all inputs."""

    def call() -> object:
        output = function(inputs["image"], inputs["offset"], inputs["weight"], padding=1, mask=inputs["mask"])
        return torch.autograd.grad(output, list(inputs.values()), torch.ones_like(output))

    return call


def inputs(width: int, options: argparse.Namespace) -> dict[str, Tensor]:
    """Image, offsets, mask and kernel of one operator of the supernet."""
    torch.manual_seed(0)
    side, device = options.crop, options.device
    return {
        "image": torch.randn(options.batch, width, side, side, device=device, requires_grad=True),
        "offset": torch.randn(options.batch, 18, side, side, device=device, requires_grad=True),
        "mask": torch.rand(options.batch, 9, side, side, device=device, requires_grad=True),
        "weight": torch.randn(width, width, 3, 3, device=device, requires_grad=True),
    }


def largest_difference(functions: dict[str, Callable[..., Tensor]], given: dict[str, Tensor]) -> float:
    """How far the outputs are from torchvision's, as a share of its largest value."""
    outputs = {
        name: function(given["image"], given["offset"], given["weight"], padding=1, mask=given["mask"])
        for name, function in functions.items()
    }
    theirs = outputs["torchvision"]
    return max((output - theirs).abs().max().item() for output in outputs.values()) / theirs.abs().max().item()


def compared(width: int, options: argparse.Namespace) -> dict[str, Any]:
    """The milliseconds of every function at one width, and which of them is fastest."""
    functions = {"torchvision": torchvision_deform_conv2d, "ours": ours("0")}
    if options.triton and options.device == "cuda":
        functions["triton"] = ours("1")
    given, failures = inputs(width, options), dict[str, str]()
    candidates = {name: step(function, given) for name, function in functions.items()}
    with busy_cores(options.busy):
        seconds = interleaved(candidates, options.repeats, options.device, failures=failures)
    working = {name: functions[name] for name in seconds}
    return (
        {f"{name} (ms)": 1e3 * seconds[name] for name in seconds}
        | {
            "fastest": min(seconds, key=seconds.__getitem__, default=None),
            "times faster": ratio(seconds, "torchvision", "ours"),
        }
        | attempted(lambda: {"largest difference": largest_difference(working, given)})
        | errors(failures)
    )


def main() -> None:
    parser = arguments(__doc__ or "", repeats=9)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--busy", type=int, default=0, help="other processes that compute at the same time")
    parser.add_argument(
        "--triton", action=argparse.BooleanOptionalAction, default=True, help="the Triton kernel as well, on a GPU"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = ({"width": width} | attempted(partial(compared, width, options)) for width in (10, 20, 40))
    report("deformable", rows, options)


if __name__ == "__main__":
    main()
