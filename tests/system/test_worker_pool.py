"""Work spread over processes gives what a loop gives, and ends with the first failure, or with the one who asked."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, process
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from parallel_cases import backwards, begin_at, complain_at_three, die_at_three, square

from irnas_ray.system import worker_pool
from irnas_ray.system.worker_pool import AHEAD, WorkerKilled, WorkerPool, choose_workers, run_tasks

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_every_tick_counts(workers):
    seen: list[tuple[int, int]] = []
    numbers = [5, 0, 3, 1, 4]
    found = run_tasks(square, numbers, workers, lambda done, total: seen.append((done, total)), 7, 20)
    assert found == [number * number for number in numbers]
    assert [total for _, total in seen] == [20] * len(seen) and seen[-1][0] == 7 + sum(numbers)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert run_tasks(square, [], workers) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_failure_is_raised(workers):
    with pytest.raises(ValueError, match="three is too many"):
        run_tasks(complain_at_three, [1, 3, 2, 2], workers, lambda done, total: None, 0, 8)


def test_a_killed_process_is_told_from_a_failure():
    with pytest.raises(WorkerKilled, match="workers=N"):
        run_tasks(die_at_three, [1, 3, 2], 2)


@pytest.mark.parametrize("place", ["before it is known", "after it is known"])
def test_a_process_that_starts_while_another_dies_is_not_waited_for(place, monkeypatch):
    """The second one is asked for when the first is dead, and is there, or does not start, once that was ended."""
    dead, asked, ended = threading.Event(), threading.Event(), threading.Event()
    spawn, manager = ProcessPoolExecutor._spawn_process, process._ExecutorManagerThread
    terminate, join = manager.terminate_broken, manager.join_executor_internals
    started: list[BaseProcess] = []

    class Known(dict[int, BaseProcess]):
        """What Python ends; a second process comes to it late."""

        def __setitem__(self, number: int, new: BaseProcess) -> None:
            asked.set()
            assert not started or ended.wait(60)
            super().__setitem__(number, new)
            started.append(new)

    def items():
        yield 9
        assert dead.wait(60)
        yield 9

    def late(pool: ProcessPoolExecutor) -> None:
        if not started:
            pool._processes = Known()
        elif place == "after it is known":
            asked.set()
            assert ended.wait(60)
        spawn(pool)

    def once_asked(thread: process._ExecutorManagerThread, cause: object) -> None:
        asked.clear()
        dead.set()
        asked.wait(60)
        terminate(thread, cause)

    def once_ended(thread: process._ExecutorManagerThread) -> None:
        ended.set()
        join(thread)

    monkeypatch.setattr(ProcessPoolExecutor, "_spawn_process", late)
    monkeypatch.setattr(manager, "terminate_broken", once_asked)
    monkeypatch.setattr(manager, "join_executor_internals", once_ended)
    with pytest.raises(WorkerKilled, match="processes=N"), WorkerPool(2, "os", "processes") as pool:
        list(pool.map(os._exit, items()))
    assert not any(each.is_alive() for each in started)
    assert len(started) == (2 if place == "before it is known" else 1)


@pytest.mark.parametrize("count", [1, 2])
def test_results_of_a_stream_keep_their_order_and_few_wait(count):
    asked: list[int] = []

    def items():
        for item in range(200):
            asked.append(item)
            yield item

    with WorkerPool(count, backwards.__module__, "processes", begin=partial(begin_at, 1)) as pool:
        for place, result in enumerate(pool.map(backwards, items())):
            # each process was begun first
            assert result == (-place, 0 if count == 1 else 1)
            assert len(asked) <= place + (1 if count == 1 else AHEAD + 1)
        assert asked == list(range(200))
        # the same processes take up other work, also after work that failed
        with pytest.raises(TypeError):
            list(pool.map(backwards, [1, 2, None, 3]))
        assert [result for result, _ in pool.map(backwards, range(100), ahead=3)] == [-item for item in range(100)]


def test_a_killed_process_of_a_stream_is_told_with_its_setting():
    with pytest.raises(WorkerKilled, match="processes=N"):
        with WorkerPool(2, backwards.__module__, "processes") as pool:
            list(pool.map(os._exit, range(3, 90)))


def test_processes_end_with_the_one_that_started_them(tmp_path):
    program = "from pathlib import Path\nfrom irnas_ray.system.worker_pool import run_tasks\n"
    program += "from parallel_cases import name_and_wait\n"
    program += f"folder = Path({str(tmp_path)!r})\nrun_tasks(name_and_wait, [folder, folder], 2)\n"
    path = os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])])
    with subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}) as parent:
        waited = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < waited:
            time.sleep(0.02)
        parent.send_signal(signal.SIGKILL)
    ids = [int(entry.name) for entry in tmp_path.iterdir()]
    assert len(ids) == 2
    while any(alive(process) for process in ids) and time.monotonic() < waited:
        time.sleep(0.02)
    assert not any(alive(process) for process in ids)


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_memory_bounds_the_number_of_processes(monkeypatch):
    monkeypatch.setattr(worker_pool, "usable_cores", lambda: 64)
    assert choose_workers(3, 10**12) == 3
    monkeypatch.setattr(worker_pool, "usable_memory", lambda: 8 * 2**30)
    counts = {size: choose_workers(None, size) for size in (0, 10**6, 10**8, 10**9, 10**12)}
    assert counts[0] == 16 and counts[10**12] == 1 and list(counts.values()) == sorted(counts.values(), reverse=True)
    # what they may hold together fits into half of the memory
    assert all(count == 1 or count * (2**28 + 6 * size) <= 4 * 2**30 for size, count in counts.items())
    with pytest.raises(ValueError, match="workers: 0; at least 1"):
        choose_workers(0, 0)


def test_nothing_is_imported_from_the_current_folder(tmp_path):
    """It may be one of images, with a file that is called like a module: data never choose code."""
    script = tmp_path / "script.py"
    script.write_text(
        "from irnas_ray.system.worker_pool import WorkerPool\n"
        "if __name__ == '__main__':\n"
        "    with WorkerPool(2, 'colorsys', 'workers') as pool:\n"
        "        print(list(pool.map(abs, [-1, 2])))\n"
    )
    images = tmp_path / "images"
    images.mkdir()
    for module in ("colorsys", "multiprocessing"):
        (images / f"{module}.py").write_text("open('imported', 'w')")
    done = subprocess.run([sys.executable, script], cwd=images, capture_output=True, text=True, timeout=400)
    assert done.stdout == "[1, 2]\n", done.stderr
    assert not (images / "imported").exists()
