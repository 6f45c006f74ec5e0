"""What every benchmark shares: interleaved timing, exact counts of saved bytes, the machine, and the JSON record."""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

# the references are the tests' own definitions, so that what is timed is what is proved equal
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))


def arguments(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark; ``defaults`` replace theirs."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the record to this file")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repeats of every candidate")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.set_defaults(**defaults)
    return parser


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Beside what is measured so many processes compute without end, as other programs on the same machine do."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def interleaved(
    candidates: dict[str, Callable[[], object]],
    repeats: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of one call of each candidate, called in turn after one call of each that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 1):
        for name, call in candidates.items():
            if device == "cuda":
                torch.cuda.synchronize()
            start = clock()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat:
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def saved_bytes(forward: Callable[[], object], parameters: list[torch.Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass; each storage counts once, parameters do not count."""
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage().data_ptr()
        if storage not in known:
            kept[storage] = tensor  # held, so that no later tensor can take its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        alive = forward()
        total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del alive
    return total


def machine(device: str) -> dict[str, Any]:
    """The hardware and versions that a result belongs to."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        model = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = f"{model[0] if model else platform.processor()}, {torch.get_num_threads()} threads"
    return {
        "device": name,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def report(name: str, rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print the rows as a Markdown table and write them, with the machine and the options, where ``--json`` says."""
    about = machine(options.device)
    print(f"{name}: {about['device']}, torch {about['torch']}\n")
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    if options.json is not None:
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        record = {"benchmark": name, "machine": about, "options": settings, "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
