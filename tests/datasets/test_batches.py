"""Batches: exact pixels of the stored patches, every variant of the augmentation, a stream that resumes anywhere."""

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from irnas_ray.datasets.batches import EndlessBatches, ResidentPatches, TrainingBatches
from irnas_ray.degradations.gaussian import GaussianNoise

SIDE = 9


def make_patches(count: int, channels: int = 1, side: int = SIDE) -> Tensor:
    random = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, channels, side, side), generator=random, dtype=torch.uint8)


def numbered(count: int) -> Tensor:
    """Patches of one value each, which tells them apart."""
    return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, SIDE, SIDE).contiguous()


def dihedral(square: Tensor) -> list[Tensor]:
    """The eight rotations and reflections of an image; the second half is flipped left to right."""
    turned = [torch.rot90(square, turns, (-2, -1)) for turns in range(4)]
    return turned + [variant.flip(-1) for variant in turned]


def make_batches(count: int = 5, batch: int = 4, seed: int = 0, crop: int = 4, rotate: bool = True) -> TrainingBatches:
    source = ResidentPatches(make_patches(count, channels=3), None, batch, seed)
    return TrainingBatches(source, crop, GaussianNoise([10, 50]), seed, rotate=rotate)


@pytest.mark.parametrize("rotate", [False, True])
def test_a_crop_is_a_window_of_its_patch_in_every_allowed_variant(rotate):
    patch = torch.arange(SIDE * SIDE, dtype=torch.uint8).view(1, 1, SIDE, SIDE)
    crop = 5
    windows = {
        tuple(variant.flatten().tolist()): (top, left, index)
        for top in range(SIDE - crop + 1)
        for left in range(SIDE - crop + 1)
        for index, variant in enumerate(dihedral(patch[0, 0, top : top + crop, left : left + crop]))
    }
    batches = TrainingBatches(ResidentPatches(patch, patch, 50, 0), crop, None, 0, rotate=rotate)
    seen: Counter[tuple[int, int, int]] = Counter()
    for _ in range(40):
        _, clean = next(batches)
        assert clean.dtype == torch.float32 and clean.shape == (50, 1, crop, crop)
        for image in clean:
            seen[windows[tuple((image * 255).round().to(torch.uint8).flatten().tolist())]] += 1
    assert {(top, left) for top, left, _ in seen} == {(top, left) for top in range(5) for left in range(5)}
    variants: Counter[int] = Counter()
    for (_, _, index), count in seen.items():
        variants[index] += count
    assert set(variants) == (set(range(8)) if rotate else {0, 4})
    assert min(variants.values()) > 0.7 * sum(variants.values()) / len(variants)


def test_pixels_are_scaled_exactly():
    patches = make_patches(3, channels=3)
    clean = next(TrainingBatches(ResidentPatches(patches, patches, 3, 0), SIDE, None, 0))[1]
    either = [patches.float() / 255, patches.flip(-1).float() / 255]
    for image in clean:
        assert any(torch.equal(image, candidate) for version in either for candidate in version)


@pytest.mark.parametrize("rotate", [False, True])
def test_both_halves_of_a_pair_get_the_same_window(rotate):
    clean = make_patches(6, channels=3)
    degraded = 255 - clean
    batches = TrainingBatches(ResidentPatches(clean, degraded, 4, 3), 4, None, 3, rotate=rotate)
    for _ in range(5):
        dark, bright = next(batches)
        torch.testing.assert_close(dark, 1 - bright, atol=1e-6, rtol=0)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 12), batch=st.integers(1, 30), passes=st.integers(1, 4), seed=st.integers(0, 5))
def test_every_patch_is_drawn_once_in_each_pass(count, batch, passes, seed):
    source = ResidentPatches(numbered(count), None, batch, seed)
    drawn: list[int] = []
    while len(drawn) < passes * count:
        clean, degraded = next(source)
        assert degraded is None and len(clean) == batch
        drawn += clean[:, 0, 0, 0].tolist()
    orders = [drawn[turn * count : (turn + 1) * count] for turn in range(passes)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    if count >= 8 and passes > 1:
        assert orders[0] != orders[1]


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 7), batch=st.integers(1, 16), position=st.integers(0, 12), rotate=st.booleans())
def test_a_restored_stream_goes_on_with_the_same_batches(count, batch, position, rotate):
    batches = make_batches(count, batch, rotate=rotate)
    for _ in range(position):
        next(batches)
    state = batches.state_dict()
    expected = [next(batches) for _ in range(3)]
    restored = make_batches(count, batch, rotate=rotate)
    next(restored)  # a stream that has moved is put back as well
    restored.load_state_dict(state)
    for (degraded, clean), (again_degraded, again_clean) in zip(expected, restored, strict=False):
        assert torch.equal(degraded, again_degraded) and torch.equal(clean, again_clean)


def test_equal_seeds_give_equal_streams_and_others_do_not():
    first, same, other = (next(make_batches(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], same[0]) and torch.equal(first[1], same[1])
    assert not torch.equal(first[1], other[1])
    orders = [next(ResidentPatches(numbered(20), None, 20, seed))[0][:, 0, 0, 0].tolist() for seed in (1, 2)]
    assert orders[0] != orders[1]


def test_noise_is_new_in_each_batch_and_of_the_given_levels():
    flat = torch.full((8, 1, SIDE, SIDE), 128, dtype=torch.uint8)
    batches = TrainingBatches(ResidentPatches(flat, None, 8, 0), SIDE, GaussianNoise([10, 50]), 0)
    (first, clean), (second, _) = next(batches), next(batches)
    assert not torch.equal(first, second)
    levels = (first - clean).flatten(1).std(dim=1) * 255
    assert all(abs(level - 10) < 4 or abs(level - 50) < 18 for level in levels.tolist())


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="0 patches in batches of 4"):
        ResidentPatches(make_patches(0), None, 4, 0)
    with pytest.raises(ValueError, match="3 patches in batches of 0"):
        ResidentPatches(make_patches(3), None, 0, 0)
    with pytest.raises(ValueError, match="crop: 0"):
        make_batches(crop=0)
    with pytest.raises(ValueError, match=f"crop: {SIDE + 1} pixels from patches of {SIDE}"):
        next(make_batches(crop=SIDE + 1))
    with pytest.raises(ValueError, match="degradation.kind"):
        next(TrainingBatches(ResidentPatches(make_patches(2), None, 2, 0), 4, None, 0))


def numbered_batches(count: int) -> Any:
    return [(torch.full((1, 1, 2, 2), float(number)),) * 2 for number in range(count)]


def numbers(batches: EndlessBatches, count: int) -> list[int]:
    """The numbers of the next batches."""
    return [int(next(batches)[0].mean()) for _ in range(count)]


class Counted:
    """Re-iterable batches that count how often an iteration begins."""

    def __init__(self, batches: list) -> None:
        self.batches, self.begun = batches, 0

    def __iter__(self):
        self.begun += 1
        return iter(self.batches)


class Resumable:
    """As a stateful data loader: the position that is loaded holds for the iterator that is made next."""

    def __init__(self, batches: list) -> None:
        self.batches, self.place = batches, 0

    def __iter__(self):
        for index in range(self.place, len(self.batches)):
            self.place = index + 1
            yield self.batches[index]
        self.place = 0

    def state_dict(self) -> dict:
        return {"place": self.place}

    def load_state_dict(self, state: dict) -> None:
        self.place = state["place"]


def test_an_iterable_is_started_over_only_when_it_ends():
    batches: Any = Counted(numbered_batches(3))
    endless = EndlessBatches(batches)
    assert numbers(endless, 7) == [0, 1, 2, 0, 1, 2, 0]
    assert batches.begun == 3


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 5), position=st.integers(0, 12), before=st.integers(0, 2), resumable=st.booleans())
def test_any_iterable_resumes(length, position, before, resumable):
    def make() -> EndlessBatches:
        batches = numbered_batches(length)
        return EndlessBatches(Resumable(batches) if resumable else batches)

    endless = make()
    for _ in range(position):
        next(endless)
    restored = make()
    for _ in range(min(before, position)):
        next(restored)
    restored.load_state_dict(endless.state_dict())
    assert numbers(restored, 6) == numbers(endless, 6)


def test_training_data_without_a_batch_are_refused():
    with pytest.raises(ValueError, match="hold no batch"):
        next(EndlessBatches([]))
    once = EndlessBatches(iter(numbered_batches(1)))
    assert numbers(once, 1) == [0]
    with pytest.raises(ValueError, match="an iterator that has ended"):
        next(once)
