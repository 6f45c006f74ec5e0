"""deform_conv2d, forward and backward, against torchvision.ops.deform_conv2d at the widths of the supernet."""

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


def step(function: Callable[..., Tensor], inputs: dict[str, Tensor]) -> Callable[[], object]:
    """One forward and backward pass in all inputs."""

    def call() -> object:
        output = function(inputs["image"], inputs["offset"], inputs["weight"], padding=1, mask=inputs["mask"])
        return torch.autograd.grad(output, list(inputs.values()), torch.ones_like(output))

    return call


def main() -> None:
    parser = arguments(__doc__ or "", repeats=9)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--busy", type=int, default=0, help="other processes that compute at the same time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    for width in (10, 20, 40):
        torch.manual_seed(0)
        side, device = options.crop, options.device
        inputs = {
            "image": torch.randn(options.batch, width, side, side, device=device, requires_grad=True),
            "offset": torch.randn(options.batch, 18, side, side, device=device, requires_grad=True),
            "mask": torch.rand(options.batch, 9, side, side, device=device, requires_grad=True),
            "weight": torch.randn(width, width, 3, 3, device=device, requires_grad=True),
        }
        candidates = {"torchvision": step(torchvision_deform_conv2d, inputs), "ours": step(deform_conv2d, inputs)}
        ours, theirs = (
            function(inputs["image"], inputs["offset"], inputs["weight"], padding=1, mask=inputs["mask"])
            for function in (deform_conv2d, torchvision_deform_conv2d)
        )
        with busy_cores(options.busy):
            seconds = interleaved(candidates, options.repeats, device)
        rows.append(
            {
                "width": width,
                "torchvision (ms)": 1e3 * seconds["torchvision"],
                "ours (ms)": 1e3 * seconds["ours"],
                "times faster": seconds["torchvision"] / seconds["ours"],
                "largest difference": (ours - theirs).abs().max().item() / theirs.abs().max().item(),
            }
        )
    report("deformable", rows, options)


if __name__ == "__main__":
    main()
