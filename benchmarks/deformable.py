"""deform_conv2d, forward and backward, against torchvision.ops.deform_conv2d at the widths of the supernet.

On a GPU "ours" is what everybody gets, by grid_sample, and "triton" what IRNAS_RAY_TRITON=1 gives.
"""

import argparse
import os
from collections.abc import Callable
from typing import Any

from irnas_ray.kernels.deform_conv import deform_conv2d  # isort: skip  before torch, so that no thread waits by spinning
import torch
from measuring import arguments, busy_cores, interleaved, report
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


def compared(options: argparse.Namespace) -> dict[str, Callable[..., Tensor]]:
    """The functions to compare; without Triton's where it does not run, and the reason is printed."""
    functions = {"torchvision": torchvision_deform_conv2d, "ours": ours("0")}
    if options.device == "cuda":
        try:
            step(ours("1"), inputs(10, options))()
            functions["triton"] = ours("1")
        except Exception as error:  # whatever it is, the others are worth their time on a GPU
            print(f"without Triton: {type(error).__name__}: {error}\n")
    return functions


def main() -> None:
    parser = arguments(__doc__ or "", repeats=9)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--busy", type=int, default=0, help="other processes that compute at the same time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    functions = compared(options)
    rows: list[dict[str, Any]] = []
    for width in (10, 20, 40):
        given = inputs(width, options)
        outputs = {
            name: function(given["image"], given["offset"], given["weight"], padding=1, mask=given["mask"])
            for name, function in functions.items()
        }
        theirs = outputs["torchvision"]
        candidates = {name: step(function, given) for name, function in functions.items()}
        with busy_cores(options.busy):
            seconds = interleaved(candidates, options.repeats, options.device)
        rows.append(
            {"width": width}
            | {f"{name} (ms)": 1e3 * seconds[name] for name in functions}
            | {
                "fastest": min(functions, key=seconds.__getitem__),
                "times faster": seconds["torchvision"] / seconds["ours"],
                "largest difference": max((output - theirs).abs().max().item() for output in outputs.values())
                / theirs.abs().max().item(),
            }
        )
    report("deformable", rows, options)


if __name__ == "__main__":
    main()
