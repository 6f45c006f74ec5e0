"""Small pictures with structure at every scale, each of a scene of its own, and files of them."""

import struct
import zlib
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


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def write_deep_png(path: Path, values: np.ndarray, kind: int) -> None:
    """A 16-bit PNG, which Pillow writes for gray images only."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
