"""Jobs as docs/cluster.md submits them, on a head node of its own: uploaded, followed, stopped, continued."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line_cases import compose
from head_node import HeadNode

from irnas_ray.cluster.internals import COPIES, JOB
from irnas_ray.cluster.jobs import check_places

TINY = (
    "search_spaces=irnas_small"
    " search.epochs=30 search.warmup_epochs=1 search.steps_per_epoch=8 search.batch=2 search.validate_every=3"
    " domains.architecture.nodes=null architecture.nodes=2 domains.architecture.width=null architecture.width=2"
    " final.width=2 final.batch=2 final.steps=2 final.images=1 tune.early_stopping=false search.proxy_steps=0"
    " tune.trials=1 study=s"
).split()


@pytest.fixture(scope="module")
def head() -> Iterator[HeadNode]:
    with HeadNode() as node:
        yield node


@pytest.mark.whole
def test_a_stopped_job_is_continued_by_another(head: HeadNode, tmp_path: Path) -> None:
    search = ["python", "launchers/search.py", *TINY, f"results={tmp_path}"]
    wrong = head.job("submit", "--working-dir", ".", "--", *search, token="0" * 64)
    assert wrong.returncode != 0 and not (tmp_path / "s").exists()
    # on a busy machine Ray's three seconds are too short
    patient = ("--runtime-env-json", json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "90"}}))
    done = head.job("submit", "--no-wait", "--submission-id", "first", "--working-dir", ".", *patient, "--", *search)
    assert done.returncode == 0, done.stderr
    deadline = time.time() + 400
    while not list(tmp_path.glob("s/trials/round-1/*/checkpoint_00000[1-9]")):
        assert time.time() < deadline, head.job("logs", "first").stdout
        time.sleep(0.1)
    stopped = head.job("stop", "first")
    assert "was stopped" in stopped.stdout + stopped.stderr
    log = head.job("logs", "first").stdout
    assert "continue with" in log and "resume=true" in log and "epoch 3/30" in log, log
    assert not (tmp_path / "s" / "summary.json").exists()

    again = head.job("submit", "--working-dir", ".", "--", *search, "resume=true")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "search.py" in again.stdout and "finished" in again.stdout and "non-local means" in again.stdout
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETE"] and len(summary["finals"]) == 1
    (reports,) = tmp_path.glob("s/trials/round-1/*/result.json")
    epochs = [json.loads(line)["epoch"] for line in reports.read_text().splitlines()]
    # every report once, but for one interval that may have been under way
    assert sorted(set(epochs)) == [*range(3, 31, 3), 31] and len(epochs) <= len(set(epochs)) + 1


def test_a_job_refuses_to_write_into_its_temporary_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / COPIES / "_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    check_places(compose())
    monkeypatch.setenv(JOB, "{}")
    with pytest.raises(ValueError, match=r"results: 'results' is relative, and this job runs in a temporary copy"):
        check_places(compose())
    kept = f"results={tmp_path}"
    check_places(compose(kept, "cluster.storage=s3://bucket/prefix"))
    for relative in ("tune.storage=journal:study.log", "cluster.storage=here", "data.output=prepared"):
        with pytest.raises(ValueError, match=relative.partition("=")[0]):
            check_places(compose(kept, relative))
    monkeypatch.chdir(tmp_path)
    check_places(compose())
