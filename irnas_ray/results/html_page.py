"""A study as one HTML page that needs nothing but itself: styles inside, pictures embedded, no scripts."""

import base64
import csv
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, UnidentifiedImageError

from irnas_ray.hpo.records import name_of
from irnas_ray.results.genotype_drawing import draw_genotype
from irnas_ray.results.layout import FinalLayout, StudyLayout
from irnas_ray.results.plots import plot_history, plot_importances, png
from irnas_ray.results.search_health import decodings_table, health_table, plot_course
from irnas_ray.results.study_results import StudyResults, genotype_of, importances
from irnas_ray.results.table import Table, number
from irnas_ray.results.tables import (
    TIE,
    commands,
    costs,
    facts,
    finals_table,
    front_table,
    margins_of,
    margins_table,
    noise_levels,
    state_counts,
    state_name,
    trials_table,
    verdict,
)
from irnas_ray.system.names import normalised

#: Most pictures on the page, and their largest side in pixels; the originals stay beside the networks.
SAMPLES, SIDE = 3, 720
#: Largest side of a sheet of pictures.
SHEET = 1800

#: How every page is set; a page extends ``page.html.jinja``.
TEMPLATES = Environment(
    loader=PackageLoader("irnas_ray.results"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters["base64"] = lambda content: base64.b64encode(content).decode()
TEMPLATES.globals |= {"number": number, "state_name": state_name, "margins_table": margins_table, "TIE": TIE}
TEMPLATES.globals |= {"name_of": name_of, "health_table": health_table, "decodings_table": decodings_table}


def render(results: StudyResults) -> str:
    """The whole page as HTML text."""
    errors = [[name_of(record), str(record["error"])] for record in results.records if record.get("error")]
    return TEMPLATES.get_template("report.html.jinja").render(
        results=results,
        summary=results.summary,
        counts=state_counts(results.records),
        finals=[(sigma, finals_table(results.summary, sigma)) for sigma in noise_levels(results.summary)],
        front=front_table(results.records, results.objectives) if len(results.objectives) > 1 else None,
        best=_best(results),
        history=png(plot_history(results.records)) if results.records else None,
        trials=trials_table(results.ranked()),
        errors=Table(["trial", "error"], errors),
        samples=_samples(results),
        facts=facts(results),
        costs=costs(results),
        verdict=verdict(results),
        commands=commands(results),
        **_importances(results),
    )


def _best(results: StudyResults) -> dict[str, Any] | None:
    record = results.best()
    genotype = genotype_of(record) if record else None
    if record is None or genotype is None:
        return None
    margins = margins_of(record)
    picture = png(draw_genotype(genotype, margins))
    found = {"record": record, "genotype": genotype, "margins": margins, "picture": picture}
    health = record.get("health")
    if not health:
        return found | {"health": None}
    course = png(plot_course(health["history"])) if health.get("history") else None
    return found | {"health": health, "course": course}


def _importances(results: StudyResults) -> dict[str, Any]:
    try:
        if results.problem:
            raise ValueError(f"Parameter importances need the Optuna study: {results.problem}")
        picture = png(plot_importances(importances(results.configurations, results.objectives)))
    except ValueError as error:
        return {"importances": None, "unimportant": f"{str(error)[:1].upper()}{str(error)[1:]}."}
    return {"importances": picture}


def _samples(results: StudyResults) -> dict[str, Any] | None:
    """The sheet of the best final, or else its first restored images: picture, alternative text and caption of each."""
    finals = results.summary.get("finals") or []
    if not finals:
        return None
    rank = max(finals, key=lambda final: final.get("psnr") or 0.0)["rank"]
    final = FinalLayout(StudyLayout(results.folder).final(rank))
    sheet = _thumbnail(final.sheet, SHEET, "JPEG")
    if sheet is not None:
        return {"rank": rank, "sheet": sheet, "images": []}
    scores = _scores(final.scores)
    images: list[tuple[bytes, str, str]] = []
    for path in sorted(final.images.rglob("*.png")):
        image_id = path.relative_to(final.images).with_suffix("").as_posix()
        content = _thumbnail(path)
        if content is not None and len(images) < SAMPLES:
            images.append((content, f"restored image {image_id}", f"{image_id}{scores.get(normalised(image_id), '')}"))
    return {"rank": rank, "sheet": None, "images": images} if images else None


def _scores(path: Path) -> dict[str, str]:
    """Image id -> its scores in words; empty where there is no readable table."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [(row["image_id"], float(row["psnr"]), float(row["ssim"])) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError):
        return {}
    return {normalised(image_id): f": {psnr:.2f} dB, SSIM {ssim:.4f}" for image_id, psnr, ssim in rows}


def _thumbnail(path: Path, side: int = SIDE, form: str = "PNG") -> bytes | None:
    """A picture's content, made smaller if it is large; None where it cannot be read."""
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.thumbnail((side, side))
            # noise makes a PNG file of a whole sheet many times as large, and no eye sees a difference
            image.save(buffer, form, quality=92, subsampling=0)
    except (OSError, UnidentifiedImageError):
        return None
    return buffer.getvalue()
