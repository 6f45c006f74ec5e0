"""A training step of a small network of the compact space against its convolutions alone, forward and backward."""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from inference import trained
from measuring import arguments, attempted, interleaved, report
from torch import Tensor, nn

import irnas_ray as ir
from irnas_ray.networks.derived import count_parameters
from irnas_ray.settings.study import Final
from irnas_ray.training.training import Training

CELL = (
    (ir.genotypes.Edge(0, "skip"), ir.genotypes.Edge(1, "conv")),
    (ir.genotypes.Edge(1, "skip"), ir.genotypes.Edge(2, "conv")),
)
COMPACT = ir.Macro(unshuffle=2, normalisation="none", aspp=False, low_level=False, head="linear")
RECIPE = Final(optimizer="adamw", lr=0.008, beta2=0.99, weight_decay=1e-4, gradient_clip=0.1, ssim_weight=0)


class Always:
    """The same batch for ever, so that no data are waited for."""

    def __init__(self, batch: tuple[Tensor, Tensor]) -> None:
        self.batch = batch

    def __iter__(self) -> "Always":
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        return self.batch


def convolutions_alone(network: nn.Module, image: Tensor) -> Callable[[], None]:
    """Every convolution of a network, forward and backward, on the input and in the layout that it has there."""
    met: list[tuple[nn.Module, Tensor, Tensor]] = []
    hooks = [
        module.register_forward_hook(
            lambda module, given, output: met.append((module, given[0].detach(), output.detach()))
        )
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    network(image)
    for hook in hooks:
        hook.remove()
    # the first one reads the image, which needs no gradient
    inputs = [given.clone().requires_grad_(index > 0) for index, (_, given, _) in enumerate(met)]

    def call() -> None:
        for (module, _, output), given in zip(met, inputs, strict=True):
            given.grad = None
            module(given).backward(output)
        network.zero_grad(set_to_none=True)

    return call


def networks(paper: bool) -> Iterator[tuple[str, ir.DerivedNetwork]]:
    """Three networks of the compact space and, if asked for, the paper's denoiser."""
    for width, layers in ((16, 3), (24, 4), (32, 6)):
        torch.manual_seed(0)
        genotype = ir.Genotype((CELL,), (0,) * layers, (1,), COMPACT)
        yield f"compact, {layers} layers, width {width}", ir.DerivedNetwork(genotype, 1, width, residual=True)
    if paper:
        yield "paper's denoiser", trained("paper's denoiser", "cpu").train()


def measured(network: ir.DerivedNetwork, options: argparse.Namespace) -> dict[str, Any]:
    """What a step of one network takes, and its convolutions."""
    network = network.to(options.device, memory_format=torch.channels_last)
    batch = (torch.rand(8, 1, 48, 48, device=options.device), torch.rand(8, 1, 48, 48, device=options.device))
    training = Training(
        network, Always(batch), lambda _: {"psnr": 0.0, "ssim": 0.0}, RECIPE, steps=10**9, validate_every=1
    )
    calls = {"step": training.run, "convolutions": convolutions_alone(network, batch[0])}
    begun = time.perf_counter()
    seconds = interleaved(calls, options.repeats, options.device)
    return {
        "parameters": count_parameters(network),
        "whole step (ms)": 1000 * seconds["step"],
        "steps a second": 1 / seconds["step"],
        "its convolutions (ms)": 1000 * seconds["convolutions"],
        "share": seconds["convolutions"] / seconds["step"],
        "measured for (s)": round(time.perf_counter() - begun, 1),
    }


def main() -> None:
    parser = arguments(__doc__ or "", repeats=30, threads=1)
    parser.add_argument("--paper", action="store_true", help="the paper's denoiser of 0.63 M parameters as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = (
        {"network": name} | attempted(partial(measured, network, options)) for name, network in networks(options.paper)
    )
    report("training_step", rows, options)


if __name__ == "__main__":
    main()
