"""A search and a training of seconds: a small supernet, noisy batches, and scores that depend on the network."""

from typing import Any

import torch

from irnas_ray.datasets.batches import ResidentPatches, TrainingBatches
from irnas_ray.degradations.gaussian import GaussianNoise
from irnas_ray.networks.supernet import SuperNet

SETTINGS: dict[str, Any] = {"epochs": 4, "warmup_epochs": 2, "steps_per_epoch": 2, "arch_lr": 0.05}
OPERATORS = ("conv", "skip", "none")


def make_net(seed: int = 0, **arguments: Any) -> SuperNet:
    """A small supernet of two layers."""
    torch.manual_seed(seed)
    keywords: dict[str, Any] = {"layers": 2, "nodes": 1, "width": 2, "operators": OPERATORS, "stem_channels": 4}
    return SuperNet(channels=1, **(keywords | arguments))


def make_batches(seed: int, count: int = 5) -> TrainingBatches:
    """An endless stream of noisy random images."""
    random = torch.Generator().manual_seed(seed)
    patches = torch.randint(256, (count, 1, 14, 14), generator=random, dtype=torch.uint8)
    return TrainingBatches(ResidentPatches(patches, None, 2, seed), 12, GaussianNoise([30, 50]), seed)


def validate(net: torch.nn.Module) -> dict[str, float]:
    """Scores that depend on every parameter of a network."""
    net.eval()
    with torch.no_grad():
        return {"psnr": net(torch.linspace(0, 1, 144).view(1, 1, 12, 12)).mean().item(), "ssim": 0.5}


def facts(report: Any) -> dict[str, Any]:
    """A report without its run time."""
    return {name: value for name, value in vars(report).items() if name != "seconds"}
