"""Bytes that the paper's denoising supernet keeps for the backward pass, exactly, against the op-by-op supernet."""

import argparse
from functools import partial
from typing import Any

import torch
from measuring import arguments, attempted, errors, interleaved, ratio, report, saved_bytes
from reference import ReferenceSuperNet
from torch import Tensor

from irnas_ray.networks.supernet import SuperNet
from irnas_ray.training.loss import restoration_loss

#: Name -> what of the supernet is different; the reference is counted first, to compare the others with it.
SUPERNETS: dict[str, dict[str, bool]] = {
    "reference": {},
    "ours": {},
    "ours, recompute": {"recompute": True},
    "ours, a cell for each path (eq. 6)": {"share_cells": False},
}


def build(name: str, options: argparse.Namespace) -> Any:
    """A supernet, always with the same random numbers."""
    torch.manual_seed(0)
    net = SuperNet(1, options.layers, options.nodes, options.width, **SUPERNETS[name])
    return (ReferenceSuperNet.from_supernet(net) if name == "reference" else net).to(options.device)


def loss(net: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return restoration_loss(net(batch[0]), batch[1])


def step(net: Any, batch: tuple[Tensor, Tensor]) -> None:
    net.zero_grad(set_to_none=True)
    loss(net, batch).backward()


def measured(
    name: str, counted: dict[str, int], batch: tuple[Tensor, Tensor], options: argparse.Namespace
) -> dict[str, Any]:
    """What a supernet keeps and, but for the reference, how long it takes; adds to what is ``counted`` so far."""
    net = build(name, options)
    counted[name] = saved_bytes(partial(loss, net, batch), list(net.parameters()))
    row = {
        "MB kept": counted[name] / 1e6,
        "of the reference": ratio(counted, name, "reference"),
        "of ours": ratio(counted, name, "ours"),
    }
    if name == "reference":
        return row
    failures: dict[str, str] = {}
    steps = {"ours": partial(step, build("ours", options), batch), name: partial(step, net, batch)}
    seconds = interleaved(steps, options.repeats, options.device, failures=failures)
    return row | {"time of ours": ratio(seconds, name, "ours")} | errors(failures)


def main() -> None:
    parser = arguments(__doc__ or "", repeats=3)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--width", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clean = torch.rand(options.batch, 1, options.crop, options.crop, device=options.device)
    batch = clean + 0.2 * torch.randn_like(clean), clean
    counted: dict[str, int] = {}
    rows = ({"supernet": name} | attempted(partial(measured, name, counted, batch, options)) for name in SUPERNETS)
    report("saved_memory", rows, options)


if __name__ == "__main__":
    main()
