"""The call that measures everything on a GPU loses nothing where a part of it fails; tried without a GPU."""

import argparse
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from reference import ReferenceSuperNet

from irnas_ray.networks.supernet import SuperNet

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))
import gpu  # noqa: E402
import measuring  # noqa: E402
import search_step  # noqa: E402

#: What a part does before it hangs: a row, and something said.
HANGS = ["sh", "-c", """echo '{"rows": [1]}' > "$2"; echo half; exec sleep 600""", "sh"]
FAILS = ["sh", "-c", "echo wrong >&2; exit 3"]
WORKS = ["true"]


def settings(**changes):
    own = {"device": "cpu", "repeats": 1, "batch": 2, "crop": 12, "layers": 1, "nodes": 1, "width": 2, "variants": None}
    return argparse.Namespace(**own | changes)


def broken(*_):
    raise RuntimeError("does not work\nat all")


def test_rows_are_written_as_they_come(tmp_path, capsys):
    target = tmp_path / "record.json"

    def rows():
        yield {"name": "one", "seconds": 1.0}
        assert json.loads(target.read_text())["rows"] == [{"name": "one", "seconds": 1.0}]
        yield {"name": "two"} | measuring.attempted(broken)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measuring.report("some", rows(), argparse.Namespace(device="cpu", json=target))
    assert json.loads(target.read_text())["rows"][1] == {"name": "two", "error": "RuntimeError: does not work"}
    said = capsys.readouterr()
    assert "| two |  | RuntimeError: does not work |" in said.out and "at all" in said.err
    with pytest.raises(SystemExit, match="no row without an error"):
        measuring.report("some", [{"error": "all"}], argparse.Namespace(device="cpu", json=None))


def test_a_candidate_that_fails_is_left_out():
    failures: dict[str, str] = {}
    calls = {"good": list, "bad": broken}
    assert list(measuring.interleaved(calls, 2, failures=failures)) == ["good"]
    assert measuring.errors(failures) == {"error": "bad: RuntimeError: does not work"}
    with pytest.raises(RuntimeError):
        measuring.interleaved(calls, 2)


def test_what_a_part_leaves_when_it_is_stopped_or_fails(tmp_path):
    assert gpu.run_part("hangs", HANGS, 5, tmp_path, "cpu") == "out of time after 5 s"
    record = json.loads((tmp_path / "hangs.json").read_text())
    assert record["rows"] == [1] and record["ended"] == "out of time after 5 s" and record["output"] == "half\n"
    assert gpu.run_part("fails", FAILS, 60, tmp_path, "cpu") == "exit status 3"
    assert json.loads((tmp_path / "fails.json").read_text())["output"] == "wrong\n"


@pytest.mark.parametrize("device, ended", [("cuda", "1 tests did not run"), ("cpu", "done")])
def test_tests_that_are_skipped_on_a_gpu_did_not_run(device, ended, tmp_path):
    lines = (
        "tests/a.py::test_b[c d] PASSED [ 50%]\ntests/a.py::test_e SKIPPED (no) [100%]\nSKIPPED [1] tests/a.py:3: no"
    )
    assert gpu.run_part("tests", ["echo", lines], 60, tmp_path, device) == ended
    assert json.loads((tmp_path / "tests.json").read_text())["outcomes"] == {"PASSED": 1, "SKIPPED": 1}


def test_all_parts_run_and_old_records_go(tmp_path, monkeypatch):
    (tmp_path / "fails.json").write_text('{"rows": ["old"]}')
    monkeypatch.setattr(gpu, "parts", lambda device: {"fails": (60, FAILS), "works": (60, WORKS)})
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^not done: fails \(exit status 3\)$"):
        gpu.main()
    assert "rows" not in json.loads((tmp_path / "fails.json").read_text())
    assert json.loads((tmp_path / "works.json").read_text())["ended"] == "done"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="^--device cuda: .*no GPU.*$"):
        gpu.main()


def test_every_part_has_its_time_and_every_test_for_a_gpu_its_place():
    parts = gpu.parts("cuda")
    assert next(iter(parts)) == "tests" and sum(seconds for seconds, _ in parts.values()) <= gpu.LIMIT <= 480
    needed = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name in re.findall(r'reason="needs a GPU"\)\ndef (\w+)', path.read_text(encoding="utf-8")):
            needed.add(f"{path.relative_to(ROOT)}::{name}")
    assert needed == {test for test in gpu.CUDA_TESTS if "::" in test}
    assert all((ROOT / test.partition("::")[0]).exists() for test in gpu.CUDA_TESTS)


def test_a_reference_that_does_not_fit_costs_only_its_own_row(monkeypatch, unannotated):
    forward = ReferenceSuperNet.forward

    def small(self, image):
        if len(image) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, image)

    monkeypatch.setattr(ReferenceSuperNet, "forward", small)
    most = 1
    divided = list(search_step.rows(settings()))
    assert [row["micro batch"] for row in divided] == [1, 2, 1, 2] and not any("error" in row for row in divided)
    most = 0
    reference, ours = list(search_step.rows(settings()))[:2]
    assert reference["error"].startswith("TooLarge: one image does not fit") and ours["step (s)"] > 0


def test_a_variant_that_does_not_work_costs_only_its_own_row():
    ours, graphs, bfloat16 = search_step.rows(settings(variants=["graphs", "bfloat16"]))
    assert graphs["error"] == "RuntimeError: CUDA graphs need a GPU"
    assert ours["times faster than ours"] == 1 and bfloat16["step (s)"] > 0


def test_graphs_are_recorded_with_what_a_step_freezes(monkeypatch):
    """PyTorch's own recording needs a GPU; this one only notes what it would have differentiated by."""

    class OnGpu(torch.Tensor):
        is_cuda = True

    recordings, replayed = [], []

    def record(net, arguments, allow_unused_input):
        learned = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
        forward = net.forward
        recordings.append(learned)
        net.forward = lambda image: (replayed.append(learned), forward(image))[1]

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    net, image = SuperNet(1, 1, 1, 2), torch.rand(1, 1, 12, 12)
    search_step.as_graphs(net, image.as_subclass(OnGpu))
    architecture, weights = recordings
    assert architecture == {"alpha", "beta"} and weights == dict(net.named_parameters()).keys() - architecture
    search_step.step(search_step.searcher(net, [(image, image)]))
    assert replayed == [architecture, weights]
