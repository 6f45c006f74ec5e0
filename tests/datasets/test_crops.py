"""Crops: of all positions in all images each is equally likely, whether images are kept or streamed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chi2, chisquare

from irnas_ray.datasets import crops, parquet, reader
from irnas_ray.datasets.batches import ResidentImages
from irnas_ray.datasets.builder import prepare
from irnas_ray.datasets.crops import CropPlan
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.settings.study import Data

#: Heights and widths of images of a set, and the side of crops: few positions, and none of two images alike.
SIZES = ((12, 15), (10, 10), (8, 21), (16, 9), (31, 8))
CROP = 8
POSITIONS = [(height - CROP + 1) * (width - CROP + 1) for height, width in SIZES]


def plan_of(sizes: tuple[tuple[int, int], ...] = SIZES, crop: int = CROP) -> CropPlan:
    heights, widths = np.array(sizes, np.int64).T
    return CropPlan(heights, widths, crop)


def numbered(sizes: tuple[tuple[int, int], ...] = SIZES) -> list[np.ndarray]:
    """Gray images (1 h w) in which the first pixels of a crop tell its image and position."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (1, *size), dtype=np.uint8) for size in sizes]


def places(images: list[np.ndarray]) -> dict[bytes, int]:
    """The pixels of every possible crop -> its number."""
    found: dict[bytes, int] = {}
    for image in images:
        for top in range(image.shape[1] - CROP + 1):
            for left in range(image.shape[2] - CROP + 1):
                found[image[:, top : top + CROP, left : left + CROP].tobytes()] = len(found)
    assert len(found) == sum(POSITIONS)
    return found


def uniform(counts: np.ndarray) -> bool:
    """Whether counts are those of equal chances: neither far from equal, nor more equal than chance."""
    return 1e-3 < chisquare(counts).pvalue and chisquare(counts).statistic > chi2.ppf(1e-3, len(counts) - 1) * 0.5


def counted(drawn: list[bytes], images: list[np.ndarray]) -> np.ndarray:
    known = places(images)
    return np.bincount([known[crop] for crop in drawn], minlength=len(known))


def test_every_position_of_kept_images_is_equally_likely():
    images = numbered()
    flat = torch.from_numpy(np.concatenate([image.ravel() for image in images]))
    source = ResidentImages(flat, 255 - flat, plan_of(), 50, 3)
    drawn: list[bytes] = []
    for _ in range(160):
        clean, degraded = next(source)
        assert degraded is not None and clean.shape == (50, 1, CROP, CROP) and torch.equal(degraded, 255 - clean)
        drawn += [crop.tobytes() for crop in clean.numpy()]
    counts = counted(drawn, images)
    assert counts.min() > 0 and uniform(counts)


def test_every_position_of_streamed_images_is_equally_likely(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "PART_BYTES", 300)
    monkeypatch.setattr(reader, "WINDOW_BYTES", 300)
    monkeypatch.setattr(crops, "PASS_SIDES", 0.5)
    images = numbered()
    (tmp_path / "in" / "train").mkdir(parents=True)
    (tmp_path / "in" / "test").mkdir()
    for index, image in enumerate([*images, images[0]]):
        folder = "train" if index < len(images) else "test"
        Image.fromarray(image[0]).save(tmp_path / "in" / folder / f"{index}.png")
    folder = prepare(Data(source=str(tmp_path / "in"), form="images", patch=8), tmp_path / "out")
    manifest = Manifest.load(folder)
    selection = reader.select(Path(folder), manifest, manifest.ids("train"))
    assert len(selection.files) > 2
    drawn: list[bytes] = []
    tables = reader.stream(selection, CROP, 5, 0)
    while len(drawn) < 8000:
        drawn += next(tables)["clean"].to_pylist()
    assert uniform(counted(drawn, images))


def test_a_test_of_equal_chances_can_fail():
    """It finds the crops that lie inside stored patches, as a former release drew them."""
    random = np.random.default_rng(0)
    fair = random.integers(0, 300, 9000)
    assert uniform(np.bincount(fair, minlength=300))
    assert not uniform(np.bincount(np.concatenate([fair, fair[:900] // 2]), minlength=300))
    # A uniform place of a larger window, then a uniform place inside it, prefers the middle.
    twice = random.integers(0, 290, 9000) + random.integers(0, 11, 9000)
    assert not uniform(np.bincount(twice, minlength=300))


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(5, 60), st.integers(5, 60)), min_size=1, max_size=8),
    crop=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_a_pass_gives_each_image_its_share_rounded_up_or_down(sizes, crop, seed):
    plan = plan_of(tuple(sizes), crop)
    positions = [(height - crop + 1) * (width - crop + 1) for height, width in sizes]
    shares = plan.shares(np.random.default_rng(seed))
    assert shares.sum() == plan.count
    for share, own in zip(shares, positions, strict=True):
        assert abs(share - plan.count * own / sum(positions)) < 1 + 1e-6
    drawn = plan.draw(shares, np.random.default_rng(seed))
    assert np.bincount(drawn.image, minlength=len(sizes)).tolist() == shares.tolist()
    for image, top, left in zip(drawn.image, drawn.top, drawn.left, strict=True):
        assert 0 <= top <= sizes[image][0] - crop and 0 <= left <= sizes[image][1] - crop


def test_on_average_an_image_has_exactly_its_share():
    plan = plan_of()
    generator = np.random.default_rng(0)
    mean = np.mean([plan.shares(generator) for _ in range(4000)], axis=0)
    share = plan.count * np.array(POSITIONS) / sum(POSITIONS)
    # four times the largest standard error of a number that is rounded up or down
    assert abs(mean - share).max() < 4 * 0.5 / np.sqrt(4000)


@pytest.mark.parametrize(("crop", "message"), [(0, "crop: 0; at least 1"), (9, "crop: 9 pixels from images of 8;")])
def test_impossible_crops_are_refused(crop, message):
    with pytest.raises(ValueError, match=message):
        plan_of(crop=crop)
