"""Where training crops lie: of all crops of all images each is drawn equally often, and no image comes in clusters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from irnas_ray.datasets.manifest import ImageEntry

#: A pass has a crop for as many pixels as a square of so many crops' sides holds.
PASS_SIDES = 1.5


@dataclass(frozen=True)
class Crops:
    """Square crops in the order in which they are drawn: each one's image, by its index, and its top and left pixel."""

    image: Int64[np.ndarray, " n"]
    top: Int64[np.ndarray, " n"]
    left: Int64[np.ndarray, " n"]

    def __getitem__(self, part: slice) -> "Crops":
        return Crops(self.image[part], self.top[part], self.left[part])

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class CropPlan:
    """Crops of one side out of images of any sizes; ValueError if an image is smaller or the side is under 1 pixel.

    They are drawn in passes of always the same number. In each pass an image has its share of the crops, rounded up or
    down at random; the share is that of its positions among those of all images, so that every position of every image
    is equally likely.
    """

    heights: Int64[np.ndarray, " n"]
    widths: Int64[np.ndarray, " n"]
    crop: int

    def __post_init__(self) -> None:
        if self.crop < 1:
            raise ValueError(f"crop: {self.crop}; at least 1 pixel")
        smallest = min(int(self.heights.min()), int(self.widths.min()))
        if smallest < self.crop:
            raise ValueError(f"crop: {self.crop} pixels from images of {smallest}; crop less or leave out small images")

    @classmethod
    def of(cls, images: Sequence[ImageEntry], crop: int) -> "CropPlan":
        """The plan for the images of a manifest."""
        heights, widths = (np.array([getattr(x, name) for x in images], np.int64) for name in ("height", "width"))
        return cls(heights, widths, crop)

    @property
    def count(self) -> int:
        """Crops in a pass."""
        return max(1, round(int((self.heights * self.widths).sum()) / (PASS_SIDES * self.crop) ** 2))

    def shares(self, generator: np.random.Generator) -> Int64[np.ndarray, " n"]:
        """How many crops each image has in a pass: the whole numbers next to its share, on average the share itself."""
        positions = (self.heights - self.crop + 1) * (self.widths - self.crop + 1)
        ends = positions.cumsum() / positions.sum() * self.count
        # Systematic sampling: marks at distance 1 with a random start, counted in each image's part of the line.
        passed = np.clip(np.ceil(ends - generator.random()), 0, self.count).astype(np.int64)
        return np.diff(passed, prepend=0)

    def draw(self, shares: Int64[np.ndarray, " n"], generator: np.random.Generator) -> Crops:
        """So many crops of each image, anywhere in it, in a random order."""
        image = generator.permutation(np.repeat(np.arange(len(shares)), shares))
        top, left = (generator.integers(side[image] - self.crop + 1) for side in (self.heights, self.widths))
        return Crops(image, top, left)
