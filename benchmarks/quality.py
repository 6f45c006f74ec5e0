"""PSNR for the time spent: trains networks by a recipe on real images, step by step resumable, without Ray.

    python benchmarks/quality.py JOBS.json --data BSD500 --results FOLDER [--job NAME] [--minutes 30]

``JOBS.json`` maps the name of a job to what is trained: ``cell`` (one for all layers, or a list), ``genotype`` or
``network``, ``width``, ``layers``, ``macro``, ``sigma`` (or ``pairs``, or ``degradation`` with its settings),
``seeds``, ``steps`` or ``cpu_seconds`` (of the process, validations included), ``final`` (settings of the recipe),
``train`` and ``validate`` (folders in ``--data``; one of ``stride`` images of the latter scores a training), ``score``
(a protocol, on the folder ``test`` or what ``test`` names, or null); what ``defaults`` holds is every job's unless it
says otherwise. ``start`` names a network whose weights a training begins with. Each seed leaves ``NAME-sSEED.json`` and
``.pt``, its network, and while it is not finished ``.state.pt``, from which the next call goes on. One CPU thread, or
a GPU.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import irnas_ray as ir
from irnas_ray.datasets.batches import Patches, State
from irnas_ray.datasets.whole_images import ImageRecord
from irnas_ray.degradations.factory import validation_degradations
from irnas_ray.evaluation.protocols import get_protocol
from irnas_ray.networks.derived import count_parameters
from irnas_ray.networks.inference import restorer
from irnas_ray.networks.registry import multiply_adds
from irnas_ray.settings.degradations import degradation_from_dict
from irnas_ray.settings.study import Final
from irnas_ray.system.environment import versions
from irnas_ray.system.files import write_json
from irnas_ray.training.training import Training

#: What of a job names a file, as seen from the jobs' own.
FILES = {"genotype", "start"}


class UniformCrops:
    """Endless crops of images, each image and each of its positions equally likely; resumable."""

    def __init__(self, images: list[ImageRecord], crop: int, batch: int, seed: int, device: torch.device) -> None:
        self.images, self.crop, self.batch, self.device = images, crop, batch, device
        self.random = np.random.default_rng(seed)

    def __next__(self) -> Patches:
        clean, degraded = [], []
        for _ in range(self.batch):
            image = self.images[self.random.integers(len(self.images))]
            top = self.random.integers(image.clean.shape[1] - self.crop + 1)
            left = self.random.integers(image.clean.shape[2] - self.crop + 1)
            window = (slice(None), slice(top, top + self.crop), slice(left, left + self.crop))
            clean.append(image.clean[window])
            if image.degraded is not None:
                degraded.append(image.degraded[window])
        pixels = torch.from_numpy(np.stack(clean)).to(self.device)
        return pixels, torch.from_numpy(np.stack(degraded)).to(self.device) if degraded else None

    def state_dict(self) -> State:
        return {"random": json.dumps(self.random.bit_generator.state)}

    def load_state_dict(self, state: State) -> None:
        self.random.bit_generator.state = json.loads(state["random"])


def read(folder: Path, color: str, pairs: bool) -> list[ImageRecord]:
    """The images of a folder in natural order of their names; of pairs the left half is clean, the right one rainy."""
    records = []
    files = [file for file in folder.iterdir() if file.suffix.lower() in (".jpg", ".png")]
    for file in sorted(files, key=lambda file: (len(file.stem), file.stem)):
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L" if color == "gray" else "RGB"))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        half = pixels.shape[2] // 2
        clean, degraded = (pixels[..., :half], pixels[..., half : 2 * half]) if pairs else (pixels, None)
        records.append(ImageRecord(file.stem, clean, degraded))
    return records


def cell_of(text: str) -> ir.genotypes.Cell:
    """The cell of a text such as ``conv<-1 skip<-0 | conv<-2 skip<-1``."""
    nodes = [[edge.split("<-") for edge in node.split()] for node in text.split(" | ")]
    return tuple(tuple(ir.genotypes.Edge(int(source), name) for name, source in node) for node in nodes)


def build(job: dict[str, Any], channels: int) -> torch.nn.Module:
    """The network of a job with new weights."""
    if job.get("network") == "dncnn":
        network: torch.nn.Module = ir.DnCNN(channels=channels, depth=job["layers"], width=job["width"])
        return network.to(memory_format=torch.channels_last)
    if "genotype" in job:
        genotype = ir.Genotype.load(job["genotype"])
    else:
        cells = tuple(cell_of(text) for text in ([job["cell"]] if isinstance(job["cell"], str) else job["cell"]))
        genotype = ir.Genotype(cells, (0,) * job["layers"], (1,), ir.Macro(**job["macro"]))
    network = ir.DerivedNetwork(genotype, channels, job["width"], residual=True, **job.get("arguments", {}))
    return network.to(memory_format=torch.channels_last)


def length_of(job: dict[str, Any]) -> dict[str, Any]:
    """The settings that say how long a job is trained."""
    return {"minutes": job["cpu_seconds"] / 60} if "cpu_seconds" in job else {"steps": job["steps"]}


def degradation_of(job: dict[str, Any]) -> ir.Degradation:
    """What is done to the images of a job."""
    if job.get("pairs"):
        return ir.Degradation(kind="paired")
    return degradation_from_dict(job.get("degradation") or {"sigmas": [job["sigma"]]})


def make_training(job: dict[str, Any], data: Path, device: torch.device) -> Training:
    """The training of a job from its beginning."""
    color, pairs = job.get("color", "gray"), job.get("pairs", False)
    final = replace(Final(), **job["final"], **length_of(job))
    training_images = [image for folder in job["train"] for image in read(data / folder, color, pairs)]
    validation = read(data / job["validate"], color, pairs)[:: job.get("stride", 10)]
    held = {image.clean.tobytes() for image in validation}
    training_images = [image for image in training_images if image.clean.tobytes() not in held]
    torch.manual_seed(job["seed"])
    network = build(job, 1 if color == "gray" else 3).to(device)
    if "start" in job:
        network.load_state_dict(ir.load_network(job["start"])[0].state_dict())
    crops = UniformCrops(training_images, final.crop, final.batch, job["seed"], device)
    degradation = degradation_of(job)
    noise = ir.make_degradation(degradation)
    batches = ir.TrainingBatches(crops, final.crop, noise, job["seed"], device, rotate=final.rotate)
    validate = ir.validator(validation, validation_degradations(degradation), None, device)
    clock = time.process_time if "cpu_seconds" in job else time.perf_counter
    return Training(network, batches, validate, final, clock=clock)


def run(name: str, job: dict[str, Any], data: Path, results: Path, minutes: float, scored: int | None) -> None:
    """Train a job on, or to its end, for at most so many minutes."""
    target, kept = results / f"{name}.json", results / f"{name}.state.pt"
    if target.exists() and "validation_psnr" in json.loads(target.read_text()):
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = make_training(job, data, device)
    network = training.network
    spent = 0.0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        spent = state.pop("cpu_seconds")
        training.load_state_dict(state)
    begun = time.process_time()
    until = time.monotonic() + 60 * minutes
    finished = training.finished
    while not finished and time.monotonic() < until:
        report = training.run()
        finished = report.finished
        print(f"{name}: step {report.step}, {report.used:.0%}, {report.psnr:.3f} dB", flush=True)
        torch.save(training.state_dict() | {"cpu_seconds": spent + time.process_time() - begun}, kept)
    told = job | {key: Path(job[key]).name for key in FILES & job.keys()}
    record = {
        "job": told,
        "step": training.step,
        "parameters": count_parameters(network),
        "multiply_adds_per_pixel": multiply_adds(network),
        "cpu_seconds": round(spent + time.process_time() - begun, 1),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu, one thread",
        "versions": versions("torch"),
    }
    best = {key: value for key, value in training.best.items() if key != "weights"}
    network.load_state_dict(training.best["weights"] or network.state_dict())
    notes = {"sigma": job.get("sigma"), "protocol": job.get("score"), "degradation": asdict(degradation_of(job))}
    ir.save_network(network, results / f"{name}.pt", notes)
    if not finished:
        write_json(target, record | {"best": best})
        return
    record |= {"validation_psnr": best["psnr"], "best_step": best["step"]}
    if job.get("score"):
        test = read(data / job.get("test", "test"), job.get("color", "gray"), job.get("pairs", False))[:scored]
        result = ir.evaluate(restorer(network), test, get_protocol(job["score"]), job.get("sigma"))
        record |= {"protocol": job["score"], "images": len(result.scores), "psnr": result.psnr, "ssim": result.ssim}
    write_json(target, record)
    kept.unlink(missing_ok=True)


def main() -> None:
    """Run the jobs of a file that are not finished, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("jobs", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--job", help="only this one")
    parser.add_argument("--minutes", type=float, default=1e9, help="of wall-clock time, in all")
    parser.add_argument("--images", type=int, help="most test images that are scored")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.results.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * options.minutes
    for name, job in read_jobs(options.jobs):
        left = (until - time.monotonic()) / 60
        if left > 0 and options.job in (None, name):
            run(name, job, options.data, options.results, left, options.images)


def read_jobs(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The jobs of a file, one for each seed, with the defaults filled in."""
    jobs = json.loads(path.read_text())
    defaults = jobs.pop("defaults", {})
    expanded = []
    for name, own in jobs.items():
        job = defaults | own | {"final": defaults.get("final", {}) | own.get("final", {})}
        for key in FILES & job.keys():
            job[key] = str(path.parent / job[key])
        for seed in job.pop("seeds"):
            expanded.append((f"{name}-s{seed}", job | {"seed": seed}))
    return expanded


if __name__ == "__main__":
    main()
