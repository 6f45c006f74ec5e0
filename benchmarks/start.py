"""How long a study takes before its first trial has made its first step, beyond the start of Ray itself.

    python benchmarks/start.py

Takes turns: a process that starts Ray and ends (the reference), and `irnas-ray search` from its command until the first
report of its first trial (one step, one validation of a small image) is on disk; then it is stopped.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import arguments, report

RAY = "import ray; ray.init(num_cpus=2, log_to_driver=False, logging_level='ERROR')"
#: One trial of two epochs of one step; what is validated is the smallest there is.
STUDY = (
    "tune.trials=1 search.epochs=2 search.steps_per_epoch=1 search.batch=1 final.batch=1 final.count=1 final.steps=1"
    " final.images=1 minutes=null study=s"
).split()


def ray_alone() -> float:
    """Seconds from the start of a process to Ray's being up in it."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", RAY], check=True, capture_output=True)
    return time.perf_counter() - begun


def first_report() -> float:
    """Seconds from the command to the first report of the first trial."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        command = [sys.executable, "-m", "irnas_ray", "search", *STUDY, f"results={folder}"]
        run = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, stdout=subprocess.DEVNULL
        )
        while not any(path.stat().st_size for path in Path(folder).glob("s/trials/round-1/*/result.json")):
            if run.poll() is not None:
                raise RuntimeError(f"the study ended with status {run.returncode} before its first report")
            time.sleep(0.02)
        seconds = time.perf_counter() - begun
        run.send_signal(signal.SIGINT)
        run.wait(120)
        return seconds


def main() -> None:
    options = arguments("Start of a study, beyond that of Ray.", repeats=3).parse_args()
    alone, first = [], []
    for _ in range(options.repeats):
        alone.append(ray_alone())
        first.append(first_report())
    ray, whole = statistics.median(alone), statistics.median(first)
    rows = [
        {"what": "Ray alone", "seconds": ray, "runs": options.repeats},
        {"what": "to the first trial's first report", "seconds": whole, "runs": options.repeats},
        {"what": "beyond Ray's start", "seconds": whole - ray, "runs": options.repeats},
    ]
    report("start", rows, options)


if __name__ == "__main__":
    main()
