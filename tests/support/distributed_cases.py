"""A training of seconds that several processes do together, and that one does alone; run in processes of their own."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from irnas_ray.datasets.batches import Batch
from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.training.distributed import DistributedTraining, check_same
from irnas_ray.training.training import Training

#: Processes of the group.
PROCESSES = 2
CELL = ((Edge(0, "conv"), Edge(1, "sep")), (Edge(1, "def"), Edge(0, "skip")))
SMALL: dict[str, Any] = {"width": 2, "stem_channels": 4, "aspp_channels": 4, "low_level_channels": 3}
STEPS: dict[str, Any] = {"steps": 5, "validate_every": 2, "lr": 3e-3}
#: Settings of the trainings that are compared, and the precision of their numbers.
CASES: dict[str, tuple[dict[str, Any], torch.dtype]] = {
    "adam": ({"ema_decay": 0.7, "gradient_clip": 0.05, "warmup": 0.4}, torch.float64),
    "sgd without ssim": ({"optimizer": "sgd", "ssim_weight": 0.0, "lr": 0.05, "weight_decay": 0.01}, torch.float64),
    "single": ({"optimizer": "sgd", "lr": 0.05}, torch.float32),
    "bfloat16": ({"optimizer": "sgd", "lr": 0.05, "precision": "bfloat16"}, torch.float32),
}


class Unused(nn.Module):
    """A network of a user's that does not use all its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.used(image)


def make_network(dtype: torch.dtype) -> nn.Module:
    """A network with every kind of operator, the same each time."""
    torch.manual_seed(0)
    network = DerivedNetwork(Genotype((CELL,), (0, 1)), channels=1, sep_repeats=2, residual=True, **SMALL)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            # moved samples have derivatives that are not one-sided
            nn.init.normal_(module.weight, std=0.05)
    return network.to(dtype)


def make_batches(dtype: torch.dtype) -> list[Batch]:
    """Noisy images whose brightness and contrast differ, so that the shares of a batch have statistics of their own."""
    random = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(5):
        contrast = torch.tensor([0.1, 0.4, 0.7, 1.0], dtype=dtype).view(4, 1, 1, 1)
        clean = contrast * torch.rand(4, 1, 12, 12, generator=random, dtype=dtype)
        batches.append((clean + 0.1 * torch.randn(clean.shape, generator=random, dtype=dtype), clean))
    return batches


def validate(network: nn.Module) -> dict[str, float]:
    """Scores that depend on every parameter of a network."""
    network.eval()
    parameter = next(network.parameters())
    with torch.no_grad():
        image = torch.linspace(0, 1, 144, dtype=parameter.dtype).view(1, 1, 12, 12)
        return {"psnr": network(image).mean().item(), "ssim": 0.5}


def run_case(name: str, kind: type[Training]) -> dict[str, Any]:
    """Every report of a training without its time, and the state at its end."""
    settings, dtype = CASES[name]
    training = kind(make_network(dtype), make_batches(dtype), validate, **(STEPS | settings))
    return finish(training)


def finish(training: Training) -> dict[str, Any]:
    """Every report up to the end without its time, and the state then."""
    reports = []
    while not training.finished:
        reports.append({key: value for key, value in vars(training.run()).items() if key != "seconds"})
    state = {key: value for key, value in training.state_dict().items() if key != "seconds"}
    return {"reports": reports, "state": copy.deepcopy(state)}


def continued() -> dict[str, Any]:
    """The training "adam" stopped after its first report, and continued by other objects."""
    settings, dtype = CASES["adam"]
    first = DistributedTraining(make_network(dtype), make_batches(dtype), validate, **(STEPS | settings))
    first.run()
    state = copy.deepcopy(first.state_dict())
    torch.manual_seed(99)
    second = DistributedTraining(make_network(dtype), make_batches(dtype), validate, **(STEPS | settings))
    # as if it came from a process alone, which had had to divide its batches
    second.load_state_dict(copy.deepcopy(state) | {"micro_batch": 1})
    return {"begun": state, "resumed": finish(second)}


def timed() -> dict[str, Any]:
    """A wall-clock budget of one minute by clocks that disagree: a step takes the first process 7 s, the others 1 s."""
    now = 1000.0 * dist.get_rank()

    def clock() -> float:
        nonlocal now
        now += 3.5 if dist.get_rank() == 0 else 0.5
        return now

    settings: dict[str, Any] = {"minutes": 1, "validate_every": 3, "clock": clock}
    dtype = torch.float64
    found = finish(DistributedTraining(make_network(dtype), make_batches(dtype), only_first, **settings))
    return {"steps": [report["step"] for report in found["reports"]], "state": found["state"]}


def only_first(network: nn.Module) -> dict[str, float]:
    """Fails in every process but the first."""
    assert dist.get_rank() == 0
    return validate(network)


def unused() -> dict[str, Any]:
    """A network of which a part gets no gradient."""
    torch.manual_seed(0)
    training = DistributedTraining(
        Unused(), make_batches(torch.float32), lambda net: {"psnr": 1.0, "ssim": 1.0}, **STEPS
    )
    before = copy.deepcopy(training.network.state_dict())
    finish(training)
    return {"before": before, "after": training.network.state_dict()}


def complaint(action: Callable[[], object]) -> str:
    """What an action that must fail with a ValueError says."""
    try:
        action()
    except ValueError as error:
        return str(error)
    raise AssertionError("no complaint")


def complaints() -> dict[str, str]:
    """What is said about trainings that several processes cannot do."""
    dtype = torch.float64
    check_same("genotype", "abc")
    odd = [(degraded[:3], clean[:3]) for degraded, clean in make_batches(dtype)]
    normalised = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm1d(3))
    return {
        "genotype": complaint(lambda: check_same("genotype", "abc" if dist.get_rank() == 0 else "def")),
        "batch": complaint(DistributedTraining(make_network(dtype), odd, validate, **STEPS).run),
        "normalisation": complaint(lambda: DistributedTraining(normalised, odd, validate, **STEPS)),
    }


def work(rank: int, folder: str) -> None:
    """What each process does; its findings go to a file of its own."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    found: dict[str, Any] = {name: run_case(name, DistributedTraining) for name in CASES}
    found |= continued() | {"timed": timed(), "unused": unused(), "complaints": complaints()}
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
