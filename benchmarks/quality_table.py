"""The table of what `quality.py` has trained: a row for each job with the scores of its seeds, in decibels.

    python benchmarks/quality_table.py benchmarks/recipe.json --results FOLDER [--json FILE]

The score is that under the job's protocol, or on its validation images where it has none. Jobs that are not finished
are left out. FILE is continued: what it holds of other seeds, which ran elsewhere or before, stays.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from quality import read_jobs

from irnas_ray.results.table import Table, number
from irnas_ray.system.files import write_json

#: What a row holds of each seed.
OF_SEED = ("seeds", "psnr", "ssim", "steps", "cpu_seconds")


def rows_of(jobs: Path, results: Path, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is known of the jobs of a file, seeds together, in the file's order; ``known`` are rows of earlier calls."""
    before = {row["job"]: row for row in known}
    found: dict[str, list[dict[str, Any]]] = {}
    for name, _ in read_jobs(jobs):
        job = name.rpartition("-s")[0]
        found.setdefault(job, _of_seeds(before[job]) if job in before else [])
        record = results / f"{name}.json"
        if record.exists() and "validation_psnr" in (read := json.loads(record.read_text())):
            run = _run(read)
            found[job] = [other for other in found[job] if other["seeds"] != run["seeds"]] + [run]
    return [_row(job, runs) for job, runs in found.items() if runs]


def _run(record: dict[str, Any]) -> dict[str, Any]:
    scored = "psnr" in record
    return {
        "seeds": record["job"]["seed"],
        "psnr": round(record["psnr" if scored else "validation_psnr"], 4),
        "ssim": round(record["ssim"], 4) if scored else None,
        "steps": record["step"],
        "cpu_seconds": record["cpu_seconds"],
        "protocol": record.get("protocol"),
        "images": record.get("images"),
        "parameters": record["parameters"],
        "multiply_adds_per_pixel": record["multiply_adds_per_pixel"],
        "device": record["device"],
        "torch": record["versions"]["torch"],
    }


def _of_seeds(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that a row was made of."""
    lists = [row[key] or [None] * len(row["seeds"]) for key in OF_SEED]
    return [row | dict(zip(OF_SEED, values, strict=True)) for values in zip(*lists, strict=True)]


def _row(job: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    runs = sorted(runs, key=lambda run: run["seeds"])
    scores, last = [run["psnr"] for run in runs], runs[-1]
    together = {key: [run[key] for run in runs] for key in OF_SEED}
    return {
        "job": job,
        "protocol": last["protocol"],
        "images": last["images"],
        "seeds": together["seeds"],
        "psnr": scores,
        "mean": round(statistics.fmean(scores), 4),
        "deviation": round(statistics.stdev(scores), 4) if len(scores) > 1 else None,
        "ssim": None if None in together["ssim"] else together["ssim"],
        "steps": together["steps"],
        "cpu_seconds": together["cpu_seconds"],
        "parameters": last["parameters"],
        "multiply_adds_per_pixel": last["multiply_adds_per_pixel"],
        "device": last["device"],
        "torch": last["torch"],
    }


def main() -> None:
    """Print the table, and write its rows where ``--json`` says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("jobs", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    known = json.loads(options.json.read_text()) if options.json is not None and options.json.exists() else []
    rows = rows_of(options.jobs, options.results, known)
    heads = [
        *("job", ">mean", ">deviation", ">seeds", ">SSIM", ">steps", ">CPU s"),
        *(">parameters", ">multiply-adds per pixel"),
    ]
    lines = [
        [
            *(
                row["job"],
                number(row["mean"], 3),
                number(row["deviation"], 3),
                ", ".join(f"{x:.3f}" for x in row["psnr"]),
            ),
            number(statistics.fmean(row["ssim"]), 4) if row["ssim"] else "",
            number(round(statistics.fmean(row["steps"]))),
            number(round(statistics.fmean(row["cpu_seconds"]))),
            *(number(row["parameters"]), number(row["multiply_adds_per_pixel"])),
        ]
        for row in rows
    ]
    print(Table(heads, lines).markdown())
    if options.json is not None:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
