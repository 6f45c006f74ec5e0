"""Everything that wants a GPU, in one call of at most eight minutes, without Ray, from a copy of the tree.

    python benchmarks/gpu.py FOLDER

Every part is a process of its own with a limit of time. It leaves FOLDER/PART.json, with all that it had measured
until it ended and how that was (``ended``: "done", or why not), and what it said in FOLDER/PART.log. The exit status is
0 if all parts are done. Where ``--device cpu`` is given the same runs on a CPU, in small, to try the script itself.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from measuring import write_record

ROOT = Path(__file__).resolve().parents[1]
#: Seconds of all parts together; the rest of eight minutes is left for what is around them.
LIMIT = 470
#: All tests that a CPU skips, and the Triton kernel's, which a CPU interprets.
CUDA_TESTS = (
    "tests/kernels/test_triton_sampling.py",
    "tests/networks/test_inference.py::test_a_network_on_the_gpu_takes_images_from_the_cpu",
    "tests/degradations/test_factory.py::test_degraded_image_is_the_same_on_the_gpu",
    "tests/degradations/test_camera.py::test_a_gpu_makes_the_same_picture_of_the_same_numbers",
)
#: A line of ``pytest -v``.
OUTCOME = re.compile(r"^\S+::.* (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", re.MULTILINE)


def parts(device: str) -> dict[str, tuple[int, list[str]]]:
    """Name -> the seconds that are kept for it and its command, in the order of what must not be missed.

    What may fail in a way that leaves nothing of its process, as code that has not met a GPU yet, or that may take all
    its time, as compiling, has a process without the rest.
    """

    def script(name: str, *options: str) -> list[str]:
        return [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--device", device, *options]

    few = ("--repeats", "1") if device == "cpu" else ()
    small = ("--batch", "1", "--layers", "2", "--nodes", "2", "--crop", "32", *few) if device == "cpu" else ()
    search = small or ("--batch", "12", "--repeats", "3")
    # without the options of pyproject.toml, which spread tests over processes
    pytest = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-v", "-rs"]
    return {
        "tests": (100, [*pytest, *CUDA_TESTS]),
        "search_step": (75, script("search_step", *search)),
        "deformable": (30, script("deformable", "--no-triton", *few)),
        "training_step": (30, script("training_step", "--paper", *few)),
        "inference": (30, script("inference", "--no-compile", *few)),
        "saved_memory": (30, script("saved_memory", *small)),
        "deformable_triton": (45, script("deformable", *few)),
        "search_step_variants": (60, script("search_step", *search, "--variants", "bfloat16", "graphs")),
        "inference_compiled": (30, script("inference", *few)),
        "search_step_compiled": (40, script("search_step", *search, "--variants", "compile")),
    }


def run(command: list[str], log: Path, seconds: float) -> str:
    """Run a command for so long at most, and say how it ended; what it says goes to a file as it comes."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, start_new_session=True
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"out of time after {seconds:.0f} s"
        finally:
            # and what it has started, such as compilers, which would slow down the next part
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "done" if status == 0 else f"exit status {status}"


def run_part(name: str, command: list[str], seconds: float, folder: Path, device: str) -> str:
    """Run a part and complete its record; how it ended."""
    target, log = folder / f"{name}.json", folder / f"{name}.log"
    begun = time.monotonic()
    ended = run([*command, *([] if name == "tests" else ["--json", str(target)])], log, seconds)
    output = log.read_text(errors="replace")
    record: dict[str, Any] = json.loads(target.read_text()) if target.exists() else {"benchmark": name}
    if name == "tests":
        record["outcomes"] = Counter(OUTCOME.findall(output))
        skipped = record["outcomes"]["SKIPPED"]
        if ended == "done" and skipped and device == "cuda":
            ended = f"{skipped} tests did not run"
    record |= {"ended": ended, "seconds": round(time.monotonic() - begun, 1)}
    if ended != "done":
        record["output"] = output[-2000:]
    write_record(target, record)
    print(f"{output[-2000:]}\n{name}: {ended}, {record['seconds']} s\n", flush=True)
    return ended


def run_parts(chosen: dict[str, tuple[int, list[str]]], folder: Path, device: str) -> dict[str, str]:
    """Run parts one after the other; those that are not done, and why.

    One may also use what those before it have left of their time, but not what is kept for those behind it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in chosen:  # or what an earlier call has left would pass for new where this one is stopped
        for ending in ("json", "log"):
            (folder / f"{name}.{ending}").unlink(missing_ok=True)
    begun, kept = time.monotonic(), sum(seconds for seconds, _ in chosen.values())
    failed = {}
    for name, (seconds, command) in chosen.items():
        kept -= seconds
        ended = run_part(name, command, LIMIT - kept - (time.monotonic() - begun), folder, device)
        if ended != "done":
            failed[name] = ended
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--part", choices=tuple(parts("cuda")), help="only this one")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: PyTorch finds no GPU here (torch.cuda.is_available() is false)")
    chosen = parts(options.device)
    if options.part is not None:
        chosen = {options.part: chosen[options.part]}
    failed = run_parts(chosen, options.folder.resolve(), options.device)
    if failed:
        raise SystemExit("not done: " + "; ".join(f"{name} ({ended})" for name, ended in failed.items()))


if __name__ == "__main__":
    main()
