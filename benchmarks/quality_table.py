"""The table of what `quality.py` has trained: a row for each job with the scores of its seeds, in decibels.

    python benchmarks/quality_table.py benchmarks/recipe.json --results FOLDER [--json FILE]

The score is that under the job's protocol, or on its validation images where it has none. Jobs that are not finished
are left out.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from quality import read_jobs

from irnas_ray.results.table import Table, number
from irnas_ray.system.files import write_json


def rows_of(jobs: Path, results: Path) -> list[dict[str, Any]]:
    """What is known of the jobs of a file, seeds together, in the file's order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, _ in read_jobs(jobs):
        record = results / f"{name}.json"
        if record.exists() and "validation_psnr" in (read := json.loads(record.read_text())):
            found.setdefault(name.rpartition("-s")[0], []).append(read)
    return [_row(name, records) for name, records in found.items()]


def _row(name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    scored = "psnr" in records[0]
    scores = [record["psnr" if scored else "validation_psnr"] for record in records]
    return {
        "job": name,
        "protocol": records[0].get("protocol"),
        "images": records[0].get("images"),
        "seeds": [record["job"]["seed"] for record in records],
        "psnr": [round(score, 4) for score in scores],
        "mean": round(statistics.fmean(scores), 4),
        "deviation": round(statistics.stdev(scores), 4) if len(scores) > 1 else None,
        "ssim": [round(record["ssim"], 4) for record in records] if scored else None,
        "steps": [record["step"] for record in records],
        "cpu_seconds": [record["cpu_seconds"] for record in records],
        "parameters": records[0]["parameters"],
        "multiply_adds_per_pixel": records[0]["multiply_adds_per_pixel"],
        "device": records[0]["device"],
        "torch": records[0]["versions"]["torch"],
    }


def main() -> None:
    """Print the table, and write its rows where ``--json`` says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("jobs", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = rows_of(options.jobs, options.results)
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
