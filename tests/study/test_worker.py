"""What search trials and final trainings share in their worker: an end that starting again would not change."""

from typing import Any

import pytest

from irnas_ray.study.worker import failure_reported
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
