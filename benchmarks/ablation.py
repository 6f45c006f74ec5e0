"""What each remedy of a search by a supernet changes: it searches, trains what was found, and scores it on Train V.

    python benchmarks/ablation.py --data BSD500 --json benchmarks/results/ablation.json [--minutes 15] [--only darts]
      [--settings search.epochs=12 search.steps_per_epoch=150]

``--data`` holds ``train`` and ``val`` as BSD500 does; test images are never read. Half of the training images train
the weights, half alpha; every eighth of ``val`` is Train V. Every variant and seed is one job that is kept in the file
at once, so that the next call goes on with those that are missing. One CPU thread; seconds are those of the process.
``uniform`` is a genotype that nobody searched, drawn uniformly and trained like all others.
"""

import argparse
import json
import time
from pathlib import Path
from random import Random
from typing import Any

import torch
from measuring import machine
from quality import UniformCrops, read

import irnas_ray as ir
from irnas_ray.networks.building import make_encoding, make_network, make_supernet
from irnas_ray.search.bilevel import run_search
from irnas_ray.search.decodings import Decoding
from irnas_ray.search.single_path import SEARCHES
from irnas_ray.search.successive_halving import CandidateTrainings, rank_correlation
from irnas_ray.settings.study import Search, StudyConfig
from irnas_ray.system.files import write_json
from irnas_ray.training.validation import validation_pixels

#: The space and the budget that all variants share; what a variant sets beside them.
SPACE = (
    "search_spaces=compact search.method=darts architecture.layers=2 architecture.width=12"
    " architecture.operators=[conv,sep,dil,skip,none] search.epochs=6 search.warmup_epochs=2 search.steps_per_epoch=60"
    " search.validate_every=6 search.crop=32 search.candidates=1 search.proxy_steps=400 final.width=16 final.crop=32"
).split()
VARIANTS = {
    "uniform": [],
    "darts": [],
    "the paper's rates": ["search.arch_lr=0.001", "search.arch_beta1=0.9", "search.arch_weight_decay=0.001"],
    "the paper's decay": ["search.arch_weight_decay=0.001"],
    "warmup_paths": ["search.warmup_paths=true"],
    "beta_decay": ["search.beta_decay=25"],
    "auxiliary_skip": ["search.auxiliary_skip=1"],
    "alpha_noise": ["search.alpha_noise=0.3"],
    "skip_dropout": ["search.skip_dropout=0.3"],
    "masking": ["search.decoding=masking", "search.masking_steps=5"],
    "candidates": ["search.candidates=9"],
    "single_path": ["search.method=single_path", "search.path_evaluations=60"],
}
SIGMA = 50


def batches(images: list[Any], crop: int, batch: int, seed: int, rotate: bool = False) -> ir.TrainingBatches:
    """Noisy crops of images."""
    device = torch.device("cpu")
    noise = ir.make_degradation(ir.Degradation(sigmas=[SIGMA]))
    return ir.TrainingBatches(UniformCrops(images, crop, batch, seed, device), crop, noise, seed, device, rotate=rotate)


def run(name: str, seed: int, space: list[str], train: list[Any], validation: list[Any]) -> dict[str, Any]:
    """One search and the short training of what it found."""
    config = ir.compose("search", [*space, *VARIANTS[name]])
    assert isinstance(config, StudyConfig)
    own, final = config.search, config.final
    validate = ir.validator(validation, [SIGMA], None)
    torch.manual_seed(seed)
    begun, found, health = time.process_time(), list[Decoding](), {}
    if name == "uniform":
        found = [Decoding(make_encoding(config).sample(Random(seed)), "uniform")]
    else:
        search = make_search(own, config, train, validation, seed)
        result = run_search(search)
        found = search.decodings()
        health = result.health.to_plain() if result.health else {}
    searched = time.process_time()
    trainings = CandidateTrainings(
        lambda genotype: make_network(genotype, config),
        lambda: batches(train, final.crop, final.batch, 1000 + seed, final.rotate),
        validate,
        final,
        own.proxy_steps,
        config.tune.reduction_factor,
        seed,
    )
    trained = trainings.run(found)
    kept = str(trained[0].decoding.genotype)
    return {
        "variant": name,
        "seed": seed,
        "psnr": trained[0].score,
        "genotype": kept,
        "skip": kept.count("skip") / kept.count("<-"),
        "health": health,
        "correlation": rank_correlation(trained) if len(trained) > 1 else None,
        "search_seconds": round(searched - begun, 1),
        "training_seconds": round(time.process_time() - searched, 1),
    }


def make_search(own: Search, config: StudyConfig, train: list[Any], validation: list[Any], seed: int) -> Any:
    """The search of a method, on half of the images for the weights and half for alpha, with a trial's validation."""
    halves = (batches(train[part::2], own.crop, own.batch, 2 * seed + part) for part in range(2))
    pixels = validation_pixels(own.validation_share, own.steps_per_epoch * own.validate_every, own.batch, own.crop)
    validate = ir.validator(validation, [SIGMA], own.tile, pixels=pixels)
    return SEARCHES[own.method](make_supernet(config), *halves, validate, own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--only", nargs="*", choices=VARIANTS)
    parser.add_argument("--settings", nargs="*", default=[], help="key=value, of all variants")
    options = parser.parse_args()
    torch.set_num_threads(1)
    space = [*SPACE, *options.settings]
    train, validation = read(options.data / "train", "gray", False), read(options.data / "val", "gray", False)[::8]
    kept = json.loads(options.json.read_text()) if options.json.exists() else {"space": space, "rows": []}
    if kept["space"] != space:
        parser.error(f"{options.json}: holds rows of other settings; name another file")
    done = {(row["variant"], row["seed"]) for row in kept["rows"]}
    jobs = [(name, seed) for seed in range(options.seeds) for name in options.only or VARIANTS]
    until = time.monotonic() + 60 * options.minutes
    for name, seed in jobs:
        if (name, seed) in done or time.monotonic() > until:
            continue
        row = run(name, seed, space, train, validation)
        print(f"{name}, seed {seed}: {row['psnr']:.3f} dB, {row['genotype']}, {row['search_seconds']} s", flush=True)
        kept["rows"].append(row)
        write_json(options.json, kept | {"machine": machine("cpu")})


if __name__ == "__main__":
    main()
