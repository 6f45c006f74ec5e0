"""What every benchmark shares: interleaved timing, exact counts of saved bytes, the machine, and the JSON record."""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
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


def why(error: Exception) -> str:
    """An error in one line, as a row has it; all of it goes to stderr."""
    traceback.print_exception(error)
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def attempted(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The columns that a measurement gives or, where it fails, the reason as ``error``, so that other rows go on."""
    try:
        return measure()
    except Exception as error:
        return {"error": why(error)}


def errors(failures: Mapping[str, str]) -> dict[str, str]:
    """The column ``error`` of a row in which these candidates failed; nothing where none did."""
    return {"error": "; ".join(f"{name}: {reason}" for name, reason in failures.items())} if failures else {}


def ratio(values: Mapping[str, float], above: str, below: str) -> float | None:
    """One value divided by another; None where one of them is missing because it could not be measured."""
    return values[above] / values[below] if above in values and below in values else None


def interleaved(
    candidates: dict[str, Callable[[], object]],
    repeats: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
    failures: dict[str, str] | None = None,
) -> dict[str, float]:
    """Median seconds of one call of each candidate, called in turn after one call of each that is not counted.

    A candidate that fails ends all or, where ``failures`` is given, is named there with the reason and left out.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 1):
        for name in list(seconds):
            try:
                elapsed = timed(candidates[name], device, clock)
            except Exception as error:
                if failures is None:
                    raise
                failures[name] = why(error)
                del seconds[name]
                continue
            if repeat:
                seconds[name].append(elapsed)
    return {name: statistics.median(values) for name, values in seconds.items()}


def timed(call: Callable[[], object], device: str, clock: Callable[[], float]) -> float:
    """How long a call takes, until the GPU has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


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


def report(name: str, rows: Iterable[dict[str, Any]], options: argparse.Namespace) -> None:
    """Write the rows, with the machine and the options, where ``--json`` says, and print them as a Markdown table.

    They are written again after each row, so that a stop loses none of those before it. If all have failed, the
    process ends with an error.
    """
    about = machine(options.device)
    print(f"{name}: {about['device']}, torch {about['torch']}\n")
    settings = {key: value for key, value in vars(options).items() if key != "json"}
    done: list[dict[str, Any]] = []
    try:
        for row in rows:
            done.append(row)
            if options.json is not None:
                write_record(options.json, {"benchmark": name, "machine": about, "options": settings, "rows": done})
    finally:
        print(table(done))
    if all("error" in row for row in done):
        raise SystemExit(f"{name}: no row without an error")


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table; one that lacks a column, as those that failed do, has an empty cell there."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(column)) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Replace a JSON file as a whole, so that a process that is ended meanwhile leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
