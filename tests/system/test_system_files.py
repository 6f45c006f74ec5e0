"""Files are whole or absent whatever happens while they are written, and a lock ends with its process."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from irnas_ray.system import files
from irnas_ray.system.files import locked, write_bytes, write_csv, write_json, write_text, written

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def python(program: str, **keywords: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, text=True, **keywords)


def test_json_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "summary.json"
    for value in ({"a": [1, None, "ü"]}, {"b": 2.5}):
        write_json(path, value)
        assert json.loads(path.read_text(encoding="utf-8")) == value
    assert names(path.parent) == ["summary.json"]


def test_a_table_is_written_with_its_columns_in_order(tmp_path):
    write_csv(tmp_path / "a.csv", ["b", "a"], [{"a": None, "b": 'x, "y"'}, {"a": 1.5, "b": ""}])
    assert (tmp_path / "a.csv").read_bytes() == b'b,a\r\n"x, ""y""",\r\n,1.5\r\n'


def test_a_reader_never_sees_a_part_of_a_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_text(path, "old")
    seen = []

    def replace(source: Path, target: Path) -> None:
        seen.append((target.read_text(), source.read_text(), source.parent, source.name[0]))
        os.rename(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    write_text(path, "new")
    assert seen == [("old", "new", tmp_path, ".")] and path.read_text() == "new"


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_else(tmp_path, monkeypatch, function):
    path = tmp_path / "a.json"
    write_json(path, 1)

    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, function, fail)
    with pytest.raises(OSError, match=r"cannot write .*a.json \(No space left on device\); the old file is kept"):
        write_json(path, 2)
    assert path.read_text() == "1\n" and names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_file_that_the_system_cuts_short_is_never_seen(tmp_path, old):
    path = tmp_path / "a"
    if old is not None:
        path.write_bytes(old)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # as a full disk, the system takes a part of the bytes and then refuses
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"a \(File too large\); elsewhere") as caught:
            write_bytes(path, bytes(100_000), "elsewhere")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG and str(caught.value).endswith("kept") == (old is not None)
    assert names(tmp_path) == (["a"] if old else []) and (old is None or path.read_bytes() == old)


def test_a_killed_writer_leaves_the_old_file_and_nobody_in_its_way(tmp_path):
    path = tmp_path / "a"
    write_text(path, "old")
    program = "import os\nfrom irnas_ray.system.files import written\n"
    program += f"with written({str(path)!r}) as file:\n    file.write(bytes(10**6))\n    os.kill(os.getpid(), 9)\n"
    assert python(program).wait(300) == -signal.SIGKILL
    assert path.read_text() == "old" and all(name.startswith(".") for name in names(tmp_path) if name != "a")
    write_text(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_a_block_that_raises_leaves_the_old_file(tmp_path, error):
    write_text(tmp_path / "a", "old")
    with pytest.raises(error), written(tmp_path / "a") as file:
        file.write(b"half")
        raise error
    with pytest.raises(TypeError):
        write_json(tmp_path / "a", {"a": object()})
    assert (tmp_path / "a").read_text() == "old" and names(tmp_path) == ["a"]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a"
    contents = [bytes([number]) * 50_000 for number in range(4)]
    write_bytes(path, contents[0])
    failures: list[Exception] = []

    def repeat(content: bytes) -> None:
        try:
            for _ in range(20):
                write_bytes(path, content)
                assert path.read_bytes() in contents
        except Exception as error:
            failures.append(error)

    writers = [threading.Thread(target=repeat, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failures and names(tmp_path) == ["a"]


@pytest.mark.parametrize("letter", ["a", "ü"])
def test_every_legal_name_can_be_written(tmp_path, letter):
    name = letter * (255 // len(letter.encode()))
    write_text(tmp_path / name, "new")
    assert names(tmp_path) == [name]
    with pytest.raises(OSError, match=r"aaa \(File name too long\)$"):
        write_text(tmp_path / ("a" * 256), "new")
    assert names(tmp_path) == [name]


def test_a_file_in_a_folders_place_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=f"cannot write {tmp_path / 'file' / 'a.json'}"):
        write_json(tmp_path / "file" / "a.json", 1)


def test_files_have_the_usual_permissions(tmp_path):
    for write in (lambda path: write_text(path, "a"), lambda path: path.write_text("a")):
        write(tmp_path / str(len(names(tmp_path))))
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize("end", [lambda process: process.kill(), lambda process: process.stdin.close()])
def test_a_lock_ends_with_its_process_however_it_ends(tmp_path, end: Callable[[Any], None]):
    path = tmp_path / "lock"
    program = "import sys\nfrom pathlib import Path\nfrom irnas_ray.system.files import locked\n"
    program += f"with locked(Path({str(path)!r})) as file:\n    print('mine', file=file, flush=True)\n"
    program += "    print(flush=True)\n    sys.stdin.read()\n"
    with python(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        with pytest.raises(BlockingIOError), locked(path):
            pass
        end(process)
        process.wait(300)
    with locked(path) as file:
        file.seek(0)
        assert file.read() == "mine\n"
        with pytest.raises(BlockingIOError), locked(path):
            pass
