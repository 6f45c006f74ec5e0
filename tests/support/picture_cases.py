"""Small pictures with structure at every scale, each of a scene of its own, and files of them."""

from pathlib import Path

import numpy as np
from PIL import Image


def scene(seed: int, height: int = 48, width: int = 64, channels: int = 3) -> np.ndarray:
    """Pixels (h, w, c) of a random scene; another seed is another scene, another size the same one rescaled."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (12, 16, channels), dtype=np.uint8)
    fine = Image.fromarray(random.integers(0, 256, (48, 64, channels), dtype=np.uint8).squeeze())
    blocks = Image.fromarray(coarse.squeeze()).resize((64, 48), Image.Resampling.BICUBIC)
    picture = Image.blend(blocks, fine, 0.2).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture).reshape(height, width, channels)


def noisy(pixels: np.ndarray, seed: int = 0, sigma: float = 30) -> np.ndarray:
    """The pixels with white noise, 8 bit."""
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(path, **options)  # type: ignore[arg-type]


def save_halves(path: Path, clean: np.ndarray, degraded: np.ndarray) -> None:
    save(path, np.concatenate([clean, degraded], axis=1))
