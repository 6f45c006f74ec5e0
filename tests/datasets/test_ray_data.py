"""Patches on their way from Parquet to batches: all arrive, in a repeatable order, with trials on every CPU."""

import gc
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pytest
import torch
from PIL import Image

from irnas_ray.datasets import parquet, reader
from irnas_ray.datasets.builder import prepare
from irnas_ray.datasets.manifest import Manifest
from irnas_ray.datasets.ray_data import PatchSet, open_patches
from irnas_ray.settings.study import Data

LARGE = 2**30


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
        patch.setattr(parquet, "PART_BYTES", 2 * 8 * 8 * 3 * 12)
        return prepare(Data(source=str(root / "in"), form="pairs", color="rgb", patch=8), root / "out")


@pytest.fixture(scope="module")
def ids(folder: Path) -> tuple[str, ...]:
    return Manifest.load(folder).ids("train")[:6]


def _stored(folder: Path, ids: tuple[str, ...]) -> list[bytes]:
    rows = pads.dataset(folder / "patches").to_table().to_pylist()
    rows = [row for row in rows if row["image_id"] in ids]
    return [row["clean"] for row in sorted(rows, key=lambda row: (row["image_id"], row["y"], row["x"]))]


def _bytes(clean: torch.Tensor) -> list[bytes]:
    return [pixels.tobytes() for pixels in clean.numpy()]


def _take(batches: object, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [next(batches) for _ in range(count)]  # type: ignore[call-overload]


def _equal(left: list, right: list) -> bool:
    return all(torch.equal(a, b) for one, two in zip(left, right, strict=True) for a, b in zip(one, two, strict=True))


def test_a_stream_gives_each_patch_once_a_pass(folder: Path, ids: tuple[str, ...]) -> None:
    selection = reader.select(folder, ids, ("clean", "degraded"), 384)
    stored = _stored(folder, ids)
    assert selection.rows == len(stored) == 54 and len(selection.files) > 3
    tables = reader.stream(selection, seed=1, drawn=0)
    drawn: list[bytes] = []
    while len(drawn) < 2 * len(stored):
        drawn += next(tables)["clean"].to_pylist()
    first, second = drawn[: len(stored)], drawn[len(stored) :]
    assert sorted(first) == sorted(second) == sorted(stored)
    assert first != second and first != stored


@pytest.mark.parametrize("window_bytes", [1, 384 * 20, LARGE])
def test_a_stream_continues_anywhere(
    folder: Path, ids: tuple[str, ...], window_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "WINDOW_BYTES", window_bytes)
    monkeypatch.setattr(reader, "TABLE_BYTES", 384 * 5)
    selection = reader.select(folder, ids, ("clean",), 384)

    def rows(drawn: int, count: int) -> list[bytes]:
        found: list[bytes] = []
        for table in reader.stream(selection, 7, drawn):
            found += table["clean"].to_pylist()
            if len(found) >= count:
                return found[:count]
        return found

    whole = rows(0, 200)
    for drawn in (1, 17, 53, 54, 55, 130):
        assert rows(drawn, 60) == whole[drawn : drawn + 60]


def test_passed_windows_are_not_read(folder: Path, ids: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "WINDOW_BYTES", 1)
    selection = reader.select(folder, ids, ("clean",), 384)
    opened: list[str] = []
    read = reader._read
    monkeypatch.setattr(reader, "_read", lambda path, *rest: opened.append(path) or read(path, *rest))
    next(reader.stream(selection, 7, 1000 * selection.rows + selection.rows - 1))
    assert len(opened) == 1


def test_resident_patches_arrive_sorted_and_paired(ray_local: None, folder: Path, ids: tuple[str, ...]) -> None:
    patches = open_patches(folder, ids[::-1], LARGE)
    assert patches.dataset is not None and patches.rows == 54
    batches = patches.batches(12, 3, "cpu")
    assert _bytes(batches.clean) == _stored(folder, ids)
    assert torch.equal(batches.degraded, 255 - batches.clean)
    assert next(batches)[0].shape == (12, 3, 8, 8)


def test_resident_patches_do_not_depend_on_the_order_of_blocks(
    ray_local: None, folder: Path, ids: tuple[str, ...]
) -> None:
    patches = open_patches(folder, ids, LARGE)
    mixed = patches.dataset.random_shuffle(seed=0).materialize()
    shuffled = PatchSet(patches.selection, 3, 8, mixed, patches.keys)
    assert torch.equal(shuffled.batches(1, 0, "cpu").clean, patches.batches(1, 0, "cpu").clean)


def test_streamed_batches_repeat_and_resume_exactly(ray_local: None, folder: Path, ids: tuple[str, ...]) -> None:
    patches = pickle.loads(pickle.dumps(open_patches(folder, ids, 0)))
    assert patches.dataset is None and patches.paired
    batches = patches.batches(10, 3, "cpu")
    first = _take(batches, 7)
    state = batches.state_dict()
    rest = _take(batches, 7)
    assert all(clean.shape == (10, 3, 8, 8) and torch.equal(degraded, 255 - clean) for clean, degraded in first)
    again = patches.batches(10, 3, "cpu")
    again.load_state_dict(state)
    assert _equal(_take(again, 7), rest)
    again.load_state_dict({**state, "drawn": 0})
    assert _equal(_take(again, 14), first + rest)
    one_pass = _bytes(torch.cat([clean for clean, _ in first]))[:54]
    assert sorted(one_pass) == sorted(_stored(folder, ids))
    with pytest.raises(ValueError, match="seed 3"):
        patches.batches(10, 4, "cpu").load_state_dict(state)
    assert not _equal(_take(patches.batches(10, 4, "cpu"), 7), first)


@pytest.mark.whole
def test_trials_on_every_cpu_get_the_same_batches(ray_local: None, folder: Path, ids: tuple[str, ...]) -> None:
    import ray

    def trial(*sets: PatchSet) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], float]:
        # Two streams of each, as weights and architecture are trained on.
        streams = [patches.batches(8, seed, "cpu") for patches in sets for seed in (1, 2)]
        batches = [next(stream) for _ in range(10) for stream in streams]
        return batches, ray.available_resources().get("CPU", 0.0)

    holder = ray.remote(num_cpus=1)(lambda: time.sleep(60)).remote()
    try:
        # Opened while the CPUs are taken, too: another study may hold them.
        sets = [open_patches(folder, ids, budget) for budget in (LARGE, 0)]
        assert [patches.dataset is not None for patches in sets] == [True, False]
        run = ray.remote(num_cpus=1, max_retries=0)(trial)
        first, free = ray.get(run.remote(*sets), timeout=300)
        second, _ = ray.get(run.remote(*sets), timeout=300)
    finally:
        ray.cancel(holder, force=True)
    assert free == 0 and _equal(first, second)


def test_a_dropped_stream_ends_its_execution(ray_local: None, folder: Path, ids: tuple[str, ...]) -> None:
    def executions() -> int:
        gc.collect()
        return sum("StreamingExecutor" in thread.name for thread in threading.enumerate())

    def wait_for(count: int) -> int:
        deadline = time.monotonic() + 300
        while executions() != count and time.monotonic() < deadline:
            time.sleep(0.1)
        return executions()

    assert wait_for(0) == 0
    batches = open_patches(folder, ids, 0).batches(4, 0, "cpu")
    next(batches)
    assert executions() == 1
    del batches
    assert wait_for(0) == 0


def test_wrong_requests_are_refused_at_once(ray_local: None, folder: Path, ids: tuple[str, ...]) -> None:
    held_out = Manifest.load(folder).ids("test")
    with pytest.raises(ValueError, match=f"no patches of {held_out[0]}"):
        open_patches(folder, held_out, LARGE)
    with pytest.raises(ValueError, match="empty list"):
        open_patches(folder, [], LARGE)
    with pytest.raises(ValueError, match="dataset.json"):
        open_patches(folder.parent, ids, LARGE)
    with pytest.raises(ValueError, match="batch is 0"):
        open_patches(folder, ids, 0).batches(0, 0, "cpu")
