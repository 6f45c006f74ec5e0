"""Small supernets of every kind, with nothing left at its initial value, and what to compare them by."""

from typing import Any

import torch
from torch import Tensor, nn

from irnas_ray.genotypes.decoding import decode_cell
from irnas_ray.networks.supernet import SuperNet

BASE: dict[str, Any] = {"channels": 1, "layers": 2, "nodes": 2, "width": 2, "stem_channels": 8}
CASES: dict[str, dict[str, Any]] = {
    "all operators": {},
    "three layers": {"layers": 3, "nodes": 1},
    "one layer, one node": {"layers": 1, "nodes": 1, "width": 1},
    "colour": {"channels": 3, "residual": True},
    "eq. 6": {"share_cells": False},
    "eq. 6, three layers": {"share_cells": False, "layers": 3, "nodes": 1, "operators": ("sep", "skip")},
    "untied": {"tie_cells": False},
    "recomputed": {"recompute": True},
    "recomputed, eq. 6, sep twice": {"recompute": True, "share_cells": False, "sep_repeats": 2, "nodes": 1},
    "leaky": {"activation": "leaky_relu"},
    "sep twice": {"sep_repeats": 2, "nodes": 1},
    "sep three times, leaky": {"sep_repeats": 3, "activation": "leaky_relu", "operators": ("none", "sep")},
    "other widths": {"multipliers": (1, 1.5, 2)},
    "two widths": {"multipliers": (1, 2), "layers": 3, "nodes": 1},
    "one width": {"multipliers": (1,), "layers": 3, "nodes": 1},
    "without def": {"operators": ("conv", "sep", "dil", "skip", "none")},
    "other order": {"operators": ("none", "skip", "def", "conv")},
    "further operators": {"operators": ("gate", "skip"), "nodes": 1},
    "normalised skip": {"normalise_skip": True, "operators": ("conv", "skip", "none"), "nodes": 3},
    "skip alone": {"operators": ("skip",), "nodes": 3},
    "conv alone": {"operators": ("conv",), "nodes": 3},
}


def make_net(seed: int = 0, dtype: torch.dtype = torch.float64, **arguments) -> Any:
    """A supernet with nothing left at its initial value: offsets, running statistics, alpha and beta are random."""
    torch.manual_seed(seed)
    net = SuperNet(**(BASE | arguments)).to(dtype)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            # a joined cell and the offsets begin as nothing
            if "predictor" in name or ".join." in name or name in ("alpha", "beta"):
                parameter.normal_(0, 0.5)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    return net


def one_hot_alpha(net: SuperNet, seed: int) -> list:
    """Set alpha so that only two random operators a node are left; the cells they make."""
    random = torch.Generator().manual_seed(seed)
    preferred = torch.randn(net.alpha.shape, generator=random, dtype=net.alpha.dtype)
    cells = [decode_cell(rows, net.operators)[0] for rows in preferred]
    with torch.no_grad():
        net.alpha.fill_(-1e4)
        net.alpha[:, :, net.operators.index("none")] = 0
        for index, cell in enumerate(cells):
            for node, edges in enumerate(cell):
                for edge in edges:
                    row = node * (node + 3) // 2 + edge.source
                    net.alpha[index, row, net.operators.index(edge.operator)] = 1e4
    return cells if len(cells) > 1 else cells * net.layers


def restoration(output: Tensor, seed: int = 1) -> Tensor:
    """A scalar loss like that of restoration: distance to a fixed clean image."""
    random = torch.Generator().manual_seed(seed)
    target = torch.rand(output.shape, generator=random, dtype=output.dtype)
    return ((output - target) ** 2).mean()


def images(batch: int, channels: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    random = torch.Generator().manual_seed(batch + height + width)
    return torch.rand(batch, channels, height, width, generator=random, dtype=dtype)


def assert_equal(name: str, mine: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = max(expected.abs().max().item(), 1e-3)
    assert (mine - expected).abs().max().item() <= tolerance * scale, name
