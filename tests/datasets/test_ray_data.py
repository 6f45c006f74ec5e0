"""Images on their way from Parquet to batches: all arrive, in a repeatable order, with trials on every CPU."""

import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from deep_cases import origin, same
from deep_cases import source as deep_source
from local_ray import streams
from PIL import Image

from irnas_ray.datasets import parquet, ray_data, reader
from irnas_ray.datasets.batches import TrainingBatches
from irnas_ray.datasets.builder import prepare
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.datasets.ray_data import PatchSet, open_patches
from irnas_ray.datasets.whole_images import load_images
from irnas_ray.settings.study import Data

LARGE = 2**30
#: Side of the crops; of six images of 24x20 pixels a pass has 20.
CROP, PASS = 8, 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pairs of images in many small Parquet files; each pair's degraded image is its clean one inverted."""
    root = tmp_path_factory.mktemp("patches")
    for index in range(10):
        clean = np.random.default_rng(index).integers(0, 256, (24, 20, 3), dtype=np.uint8)
        for side, pixels in {"clean": clean, "degraded": 255 - clean}.items():
            (root / "in" / side).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / "in" / side / f"{index}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "PART_BYTES", 2 * 24 * 20 * 3)
        return prepare(Data(source=str(root / "in"), form="pairs", color="rgb", patch=8), root / "out")


@pytest.fixture(scope="module")
def ids(folder: Path) -> tuple[str, ...]:
    return Manifest.load(folder).ids("train")[:6]


def _selected(folder: Path, ids: tuple[str, ...]) -> reader.Selection:
    return reader.select(folder, Manifest.load(folder), ids)


def _possible(folder: Path, ids: tuple[str, ...]) -> list[set[bytes]]:
    """All crops of each image."""
    windows = [
        np.lib.stride_tricks.sliding_window_view(record.clean, (3, CROP, CROP)).reshape(-1, 3 * CROP * CROP)
        for record in load_images(folder, ids)
    ]
    return [{crop.tobytes() for crop in image} for image in windows]


def _owners(crops: list[bytes], possible: list[set[bytes]]) -> list[int]:
    """How many crops are of each image."""
    counts = [sum(crop in image for crop in crops) for image in possible]
    assert sum(counts) == len(crops)
    return counts


def _bytes(clean: torch.Tensor) -> list[bytes]:
    return [pixels.tobytes() for pixels in clean.numpy()]


def _take(batches: object, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [next(batches) for _ in range(count)]  # type: ignore[call-overload]


def _equal(left: list, right: list) -> bool:
    return all(torch.equal(a, b) for one, two in zip(left, right, strict=True) for a, b in zip(one, two, strict=True))


def test_a_stream_gives_each_image_its_share_of_a_pass(folder: Path, ids: tuple[str, ...]) -> None:
    selection, possible = _selected(folder, ids), _possible(folder, ids)
    assert len(selection.files) > 3 and selection.total_bytes == 2 * 6 * 24 * 20 * 3
    tables = reader.stream(selection, CROP, seed=1, drawn=0)
    drawn: list[bytes] = []
    while len(drawn) < 2 * PASS:
        drawn += next(tables)["clean"].to_pylist()
    first, second = drawn[:PASS], drawn[PASS : 2 * PASS]
    # 20 crops of six images: three or four of each
    assert {*_owners(first, possible), *_owners(second, possible)} == {3, 4}
    assert first != second


@pytest.mark.parametrize("window_bytes", [1, 2 * 24 * 20 * 3, LARGE])
def test_a_stream_continues_anywhere(
    folder: Path, ids: tuple[str, ...], window_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "WINDOW_BYTES", window_bytes)
    monkeypatch.setattr(reader, "TABLE_BYTES", 384 * 5)
    selection = _selected(folder, ids)

    def rows(drawn: int, count: int) -> list[bytes]:
        found: list[bytes] = []
        for table in reader.stream(selection, CROP, 7, drawn):
            found += table["clean"].to_pylist()
            if len(found) >= count:
                return found[:count]
        return found

    whole = rows(0, 200)
    for drawn in (1, 17, 19, 20, 21, 130):
        assert rows(drawn, 60) == whole[drawn : drawn + 60]


def test_passed_windows_are_not_read(folder: Path, ids: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "WINDOW_BYTES", 1)
    selection = _selected(folder, ids)
    opened: list[str] = []
    read = reader.Selection.read
    monkeypatch.setattr(
        reader.Selection, "read", lambda self, file, *more: opened.append(file.path) or read(self, file)
    )
    next(reader.stream(selection, CROP, 7, 1000 * PASS + PASS - 1))
    assert len(opened) == 1


def test_resident_images_arrive_whole_and_paired(ray_local: None, folder: Path, ids: tuple[str, ...]) -> None:
    patches = open_patches(folder, ids[::-1], LARGE)
    assert patches.stored is not None
    batches = patches.batches(12, CROP, 3, "cpu")
    stored = np.concatenate([record.clean.ravel() for record in load_images(folder, sorted(ids))])
    assert batches.clean.numpy().tobytes() == stored.tobytes()
    assert torch.equal(batches.degraded, 255 - batches.clean)
    clean, degraded = next(batches)
    assert clean.shape == (12, 3, CROP, CROP) and torch.equal(degraded, 255 - clean)
    assert sum(_owners(_bytes(clean), _possible(folder, ids))) == 12


def test_resident_images_do_not_depend_on_the_order_of_blocks(
    ray_local: None, folder: Path, ids: tuple[str, ...]
) -> None:
    patches = open_patches(folder, ids, LARGE)
    assert patches.stored is not None and len(patches.stored) > 1
    shuffled = PatchSet(patches.selection, patches.stored[::-1])
    batches = [each.batches(1, CROP, 0, "cpu").clean for each in (shuffled, patches)]
    assert torch.equal(*batches)


def test_a_large_set_is_read_by_ray_data_and_is_the_same(
    ray_local: None, folder: Path, ids: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_patches(folder, ids, LARGE)
    monkeypatch.setattr(ray_data, "BLOCK_BYTES", 1)
    there = open_patches(folder, ids, LARGE)
    assert here.stored != there.stored
    assert torch.equal(*(each.batches(1, CROP, 0, "cpu").clean for each in (here, there)))


def test_streamed_batches_repeat_and_resume_exactly(ray_local: None, folder: Path, ids: tuple[str, ...]) -> None:
    patches = pickle.loads(pickle.dumps(open_patches(folder, ids, 0)))
    assert patches.stored is None and patches.paired
    batches = patches.batches(10, CROP, 3, "cpu")
    first = _take(batches, 7)
    state = batches.state_dict()
    rest = _take(batches, 7)
    assert all(clean.shape == (10, 3, 8, 8) and torch.equal(degraded, 255 - clean) for clean, degraded in first)
    again = patches.batches(10, CROP, 3, "cpu")
    again.load_state_dict(state)
    assert _equal(_take(again, 7), rest)
    again.load_state_dict({**state, "drawn": 0})
    assert _equal(_take(again, 14), first + rest)
    assert set(_owners(_bytes(torch.cat([clean for clean, _ in first]))[:PASS], _possible(folder, ids))) == {3, 4}
    other = patches.batches(10, CROP, 4, "cpu")
    other.load_state_dict(state)
    assert _equal(_take(other, 7), rest)  # as it was begun, so that a study goes on after seeds are derived otherwise
    with pytest.raises(ValueError, match="the state is of 7 crops in a pass"):
        other.load_state_dict({**state, "crops": 7})
    again.load_state_dict({"drawn": 70, "seed": 3, "rows": 54})  # as a release that drew stored patches kept it
    assert _equal(_take(again, 7), rest)
    assert not _equal(_take(patches.batches(10, CROP, 4, "cpu"), 7), first)


@pytest.mark.whole
def test_trials_on_every_cpu_get_the_same_batches(ray_local: None, folder: Path, ids: tuple[str, ...]) -> None:
    import ray

    def trial(*sets: PatchSet) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], float]:
        # Two streams of each, as weights and architecture are trained on.
        streams = [patches.batches(8, CROP, seed, "cpu") for patches in sets for seed in (1, 2)]
        batches = [next(stream) for _ in range(10) for stream in streams]
        return batches, ray.available_resources().get("CPU", 0.0)

    holder = ray.remote(num_cpus=1)(lambda: time.sleep(60)).remote()
    try:
        # Opened while the CPUs are taken, too: another study may hold them.
        sets = [open_patches(folder, ids, budget) for budget in (LARGE, 0)]
        assert [patches.stored is not None for patches in sets] == [True, False]
        run = ray.remote(num_cpus=1, max_retries=0)(trial)
        first, free = ray.get(run.remote(*sets), timeout=300)
        second, _ = ray.get(run.remote(*sets), timeout=300)
    finally:
        ray.cancel(holder, force=True)
    assert free == 0 and _equal(first, second)


def test_a_dropped_stream_ends_its_execution(ray_local: None, folder: Path, ids: tuple[str, ...]) -> None:
    def wait_for(count: int) -> int:
        deadline = time.monotonic() + 300
        while streams() != count and time.monotonic() < deadline:
            time.sleep(0.1)
        return streams()

    assert wait_for(0) == 0
    batches = open_patches(folder, ids, 0).batches(4, CROP, 0, "cpu")
    next(batches)
    assert streams() == 1
    del batches
    assert wait_for(0) == 0


def test_wrong_requests_are_refused_at_once(ray_local: None, folder: Path, ids: tuple[str, ...]) -> None:
    held_out = Manifest.load(folder).ids("test")
    with pytest.raises(ValueError, match=f"no training images {held_out[0]}"):
        open_patches(folder, held_out, LARGE)
    with pytest.raises(ValueError, match="empty list"):
        open_patches(folder, [], LARGE)
    with pytest.raises(ValueError, match="dataset.json"):
        open_patches(folder.parent, ids, LARGE)
    with pytest.raises(ValueError, match="batch is 0"):
        open_patches(folder, ids, 0).batches(0, CROP, 0, "cpu")


@pytest.mark.parametrize("budget", [2**30, 0], ids=["resident", "streamed"])
def test_trials_get_the_stored_values_on_their_device(ray_local: None, tmp_path: Path, budget: int) -> None:
    data, expected = deep_source(tmp_path / "in", "pairs", "rgb", count=6)
    manifest = Manifest.load(prepare(data, tmp_path / "out"))
    patches = open_patches(tmp_path / "out", manifest.ids("train"), budget)
    assert patches.selection.total_bytes == 2 * 2 * 3 * 20 * 24 * len(manifest.ids("train"))
    assert (patches.stored is None) == (budget == 0)
    batches = TrainingBatches(patches.batches(10, CROP, 3, "cpu"), CROP, None, 0)
    clean, degraded = next(patches.batches(10, CROP, 3, "cpu"))
    assert clean.dtype == degraded.dtype == torch.uint16
    for one, other in zip(clean.numpy(), degraded.numpy(), strict=True):
        image_id, rows, columns = origin(one, expected)
        assert same(other, expected[image_id][1][:, rows, columns])
    # the batches are the same crops, each perhaps mirrored
    for floats, pixels in zip(next(batches), (degraded, clean), strict=True):
        exact = pixels.numpy().astype(np.float64) / 65535
        for image, wanted in zip(floats.numpy(), exact.astype(np.float32), strict=True):
            assert np.array_equal(image, wanted) or np.array_equal(image[:, :, ::-1], wanted)
