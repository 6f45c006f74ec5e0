"""What a network costs where it is used: its size, its arithmetic, and the time that it takes."""

import itertools
import statistics
import time

import torch
from torch import nn

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.encoding import Encoding
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.building import make_encoding, make_network
from irnas_ray.networks.derived import DerivedNetwork, count_parameters, multiply_adds_per_pixel
from irnas_ray.networks.registry import multiply_adds
from irnas_ray.settings.study import StudyConfig

#: Side in pixels of the image that is timed: a trial on a CPU should not wait, and a GPU have enough to do.
TIMED_SIDE = {"cpu": 128, "cuda": 512}
#: Most paths of widths that are looked at for the smallest network.
MOST_PATHS = 100
#: How often it is timed, after a first call that is not counted.
TIMED_CALLS = 3


def seconds_per_megapixel(network: nn.Module, channels: int, device: torch.device) -> float:
    """Time that a network takes for a million pixels on a device: the median of a few calls on one small image.

    The network is moved to the device and left in evaluation mode.
    """
    network.to(device).eval()
    side = TIMED_SIDE[device.type]
    image = torch.zeros(1, channels, side, side, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(TIMED_CALLS + 1):
            _wait(device)
            start = time.perf_counter()
            network(image)
            _wait(device)
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) / side**2 * 1e6


def size_of(genotype: Genotype, settings: StudyConfig) -> dict[str, int]:
    """``parameters`` and ``multiply_adds_per_pixel`` of a genotype's final network; ValueError as ``make_network``."""
    with torch.device("meta"):
        return _size(make_network(genotype, settings))


def _size(network: nn.Module) -> dict[str, int]:
    return {"parameters": count_parameters(network), "multiply_adds_per_pixel": multiply_adds(network)}


def least_size(settings: StudyConfig) -> dict[str, int]:
    """What no final network of the settings' space is below, each on its own: networks of one operator are looked at,
    and those with each layer's cheapest.

    Raises ValueError naming the setting that is impossible.
    """
    space = make_encoding(settings)
    # as straight as possible to each level: a narrow one may lie behind wider ones
    paths = {tuple(min(layer + 1, level) for layer in range(space.layers)) for level in range(len(space.multipliers))}
    if list(space.multipliers) != sorted(space.multipliers):
        # what a narrow level in between saves before the pyramid or the low-level branch, no straight path shows
        paths |= {*itertools.islice(space.paths(), MOST_PATHS)}
    sizes = []
    for levels in paths:
        with torch.device("meta"):
            uniform = {
                name: make_network(_straight(space, levels, (name,) * space.cells), settings)
                for name in space.operators
            }
        sizes += [_size(network) for network in uniform.values()]
        if space.cells > 1:
            sizes += [size_of(_straight(space, levels, cheapest), settings) for cheapest in _cheapest(uniform)]
    return {name: min(size[name] for size in sizes) for name in sizes[0]}


def _straight(space: Encoding, levels: tuple[int, ...], operators: tuple[str, ...]) -> Genotype:
    """A genotype each of whose cells has one operator throughout."""
    cells = [tuple((Edge(0, operator), Edge(1, operator)) for _ in range(space.nodes)) for operator in operators]
    return Genotype(tuple(cells), levels, space.multipliers, space.macro)


def _cheapest(uniform: dict[str, DerivedNetwork]) -> set[tuple[str, ...]]:
    """The operators of each layer with the fewest parameters, and with the least arithmetic: widths decide which.

    Where one operator is the cheapest of all layers, there is nothing new to look at.
    """
    cells = {name: list(network.cells) for name, network in uniform.items()}
    layers = range(len(next(iter(cells.values()))))
    chosen = {
        tuple(min(cells, key=lambda name: cost(cells[name][layer])) for layer in layers)
        for cost in (count_parameters, multiply_adds_per_pixel)
    }
    return {operators for operators in chosen if len({*operators}) > 1}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
