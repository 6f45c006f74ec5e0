"""How often an audit's interval misses a difference of zero, and whether plain percentiles would do.

``python benchmarks/audit_intervals.py --worlds 2000`` prints the table of docs/audit.md: of so many pairs of arms that
differ in nothing but chance, the share whose interval lies above zero (which would be called a gain) or below it.
Nominal are 2.5 % each. One CPU thread, two minutes.
"""

import argparse
from collections.abc import Callable

import numpy as np

from irnas_ray.audit.resampling import difference_interval, hierarchical_draws
from irnas_ray.results.table import Table

Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

NOISES: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "t, 3 degrees": lambda rng, shape: rng.standard_t(3, size=shape) / np.sqrt(3),
    "one in five fails": lambda rng, shape: np.where(rng.random(shape) < 0.2, -2.0, 0.5),
}
#: What varies, in dB: between runs (of searched so many times as much), between training seeds, and what an image
#: adds to one arm alone. The images' own differences of some 2 dB are common to both arms.
WORLDS = [
    {"runs": (5, 5), "seeds": 1, "run": 0.05},
    {"runs": (8, 8), "seeds": 1, "run": 0.05},
    {"runs": (20, 20), "seeds": 1, "run": 0.05},
    {"runs": (5, 5), "seeds": 1, "run": 0.05, "noise": "exponential"},
    {"runs": (5, 5), "seeds": 1, "run": 0.05, "noise": "t, 3 degrees"},
    {"runs": (5, 5), "seeds": 1, "run": 0.05, "noise": "one in five fails"},
    {"runs": (5, 5), "seeds": 1, "run": 0.05, "times": 3},
    {"runs": (5, 10), "seeds": 1, "run": 0.05, "times": 3},
    {"runs": (5, 5), "seeds": 1, "run": 0.05, "times": 3, "noise": "one in five fails"},
    {"runs": (5, 5), "seeds": 2, "run": 0.05, "training": 0.04},
    {"runs": (5, 5), "seeds": 3, "run": 0.0, "training": 0.04},
    {"runs": (5, 5), "seeds": 2, "run": 0.02, "training": 0.02, "image": 0.3},
    {"runs": (5, 5), "seeds": 1, "run": 0.02, "training": 0.02, "image": 0.3, "images": 5},
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=600)
    options = parser.parse_args()
    headers = [">runs", ">seeds", ">images", ">SD of runs, seeds, images (dB)", "noise of runs"]
    headers += [">above", ">below", ">percentiles above", ">below"]
    print(Table(headers, [row(world, options.worlds, options.draws) for world in WORLDS]).markdown())


def row(world: dict, worlds: int, draws: int) -> list[str]:
    """A world's description, and the shares of its intervals that miss zero."""
    rng = np.random.default_rng(0)
    missed = np.zeros(4)
    for seed in range(worlds):
        arms = pair(rng, **world)
        drawn = hierarchical_draws(*arms, np.zeros((1, 1, arms[0].shape[2])), draws, seed)
        differences = drawn.searched - drawn.random
        low, high = difference_interval(*arms, differences)
        plain = np.quantile(differences, [0.025, 0.975])
        missed += [low > 0, high < 0, plain[0] > 0, plain[1] < 0]
    times, spread = world.get("times", 1), world["run"]
    runs = f"{times * spread:g} against {spread:g}" if times != 1 else f"{spread:g}"
    return [
        "{} against {}".format(*world["runs"]),
        str(world["seeds"]),
        str(world.get("images", 30)),
        f"{runs}, {world.get('training', 0):g}, {world.get('image', 0):g}",
        world.get("noise", "normal"),
        *(f"{share:.1%}" for share in missed / worlds),
    ]


def pair(
    rng: np.random.Generator,
    runs: tuple[int, int],
    seeds: int,
    run: float,
    training: float = 0.0,
    image: float = 0.0,
    images: int = 30,
    times: float = 1.0,
    noise: str = "normal",
) -> list[np.ndarray]:
    """Two arms whose true means are equal."""
    common = rng.normal(25, 2, images)
    return [
        common
        + factor * run * NOISES[noise](rng, (count, 1, 1))
        + training * rng.normal(size=(count, seeds, 1))
        + image * rng.normal(size=images)
        + 0.02 * rng.normal(size=(count, seeds, images))
        for count, factor in zip(runs, (times, 1.0), strict=True)
    ]


if __name__ == "__main__":
    main()
