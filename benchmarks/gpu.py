"""Everything that wants a GPU, in one call of at most eight minutes, without Ray, from a copy of the tree.

    python benchmarks/gpu.py FOLDER

Every part is a process of its own with a limit of time, and leaves FOLDER/<part>.json as soon as it ends: its record,
or why there is none. Where ``--device cpu`` is given the same runs on a CPU, in small, to try the script itself.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Seconds of all parts together.
LIMIT = 480
CUDA_TESTS = (
    "tests/kernels/test_triton_sampling.py",
    "tests/networks/test_inference.py",
    "tests/degradations/test_factory.py",
    "tests/degradations/test_camera.py",
)


def parts(device: str) -> dict[str, tuple[int, list[str]]]:
    """Name -> most seconds, and the command without ``--json``."""

    def script(name: str, *options: str) -> list[str]:
        return [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--device", device, *options]

    small = device == "cpu"
    size = ("--batch", "1", "--layers", "2", "--nodes", "2", "--crop", "32") if small else ("--batch", "12")
    few = ("--repeats", "1") if small else ()
    return {
        "deformable": (90, script("deformable", *few)),
        "training_step": (60, script("training_step", "--paper", *few)),
        "search_step": (120, script("search_step", *size, "--repeats", "1" if small else "3")),
        "inference": (60, script("inference", *few)),
        "saved_memory": (60, script("saved_memory")),
        "search_step_variants": (150, script("search_step", *size, "--variants", "--repeats", "1")),
        "tests": (90, [sys.executable, "-m", "pytest", "-n", "0", *CUDA_TESTS]),
    }


def main() -> None:
    """Run the parts one after the other for as long as there is time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--part", help="only this one")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for name, (most, command) in parts(options.device).items():
        left = LIMIT - (time.monotonic() - begun)
        if options.part not in (None, name):
            continue
        target = options.folder / f"{name}.json"
        record = [] if name == "tests" else ["--json", str(target)]
        start = time.monotonic()
        try:
            done = subprocess.run(
                [*command, *record],
                capture_output=True,
                text=True,
                cwd=ROOT,
                timeout=max(1, min(most, left)),
                env={**os.environ, "PYTHONPATH": path},
            )
            why, output = f"exit status {done.returncode}", (done.stdout + done.stderr)[-2000:]
        except subprocess.TimeoutExpired:
            why, output = "out of time", ""
        seconds = round(time.monotonic() - start, 1)
        if not target.exists() or name == "tests":
            target.write_text(
                json.dumps({"benchmark": name, "ended": why, "seconds": seconds, "output": output}, indent=1)
            )
        print(f"{name}: {why}, {seconds} s\n\n{output}", flush=True)


if __name__ == "__main__":
    main()
