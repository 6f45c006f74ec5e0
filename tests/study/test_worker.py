"""What search trials and final trainings share in their worker: memory, and an end that would come again."""

import ctypes
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from irnas_ray.study.worker import failure_reported, take_over_process
from irnas_ray.training.accumulation import TooLarge
from irnas_ray.tune.reports import Reports


@pytest.mark.parametrize("error", [FloatingPointError("the loss became nan"), TooLarge("one image does not fit")])
def test_a_training_that_gave_up_reports_why_and_is_not_started_again(error: Exception) -> None:
    sent: list[dict[str, Any]] = []
    reports = Reports(send=sent.append)
    with failure_reported(reports, lambda: {"epoch": reports.last["epoch"] + 1}):
        reports.report({"epoch": 3, "psnr": 20.0})
        raise error
    assert sent[1:] == [{"epoch": 4, "psnr": 20.0, "progress": "the end", "error": str(error), "finished": False}]


def test_other_errors_are_raised_so_that_tune_starts_again() -> None:
    sent: list[dict[str, Any]] = []
    for error, given_up in ((MemoryError(), (FloatingPointError, TooLarge)), (TooLarge(), (FloatingPointError,))):
        with pytest.raises(type(error)), failure_reported(Reports(send=sent.append), dict, given_up):
            raise error
    assert not sent


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_a_trial_finds_the_memory_free_that_the_one_before_it_has_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_FUNCTION_THREAD_TIMEOUT_S", "1")
    kept = []

    def trial() -> None:
        # smaller than what glibc asks the system for one by one; a last block keeps the others' arena from shrinking
        blocks = [b"x" * 100_000 for _ in range(2000)]
        kept.append(b"x" * 100_000)
        del blocks

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    # the first trial of a process finds nothing to free
    take_over_process()
    thread = threading.Thread(target=trial)
    thread.start()
    thread.join()
    after = resident()
    take_over_process()
    assert after - resident() > 150e6
