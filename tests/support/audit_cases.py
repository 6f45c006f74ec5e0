"""Searches of a space whose quality is known, and an audit made of them."""

import numpy as np

from irnas_ray.audit.ledger import Cost
from irnas_ray.audit.record import Arm, Audit, Run, audit_of

EDGES, OPERATORS = 8, 4
#: Evaluations of a run of a search.
BUDGET = 100


class World:
    """Networks of eight edges, of which operator 0 is better by ``effect`` dB where it stands on all of them.

    ``seeds`` and ``proxy`` are the standard deviations of a training seed and of what a search is told, in dB.
    """

    def __init__(self, effect: float, seeds: float, proxy: float = 0.05, images: int = 12, seed: int = 0) -> None:
        self.effect, self.seeds, self.proxy = effect, seeds, proxy
        self.rng = np.random.default_rng(seed)
        self.images = self.rng.normal(25, 2, images)

    def quality(self, network: np.ndarray) -> float:
        return self.effect * float((network == 0).mean())

    def network(self) -> np.ndarray:
        return self.rng.integers(OPERATORS, size=EDGES)

    def told(self, network: np.ndarray) -> float:
        return self.quality(network) + self.proxy * self.rng.normal()

    def trained(self, network: np.ndarray, trainings: int = 2) -> np.ndarray:
        """PSNR (training seeds, images) of a network trained alone."""
        seeds = self.seeds * self.rng.normal(size=(trainings, 1))
        return self.quality(network) + seeds + self.images + self.rng.normal(0, 0.02, (trainings, len(self.images)))

    def searched(self) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """The best that a small evolution has found, by what it was told, and all that it was told."""
        known = [(self.told(network), network) for network in (self.network() for _ in range(8))]
        while len(known) < BUDGET:
            child = max(known[-12:], key=lambda one: one[0])[1].copy()
            child[self.rng.integers(EDGES)] = self.rng.integers(OPERATORS)
            known.append((self.told(child), child))
        return self._chosen(known)

    def random(self) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """The best of as many random networks, chosen in the same way."""
        return self._chosen([(self.told(network), network) for network in (self.network() for _ in range(BUDGET))])

    def _chosen(self, known):
        best = max(known, key=lambda one: one[0])[1]
        return best, [(1e9 * (place + 1), 25 + score) for place, (score, _) in enumerate(known)]

    def scores(self, runs: int = 5, networks: int = 20, trainings: int = 2) -> dict[str, np.ndarray]:
        """What ``judge`` is given."""
        return {
            "searched": np.array([self.trained(self.searched()[0], trainings) for _ in range(runs)]),
            "random": np.array([self.trained(self.random()[0], trainings) for _ in range(runs)]),
            "uniform": np.array([self.trained(self.network(), trainings) for _ in range(networks)]),
        }

    def run(self, name: str, network: np.ndarray, trail=()) -> Run:
        return Run(
            name=name,
            scores=self.trained(network).tolist(),
            cost=Cost(trainings=BUDGET, steps=4000, multiply_adds=4e10, seconds=90.0, judging_seconds=30.0),
            network=" | ".join(map(str, network)),
            parameters=43_000,
            multiply_adds_per_pixel=10_800.0,
            skip_share=float((network == 3).mean()),
            ties=1,
            decisions=EDGES,
            trail=list(trail),
        )


def small_audit(runs: int = 5, world: World | None = None) -> Audit:
    """An audit of the small evolution."""
    world = world or World(1.0, 0.04)
    uniform = [world.network() for _ in range(12)]
    arms = {
        "searched": Arm("evolution", [world.run(f"run {r}", *world.searched()) for r in range(runs)]),
        "random": Arm("random search", [world.run(f"run {r}", *world.random()) for r in range(runs)]),
        "uniform": Arm("uniform networks", [world.run(f"network {n}", one) for n, one in enumerate(uniform)]),
        "controls": Arm("controls", [world.run("all <skip>", np.full(EDGES, 3))], one_by_one=True),
    }
    score = [float(np.mean(run.scores)) for run in arms["uniform"].runs]
    proxies = {"mixture score": [(world.told(one), y) for one, y in zip(uniform, score, strict=True)]}
    proxies["parameters"] = [(43_000.0, y) for y in score]
    images = [f"image {n}" for n in range(len(world.images))]
    facts = {"protocol": "bsd200-gray-full", "sigma": "50"}
    return audit_of("evolution-compact", arms, images, 7265.0, proxies, facts, draws=1000)
