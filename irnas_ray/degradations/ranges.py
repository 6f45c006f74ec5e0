"""Ranges from which every image of a batch draws a value of its own."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def check_range(name: str, ends: Sequence[float], least: float = -math.inf, most: float = math.inf) -> None:
    """ValueError naming the setting unless ``ends`` are two finite numbers, least <= low <= high <= most."""
    if len(ends) != 2 or not all(math.isfinite(end) for end in ends) or not least <= ends[0] <= ends[1] <= most:
        limits = f" between {least:g} and {most:g}" if math.isfinite(most) else f" of at least {least:g}"
        where = limits if math.isfinite(least) else ""
        raise ValueError(f"{name}: {list(ends)} is not a range; give [low, high], two numbers{where}")


def check_log_range(name: str, ends: Sequence[float], most: float = math.inf) -> None:
    """``check_range`` for a range on a logarithmic scale, whose ends must be positive."""
    check_range(name, ends, most=most)
    if ends[0] <= 0:
        raise ValueError(f"{name}: {list(ends)} is drawn on a logarithmic scale; both ends must be above 0")


def uniform(ends: Sequence[float], shape: Sequence[int], generator: torch.Generator) -> Float[Tensor, "..."]:
    """Numbers drawn evenly between the ends, on the generator's device."""
    low, high = ends
    return low + (high - low) * torch.rand(tuple(shape), generator=generator, device=generator.device)


def log_uniform(ends: Sequence[float], shape: Sequence[int], generator: torch.Generator) -> Float[Tensor, "..."]:
    """Numbers whose logarithm is drawn evenly between those of the ends, on the generator's device."""
    return uniform([math.log(end) for end in ends], shape, generator).exp()
