"""Files of 16 bits whose every value tells where in them it is from."""

from pathlib import Path

import numpy as np
import tifffile
from picture_cases import write_deep_png

from irnas_ray.settings.study import Data

#: Side of the crops.
CROP = 8


def unique(seed: int, channels: int, height: int = 20, width: int = 24) -> np.ndarray:
    """Pixels (h, w, c) of which no two are equal, so that each tells where it is from."""
    values = np.random.default_rng(seed).permutation(65536)[: height * width * channels]
    return values.astype(np.uint16).reshape(height, width, channels)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        write_deep_png(path, pixels, 2 if pixels.shape[2] == 3 else 0)
    else:
        tifffile.imwrite(path, pixels.squeeze(), photometric="rgb" if pixels.shape[2] == 3 else "minisblack")


def source(root: Path, form: str, color: str, suffix: str = ".png", count: int = 4) -> tuple[Data, dict]:
    """A folder of deep images, and the clean and degraded pixels (c, h, w) of each."""
    channels, expected = (3 if color == "rgb" else 1), {}
    for index in range(count):
        clean, degraded = unique(index, channels), unique(100 + index, channels)
        if form == "pairs":
            write(root / "clean" / f"{index}{suffix}", clean)
            write(root / "degraded" / f"{index}{suffix}", degraded)
        else:
            write(root / f"{index}{suffix}", clean if form == "images" else np.concatenate([clean, degraded], axis=1))
        sides = [side.transpose(2, 0, 1) for side in (clean, degraded)]
        expected[str(index)] = (sides[0], None if form == "images" else sides[1])
    return Data(source=str(root), form=form, color=color, patch=CROP), expected


def same(found: np.ndarray | None, expected: np.ndarray | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return found.dtype == expected.dtype and np.array_equal(found, expected)


def origin(crop: np.ndarray, images: dict) -> tuple[str, slice, slice]:
    """The image that a crop is from, and where it lies."""
    for image_id, (clean, _) in images.items():
        for top, left in np.argwhere(clean[0] == crop[0, 0, 0]):
            place = np.s_[top : top + CROP], np.s_[left : left + CROP]
            if same(crop, clean[:, place[0], place[1]]):
                return image_id, *place
    raise AssertionError("a crop is of no image")
