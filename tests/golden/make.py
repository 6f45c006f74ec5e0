"""The golden search: a tiny one on a photograph, in float64, whose losses any correct version must repeat.

``search.json`` holds its values. Where an equation is changed on purpose, write it anew and say why in the commit:

    python tests/golden/make.py
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import skimage.data
import torch

from irnas_ray.datasets.batches import Batch, ResidentPatches, TrainingBatches
from irnas_ray.degradations.factory import degrade_image
from irnas_ray.degradations.gaussian import GaussianNoise
from irnas_ray.evaluation.metrics import psnr, ssim
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.search.bilevel import bilevel_search

FILE = Path(__file__).with_name("search.json")
PATCH, CROP = 24, 16


def run() -> dict[str, Any]:
    """Losses and scores of each epoch, and alpha, beta and genotype of the end; all six operators, one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    photograph = torch.from_numpy(skimage.data.camera())
    net = SuperNet(channels=1, layers=2, nodes=2, width=2, stem_channels=8).double()
    clean = photograph[None, 200:232, 200:232].double() / 255
    degraded = degrade_image(clean, "camera", 50)

    def validate(network: torch.nn.Module) -> dict[str, float]:
        network.eval()
        with torch.no_grad():
            restored = network(degraded[None])
        return {"psnr": psnr(restored, clean[None]).item(), "ssim": ssim(restored, clean[None]).item()}

    result = bilevel_search(
        net,
        _batches(photograph[:, :240], 0),
        _batches(photograph[:, 240:], 1),
        validate,
        epochs=5,
        warmup_epochs=2,
        steps_per_epoch=4,
        arch_lr=0.02,
        gradient_clip=None,
    )
    columns = ("weight_loss", "arch_loss", "psnr", "ssim")
    curves: dict[str, Any] = {name: [getattr(report, name) for report in result.reports] for name in columns}
    return curves | {
        "alpha": net.alpha.flatten().tolist(),
        "beta": net.beta.flatten().tolist(),
        "genotype": str(result.genotype),
    }


def _batches(photograph: torch.Tensor, seed: int) -> Iterator[Batch]:
    patches = photograph.unfold(0, PATCH, PATCH).unfold(1, PATCH, PATCH).reshape(-1, 1, PATCH, PATCH)
    batches = TrainingBatches(Patches(patches, None, batch=4, seed=seed), CROP, GaussianNoise([30, 50, 70]), seed)
    batches.geometry.manual_seed(seed)
    batches.noise.manual_seed(seed + 1)
    for degraded, clean in batches:
        yield degraded.double(), clean.double()


class Patches(ResidentPatches):
    """In the order that they had when the values were first written, so that these say nothing about streams."""

    def _order_of(self, turn: int) -> torch.Tensor:
        return torch.randperm(len(self.clean), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + turn))


if __name__ == "__main__":
    FILE.write_text(json.dumps(run(), indent=1) + "\n")
    print(f"wrote {FILE}")
