"""The networks that nobody searched for: sampled uniformly, controls, and those one edit away from what was found."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import optuna
import torch

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.encoding import MOST_REJECTIONS, Encoding
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.genotypes.published import load_genotype
from irnas_ray.hpo.methods import METHODS
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.networks.costs import size_of
from irnas_ray.networks.registry import GENOTYPE, make_peer, multiply_adds
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.study.candidates import BUILT_IN, Candidate
from irnas_ray.system.random_streams import stream_seed

#: By how much a uniform network may cost more or less than the one that it is to be compared with.
NEAR = 0.15
#: Networks that are drawn for one that is near.
DRAWS = 300
#: A control is made at most so many times as wide as the study's networks.
WIDEST = 4
#: Depths of DnCNN, the deepest first, and the fewest channels of one that is still taken.
DEPTHS, NARROWEST = (17, 12, 8, 5, 3), 16


@dataclass(frozen=True)
class Network:
    """A network that is trained alone: a genotype with the settings that shape it, or one without a genotype."""

    name: str
    genotype: Genotype | None
    #: Multiply-adds for each pixel, and weights.
    multiply_adds: float = 0.0
    parameters: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    kind: str = GENOTYPE
    arguments: dict[str, Any] = field(default_factory=dict)
    #: Validation PSNR of one that was found, trained alone.
    score: float = 0.0

    def candidate(self, rank: int, seed: int, arm: str) -> Candidate:
        """Its training under a seed, as a study trains it."""
        settings = self.settings | {"final.seed": seed}
        name = f"{self.name}, seed {seed}"
        return Candidate(rank, name, arm, self.genotype, 0.0, settings, self.kind, self.arguments)


class UniformNetworks:
    """Draws networks as random search proposes them: values of the domains, then genotypes, each equally likely."""

    def __init__(self, config: StudyConfig, seed: int) -> None:
        self.config = with_values(config, {"search.method": "random"})
        self.space = SearchSpace.of(self.config)
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # other networks than a random search under the same seed, in as many bits as Optuna's samplers take
        own = stream_seed(seed, "uniform networks") % 2**32
        self._study = optuna.create_study(sampler=METHODS["random"](self.space, self.config.search, own))
        optuna.logging.set_verbosity(verbosity)
        #: How many were drawn.
        self.drawn = 0

    def values(self) -> dict[str, Any]:
        """Values of the domains."""
        proposed = self.space.propose(self._study.ask())
        return {name: value for name, value in proposed.items() if name in self.space.domains}

    def draw(self) -> Network:
        """A network that was not drawn before and is within the study's limits; ValueError where none is found."""
        tuned = self.config.tune
        most = (tuned.max_multiply_adds or math.inf, tuned.max_parameters or math.inf)
        for _ in range(MOST_REJECTIONS):
            network = self._draw()
            if network.multiply_adds <= most[0] and network.parameters <= most[1]:
                return network
        raise ValueError(f"tune.max_*: none of {MOST_REJECTIONS} random networks is within the limits; raise them")

    def _draw(self) -> Network:
        values = self.space.propose(self._study.ask())
        self.drawn += 1
        domains = {name: value for name, value in values.items() if name in self.space.domains}
        genes = {name: value for name, value in values.items() if name not in domains}
        settings = {name: value for name, value in domains.items() if name in BUILT_IN}
        return _sized("", self.space.encoding(domains).decode(genes), self.config, settings)

    def near(self, targets: Sequence[float], count: int) -> list[Network]:
        """Networks whose multiply-adds are within 15 % of the targets', in turn; where none is, the nearest drawn."""
        found = []
        for place in range(count):
            target = targets[place % len(targets)]
            found.append(replace(self._near(target), name=f"uniform {place + 1}"))
        return found

    def _near(self, target: float) -> Network:
        nearest: Network | None = None
        for _ in range(DRAWS):
            network = self.draw()
            if nearest is None or _distance(network, target) < _distance(nearest, target):
                nearest = network
            if is_near(network.multiply_adds, target):
                return network
        assert nearest is not None
        return nearest


def is_near(cost: float, target: float) -> bool:
    """Whether a cost is within 15 % of another one."""
    return abs(cost - target) <= NEAR * target


def mutants(found: Network, config: StudyConfig, count: int, seed: int) -> list[Network]:
    """Distinct networks that are one edit away from one that was found; fewer where there are no more."""
    genotype = found.genotype
    assert genotype is not None
    tied = len(genotype.cells) == 1
    operators = tuple(config.architecture.operators)
    encoding = Encoding(operators, genotype.nodes, genotype.layers, tied, genotype.multipliers, genotype.macro)
    others = list(dict.fromkeys(other for other in encoding.neighbours(genotype) if other != genotype))
    chosen = Random(seed).sample(others, min(count, len(others)))
    return [_sized(f"mutant {place}", one, config, found.settings) for place, one in enumerate(chosen, start=1)]


def controls(found: Network, config: StudyConfig) -> list[Network]:
    """Networks of one operator, the paper's cell, and DnCNN, with about the multiply-adds of one that was found.

    All skip keeps the width of what was found: it has hardly any arithmetic of its own, whatever its width is.
    """
    genotype = found.genotype
    assert genotype is not None
    paper = load_genotype("irnas_denoise" if config.architecture.channels == 1 else "irnas_derain").cells[:1]
    skip, conv = (_uniform_cell(operator, genotype) for operator in ("skip", "conv"))
    return [
        _widened("all convolution", conv, config, found),
        _sized("all skip", skip, config, found.settings),
        _widened("the paper's cell", replace(genotype, cells=paper), config, found),
        _dncnn(found.multiply_adds, config),
    ]


def _uniform_cell(operator: str, like: Genotype) -> Genotype:
    """Every node takes what the two before it give, through one operator."""
    cell = tuple((Edge(node, operator), Edge(node + 1, operator)) for node in range(like.nodes))
    return replace(like, cells=(cell,))


def _sized(name: str, genotype: Genotype, config: StudyConfig, settings: dict[str, Any]) -> Network:
    size = size_of(genotype, with_values(config, settings))
    return Network(name, genotype, size["multiply_adds_per_pixel"], size["parameters"], dict(settings))


def _widened(name: str, genotype: Genotype, config: StudyConfig, like: Network) -> Network:
    """The network of a genotype at the width at which it costs most nearly as much as another one."""

    def at(width: int) -> Network | None:
        try:
            return _sized(name, genotype, config, like.settings | {"final.width": width})
        except ValueError:
            # not every width is a whole one at every level
            return None

    return _nearest(at, range(1, WIDEST * config.final.width + 1), like.multiply_adds)


def _dncnn(target: float, config: StudyConfig) -> Network:
    """DnCNN with so many multiply-adds: the deepest one that is not too narrow."""

    def at(depth: int, width: int) -> Network:
        arguments = {"depth": depth, "width": width}
        with torch.device("meta"):
            cost = multiply_adds(make_peer("dncnn", config.architecture.channels, arguments))
        return Network("DnCNN", None, cost, kind="dncnn", arguments=arguments)

    nets = [_nearest(lambda width, depth=depth: at(depth, width), range(1, 65), target) for depth in DEPTHS]
    wide = [net for net in nets if net.arguments["width"] >= NARROWEST]
    return wide[0] if wide else nets[-1]


def _nearest(at: Callable[..., Network | None], widths: Iterable[int], target: float) -> Network:
    found: Network | None = None
    for width in widths:
        network = at(width)
        if network is None:
            continue
        if found is None or _distance(network, target) < _distance(found, target):
            found = network
        if network.multiply_adds > 2 * target:
            break
    assert found is not None, "a network of at least one width can be built"
    return found


def _distance(network: Network, target: float) -> float:
    return abs(math.log(max(network.multiply_adds, 1) / max(target, 1)))
