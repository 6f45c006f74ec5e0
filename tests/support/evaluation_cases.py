"""Images and scores that tests of evaluation share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage import data

from irnas_ray.evaluation.scores import Evaluation, Score


@dataclass(frozen=True)
class Record:
    """An image to evaluate on."""

    image_id: str
    clean: np.ndarray
    degraded: np.ndarray | None = None


def camera(name: str = "camera", size: tuple[int, int] = (48, 60)) -> Record:
    """A gray part of a photograph."""
    return Record(name, data.camera()[None, 120 : 120 + size[0], 150 : 150 + size[1]].copy())


def pair(name: str = "pair") -> Record:
    """A colour part of a photograph, and the same but brighter."""
    clean = data.astronaut()[:40, :50].transpose(2, 0, 1).copy()
    return Record(name, clean, np.clip(clean.astype(int) + 20, 0, 255).astype(np.uint8))


def evaluation(
    method: str = "m",
    psnr: float | Sequence[float] = 25.0,
    protocol: str = "bsd200-gray-full",
    sigma: float | None = 50.0,
    names: Sequence[str] = "abcdefghij",
) -> Evaluation:
    """An evaluation with these PSNRs, one image for each."""
    values = [psnr] if isinstance(psnr, float) else psnr
    scores = [Score(name, value, value / 40, 0.1) for name, value in zip(names, values, strict=False)]
    return Evaluation(method, protocol, sigma, scores)
