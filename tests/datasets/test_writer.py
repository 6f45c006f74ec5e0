"""Parts: the same bytes by any number of processes, and after a kill only what was missing is written."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from picture_cases import save, scene

from irnas_ray.datasets import parquet, writer
from irnas_ray.datasets.builder import prepare
from irnas_ray.datasets.manifest import Manifest, is_prepared
from irnas_ray.datasets.whole_images import load_images
from irnas_ray.images import findings
from irnas_ray.settings.study import Data
from irnas_ray.system.worker_pool import WorkerKilled

ROOT = Path(__file__).parents[2]
#: Bytes of a part that holds two or three of the images below.
SMALL_PART = 23_000


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setattr(parquet, "PART_BYTES", SMALL_PART)
    for index in range(12):
        save(tmp_path / "in" / f"{index}.png", scene(index, 50 + index, 64))
    return Data(source=str(tmp_path / "in"), form="images", color="rgb", patch=16)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a data set; the manifest without the time at which it was written."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(files["dataset.json"])
    del manifest["created"]
    return files | {"dataset.json": json.dumps(manifest).encode()}


def test_files_do_not_depend_on_the_number_of_processes(tmp_path, data, monkeypatch):
    monkeypatch.setattr(findings, "_MANY", 5)
    monkeypatch.setattr(findings, "_PIECE", 5)
    alone = prepare(data, tmp_path / "alone", workers=1)
    seen: list[tuple[int, int]] = []
    spread = prepare(data, tmp_path / "spread", lambda done, total: seen.append((done, total)), workers=2)
    assert content(alone) == content(spread)
    assert seen[-1] == (12, 12) and len(list((alone / "images").iterdir())) >= 5
    assert not (alone / writer.RECORDS).exists()
    manifest = Manifest.load(alone)
    assert [image.image_id for image in manifest.images] == [str(index) for index in range(12)]
    records = load_images(alone, [str(index) for index in range(12)])
    assert all((record.clean == scene(i, 50 + i, 64).transpose(2, 0, 1)).all() for i, record in enumerate(records))


def test_parts_are_of_bounded_size(tmp_path, data):
    found = prepare(data, tmp_path / "out")
    assert max(path.stat().st_size for path in (found / "images").iterdir()) < SMALL_PART * 1.5
    layout = parquet.Layout("rgb", False, SMALL_PART)
    images = [writer.SourceImage(str(index), "train", tmp_path) for index in range(50)]
    planned = writer.plan_parts(tmp_path, images, [(40, 40)] * 50, layout)
    assert sorted(int(image.image_id) for part in planned for image in part.images) == list(range(50))
    assert {len(part.images) for part in planned[:-1]} == {SMALL_PART // (3 * 40 * 40)}


KILLED = """
import os
from pathlib import Path
from irnas_ray.datasets import parquet
from irnas_ray.datasets.builder import prepare
from irnas_ray.settings.study import Data

def progress(done, total):
    if done >= 6:
        os.kill(os.getpid(), 9)

parquet.PART_BYTES = {part_bytes}
data = Data(source={source!r}, form="images", color="rgb", patch=16)
prepare(data, Path({output!r}), progress, workers=1)
"""


def killed(data: Data, output: Path) -> None:
    program = KILLED.format(part_bytes=SMALL_PART, source=data.source, output=str(output))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=400)
    assert done.returncode == -signal.SIGKILL and not is_prepared(output)


def test_a_killed_data_set_is_continued(tmp_path, data):
    whole = prepare(data, tmp_path / "whole")
    killed(data, tmp_path / "out")
    out = tmp_path / "out"
    kept = {path: path.stat().st_mtime_ns for record in (out / ".parts").iterdir() for path in _files(out, record)}
    assert len(kept) >= 2
    seen: list[int] = []
    prepare(data, out, lambda done, total: seen.append(done), workers=1)
    assert seen[0] > 1 and seen[-1] == 12  # what was finished counts
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert content(out) == content(whole)


def _files(folder: Path, record: Path) -> list[Path]:
    return [folder / name for name in json.loads(record.read_text())["files"]]


def test_a_damaged_part_is_written_again(tmp_path, data):
    whole = prepare(data, tmp_path / "whole")
    killed(data, tmp_path / "out")
    first, second = sorted((tmp_path / "out" / ".parts").iterdir())[:2]
    first.write_text(first.read_text()[:-20])
    damaged = _files(tmp_path / "out", second)[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    prepare(data, tmp_path / "out")
    assert content(tmp_path / "out") == content(whole)


def test_parts_of_another_source_are_not_continued(tmp_path, data):
    killed(data, tmp_path / "out")
    save(tmp_path / "in" / "3.png", scene(99, 53, 64))
    prepare(data, tmp_path / "out")
    assert content(tmp_path / "out") == content(prepare(data, tmp_path / "whole"))


def test_an_interrupt_or_a_lost_process_keeps_what_is_finished(tmp_path, data):
    for failure in (KeyboardInterrupt, WorkerKilled):

        def fail(done: int, total: int, failure: type[BaseException] = failure) -> None:
            if done == 6:
                raise failure

        out = tmp_path / failure.__name__
        with pytest.raises(failure):
            prepare(data, out, fail, workers=1)
        assert len(list((out / ".parts").iterdir())) >= 2
        prepare(data, out)
        assert content(out) == content(prepare(data, tmp_path / "whole"))
    with pytest.raises(RuntimeError):
        prepare(data, tmp_path / "other", lambda done, total: (_ for _ in ()).throw(RuntimeError))
    assert not (tmp_path / "other").exists()


def test_two_processes_do_not_write_one_folder(tmp_path, data):
    def again(done: int, total: int) -> None:
        with pytest.raises(ValueError, match="another process is writing a data set here"):
            prepare(data, tmp_path / "out")

    assert is_prepared(prepare(data, tmp_path / "out", again, workers=1))
