"""A study as one HTML page that needs nothing but itself: styles inside, pictures embedded, no scripts."""

import base64
import csv
import html
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from irnas_ray.results.genotype_drawing import draw_genotype
from irnas_ray.results.layout import FinalLayout, StudyLayout
from irnas_ray.results.plots import plot_history, plot_importances, png
from irnas_ray.results.study_results import StudyResults, genotype_of, importances
from irnas_ray.results.table import Table, number
from irnas_ray.results.tables import (
    TIE,
    facts,
    finals_table,
    front_table,
    margins_of,
    margins_table,
    noise_levels,
    state_counts,
    state_name,
    trials_table,
)

#: Most pictures on the page, and their largest side in pixels; the originals stay beside the networks.
SAMPLES, SIDE = 3, 720

STYLE = """
:root { color-scheme: light dark; --ink: #22262b; --soft: #5c6570; --line: #dfe3e8; --page: #fbfbfc; --card: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e6ea; --soft: #9aa3ad; --line: #343a42; --page: #16191d; --card: #1e2227; }
}
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 68rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
p { margin: .4rem 0; max-width: 46rem; }
p.note, figcaption { color: var(--soft); font-size: .9rem; }
.scroll { overflow: auto; max-height: 34rem; width: fit-content; max-width: 100%; margin: .8rem 0;
  border: 1px solid var(--line); border-radius: 6px; background: var(--card); }
table { border-collapse: collapse; font-size: .875rem; line-height: 1.4; }
th, td { padding: .4rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 0; }
th { font-weight: 600; color: var(--soft); position: sticky; top: 0; background: var(--card); }
th:empty { padding: 0; border: 0; }
td:first-child { white-space: nowrap; }
td:last-child { min-width: 9rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
figure { margin: 1rem 0; }
img { max-width: min(100%, 44rem); height: auto; border-radius: 6px; background: #fff; }
.samples { display: flex; flex-wrap: wrap; gap: 1rem; }
.samples figure { flex: 0 1 20rem; margin: 0; }
"""


def render(results: StudyResults) -> str:
    """The whole page as HTML text."""
    title = html.escape(f"Study {results.name}")
    sections = [_head(results), _finals(results), _front(results), _best(results), _search(results), _trials(results)]
    sections += [_samples(results), f"<h2>Setting</h2>\n{facts(results).html()}"]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n"
    )


def _head(results: StudyResults) -> str:
    summary = results.summary
    parts = [f"Search space {results.search_space}"]
    if summary.get("protocol"):
        noise = "" if summary.get("sigma") is None else f", sigma {summary['sigma']:g}"
        parts.append(f"protocol {summary['protocol']}{noise}")
    parts.append(state_counts(results.records))
    unfinished = "" if summary else _note("This study is not finished: it has no summary.json yet.")
    return f"<h1>Study {html.escape(results.name)}</h1>\n{_note('; '.join(parts) + '.')}\n{unfinished}"


def _finals(results: StudyResults) -> str:
    if not results.summary.get("finals"):
        return ""
    text = _note(
        "Mean over the test images. Final networks are trained from scratch; methods below them are baselines."
    )
    levels = noise_levels(results.summary)
    tables = [
        (_note(f"Sigma {sigma:g}:") if sigma and len(levels) > 1 else "") + finals_table(results.summary, sigma).html()
        for sigma in levels
    ]
    return "\n".join(["<h2>Final networks</h2>", *tables, text])


def _best(results: StudyResults) -> str:
    record = results.best()
    genotype = genotype_of(record) if record else None
    if record is None or genotype is None:
        return f"<h2>Best genotype</h2>\n{_note('No trial has reported a genotype.')}"
    margins = margins_of(record)
    ties = sum(margin.tie for margin in margins)
    early = "" if record["state"] == "COMPLETE" else f" ({state_name(record)}; no trial completed)"
    text = f"From trial {record['id']}{early}, score {number(record.get('score'), 2)} dB. "
    text += "Inputs h(l-2) and h(l-1) are the outputs of the two layers before; layers and nodes count from 0."
    lines = ["<h2>Best genotype</h2>", _note(text), _figure(png(draw_genotype(genotype, margins)), str(genotype))]
    if margins:
        counted = f"{ties} of {len(margins)} decisions were won by less than 0.02: each of these is {TIE}."
        lines += [f"<p>{counted}</p>", margins_table(margins).html()]
    return "\n".join(lines)


def _front(results: StudyResults) -> str:
    if len(results.objectives) == 1:
        return ""
    text = "Configurations that no other one beats in all objectives; means over their seeds."
    return f"<h2>Pareto front</h2>\n{_note(text)}\n{front_table(results.records, results.objectives).html()}"


def _search(results: StudyResults) -> str:
    lines = ["<h2>Search</h2>"]
    if results.records:
        lines.append(_figure(png(plot_history(results.records)), "score of every trial in the order of proposal"))
    try:
        if results.problem:
            raise ValueError(f"Parameter importances need the Optuna study: {results.problem}")
        picture = png(plot_importances(importances(results.configurations, results.objectives)))
        text = "How much each parameter decides whether a configuration is among the best; completed trials only."
        lines.append(_figure(picture, "importance of each parameter", text))
    except ValueError as error:
        lines.append(_note(f"{str(error)[:1].upper()}{str(error)[1:]}."))
    return "\n".join(lines)


def _trials(results: StudyResults) -> str:
    if not results.records:
        return ""
    text = "Best first. The score ranks the trials; PSNR and SSIM are those of the supernet on the validation images."
    lines = ["<h2>Trials</h2>", _note(text), trials_table(results.ranked()).html()]
    errors = [[str(record["id"]), str(record["error"])] for record in results.records if record.get("error")]
    if errors:
        lines += ["<h2>Failed trials</h2>", Table(["trial", "error"], errors).html()]
    return "\n".join(lines)


def _samples(results: StudyResults) -> str:
    ranks = sorted(final["rank"] for final in results.summary.get("finals") or [])
    if not ranks:
        return ""
    final = FinalLayout(StudyLayout(results.folder).final(ranks[0]))
    scores = _scores(final.scores)
    figures: list[str] = []
    for path in sorted(final.images.rglob("*.png")):
        image_id = path.relative_to(final.images).with_suffix("").as_posix()
        content = _thumbnail(path)
        if content is not None and len(figures) < SAMPLES:
            figures.append(_figure(content, f"restored image {image_id}", f"{image_id}{scores.get(image_id, '')}"))
    if not figures:
        return ""
    head = f"<h2>Restored images</h2>\n{_note(f'By final {ranks[0]}; all are in finals/{ranks[0]}/images.')}"
    return f'{head}\n<div class="samples">\n' + "\n".join(figures) + "\n</div>"


def _scores(path: Path) -> dict[str, str]:
    """Image id -> its scores in words; empty where there is no readable table."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [(row["image_id"], float(row["psnr"]), float(row["ssim"])) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError):
        return {}
    return {image_id: f": {psnr:.2f} dB, SSIM {ssim:.4f}" for image_id, psnr, ssim in rows}


def _thumbnail(path: Path) -> bytes | None:
    """A picture's PNG content, made smaller if it is large; None where it cannot be read."""
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.thumbnail((SIDE, SIDE))
            image.save(buffer, format="PNG")
    except (OSError, UnidentifiedImageError):
        return None
    return buffer.getvalue()


def _figure(content: bytes, alternative: str, caption: str = "") -> str:
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{html.escape(alternative)}">{below}</figure>'


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'
