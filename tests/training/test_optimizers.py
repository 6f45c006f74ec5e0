"""Optimizers that do not load PyTorch's compiler, which do to the bit what PyTorch's own do."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from irnas_ray.training.optimizers import eager

KINDS: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (torch.optim.Adam, {"lr": 0.01, "betas": (0.5, 0.999), "weight_decay": 0.1, "fused": True}),
    (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
]


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_the_weights_are_those_of_the_own_optimizer(
    kind: type[torch.optim.Optimizer], settings: dict[str, Any]
) -> None:
    """Step by step, and after its state was saved and loaded on the way, into either of both."""
    ended = []
    for made, other in ((kind, eager(kind)), (eager(kind), kind)):
        torch.manual_seed(0)
        network = torch.nn.Conv2d(2, 3, 3)
        optimizer = made(network.parameters(), **settings)
        for step in range(6):
            if step == 3:
                state = optimizer.state_dict()
                optimizer = other(network.parameters(), **settings)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            network(torch.rand(2, 2, 5, 5)).square().sum().backward()
            optimizer.step()
        ended.append(network.weight)
    assert torch.equal(*ended)


STEPS = """
import sys
import torch
import irnas_ray as ir
from irnas_ray.search.bilevel import BilevelSearch
from irnas_ray.training.training import Training

def batches():
    while True:
        clean = torch.rand(1, 1, 8, 8)
        yield clean + 0.1 * torch.randn(1, 1, 8, 8), clean

def validate(network):
    return {"psnr": 20.0, "ssim": 0.5}

for name in ("adam", "adamw", "sgd"):
    network = ir.DnCNN(channels=1, depth=3, width=2)
    settings = dict(steps=4, validate_every=2, optimizer=name, lr=1e-3, gradient_clip=1.0, ema_decay=0.9, ssim_weight=0)
    training = Training(network, batches(), validate, **settings)
    training.run()
    training.load_state_dict(training.state_dict())
    training.run()
supernet = ir.SuperNet(channels=1, layers=1, nodes=1, width=2, operators=("conv", "sep", "def", "skip"))
search = BilevelSearch(
    supernet, batches(), batches(), validate, epochs=2, warmup_epochs=0, steps_per_epoch=2, ssim_weight=0
)
search.run_epoch()
search.load_state_dict(search.state_dict())
assert "torch._dynamo" not in sys.modules
"""
CHECKS = """
import sys
import irnas_ray as ir
from irnas_ray.study.checks import check_settings

for space in ("quickstart", "compact", "irnas_denoise"):
    check_settings(ir.compose("search", [f"search_spaces={space}"]))
assert "torch._dynamo" not in sys.modules
"""


@pytest.mark.parametrize("program", [STEPS, CHECKS])
def test_trainings_searches_and_checks_do_not_load_the_compiler(program: str) -> None:
    """It takes about as long as PyTorch itself, in every process that trains, and in the driver."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
