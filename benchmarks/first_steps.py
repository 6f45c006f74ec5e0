"""Whether a recipe trains every network of a search space: random ones of it, each for a few steps, with either head.

    python benchmarks/first_steps.py --data BSD500 --networks 16 --steps 160

PSNR on every tenth image of ``val``; a network that still gives the degraded image back has learned nothing.
"""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from measuring import arguments, report
from quality import UniformCrops, read

import irnas_ray as ir
from irnas_ray.degradations.factory import validation_degradations
from irnas_ray.genotypes.encoding import Encoding
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.building import make_network
from irnas_ray.networks.derived import multiply_adds_per_pixel
from irnas_ray.settings.study import StudyConfig
from irnas_ray.training.training import Training

HEADS = ("plain", "linear")


def drawn(config: StudyConfig, rng: Random) -> tuple[StudyConfig, Genotype]:
    """A configuration of ``compact`` within its limit: macro choices, width and cells uniformly."""
    while True:
        own = replace(
            config.architecture,
            unshuffle=rng.choice([1, 2, 4]),
            layers=rng.randint(2, 6),
            lower_level=rng.random() < 0.5,
        )
        settings = replace(config, architecture=own, final=replace(config.final, width=rng.randrange(8, 49, 4)))
        genotype = Encoding.of(own).sample(rng)
        most = config.tune.max_multiply_adds
        assert most is not None
        if multiply_adds_per_pixel(make_network(genotype, settings)) <= most:
            return settings, genotype


def psnr(settings: StudyConfig, genotype: Genotype, head: str, steps: int, data: dict[str, Any]) -> float:
    """What a network of the genotype with this head reaches after so many steps; NaN where its loss was lost."""
    torch.manual_seed(0)
    network = make_network(replace(genotype, macro=replace(genotype.macro, head=head)), settings)
    final = replace(settings.final, steps=steps, validate_every=steps)
    cpu = torch.device("cpu")
    crops = UniformCrops(data["train"], final.crop, final.batch, 0, cpu)
    noise = ir.make_degradation(settings.degradation)
    batches = ir.TrainingBatches(crops, final.crop, noise, 0, cpu, rotate=final.rotate)
    validate = ir.validator(data["val"], validation_degradations(settings.degradation), None, cpu)
    try:
        return Training(network, batches, validate, final).run().psnr
    except FloatingPointError:
        return float("nan")


def main() -> None:
    parser = arguments("Random networks of compact, trained for a few steps with either head.", threads=1)
    parser.add_argument("--data", type=Path, required=True, help="BSD500")
    parser.add_argument("--networks", type=int, default=16)
    parser.add_argument("--steps", type=int, default=160)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = {
        "train": read(options.data / "train", "gray", False),
        "val": read(options.data / "val", "gray", False)[::10],
    }
    config, rng, rows = ir.compose("search", ["search_spaces=compact"]), Random(1), []
    for _ in range(options.networks):
        settings, genotype = drawn(config, rng)
        own = settings.architecture
        row: dict[str, Any] = {
            "network": f"unshuffle {own.unshuffle}, {own.layers} layers, width {settings.final.width}"
            + (", lower level" if own.lower_level else ""),
            "multiply-adds": multiply_adds_per_pixel(make_network(genotype, settings)),
        }
        rows.append(row | {head: psnr(settings, genotype, head, options.steps, data) for head in HEADS})
        print(rows[-1], flush=True)
    options.data = options.data.name  # where it lies is nobody's business
    report("first_steps", rows, options)


if __name__ == "__main__":
    main()
