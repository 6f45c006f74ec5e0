"""How a training changes weights: its optimizer, and the moving average of what it reaches."""

import inspect
import warnings
from typing import TypeVar, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

OPTIMIZERS = ("adam", "adamw", "sgd")
#: Methods of PyTorch's optimizers that load its compiler when they are first called.
_COMPILABLE = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


_Kind = TypeVar("_Kind", bound=type[torch.optim.Optimizer])


def eager(kind: _Kind) -> _Kind:
    """The same optimizer, for networks that are not compiled: PyTorch's own loads its compiler before the first step.

    That takes about as long as loading PyTorch itself, in every process that trains.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _COMPILABLE}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return cast(_Kind, type(kind.__name__, (kind,), methods))


Adam, AdamW, SGD = eager(torch.optim.Adam), eager(torch.optim.AdamW), eager(torch.optim.SGD)


def make_optimizer(
    name: str, network: nn.Module, lr: float, weight_decay: float, beta2: float = 0.999
) -> torch.optim.Optimizer:
    """Adam, AdamW, or SGD with momentum 0.9 for a network's weights; ValueError if there is no such optimizer."""
    warn_of_rate(name, lr)
    if name in ("adam", "adamw"):
        kind = Adam if name == "adam" else AdamW
        # one kernel for all weights: these networks have many small ones
        return kind(network.parameters(), lr=lr, betas=(0.9, beta2), weight_decay=weight_decay, fused=True)
    if name == "sgd":
        return SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    raise ValueError(f"optimizer: unknown {name!r}; possible: {', '.join(OPTIMIZERS)}")


def make_average(network: nn.Module, decay: float | None) -> AveragedModel | None:
    """An exponential moving average of a network's weights and batch statistics, or None for no decay.

    Raises ValueError unless the decay is between 0 and 1.
    """
    check_decay(decay)
    if decay is None:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def check_decay(decay: float | None) -> None:
    """ValueError unless the decay is None or between 0 and 1."""
    if decay is not None and not 0 < decay < 1:
        raise ValueError(f"ema_decay: {decay}; between 0 and 1, such as 0.999, or null for no averaging")


def warn_of_rate(optimizer: str, lr: float) -> None:
    """Warn of a rate at which Adam diverges, among them the one that the paper prints."""
    if optimizer.startswith("adam") and lr >= 0.02:
        warnings.warn(
            f"Adam with a rate of {lr} diverges on these networks, though the paper prints 0.05; about 1e-3 works",
            stacklevel=2,
        )
