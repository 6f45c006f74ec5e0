"""Methods side by side: only what may be compared, with intervals that say what chance could have done."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from irnas_ray.evaluation.scores import Evaluation
from irnas_ray.results.table import Table
from irnas_ray.system.files import write_csv
from irnas_ray.system.names import normalised

#: Share of such intervals that hold the mean, and the fewest images that are given one: of fewer it would tell little
#: but how many there are.
LEVEL, FEWEST = 0.95, 5

Interval = tuple[float, float]


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Returns the 95 % Student t interval of the mean over images, which allows for how few they are.

    Args:
        values: One value for each image.

    Returns:
        Low and high end; None for fewer than ``FEWEST`` values, or one that is not finite (PSNR of identical images).
    """
    count = len(values)
    if count < FEWEST or not np.isfinite(values).all():
        return None
    mean = math.fsum(values) / count
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1)) / math.sqrt(count)
    return mean - half, mean + half


def check_comparable(evaluations: Sequence[Evaluation]) -> None:
    """Raises ValueError if protocols, noise levels, borders of SSIM or images differ, because such numbers mean
    different things; or if there is nothing to compare, or two methods have one name.
    """
    if not evaluations:
        raise ValueError("no evaluations to compare")
    first = evaluations[0]
    for index, other in enumerate(evaluations):
        for what in ("protocol", "sigma", "ssim_border"):
            if getattr(other, what) != getattr(first, what):
                raise ValueError(
                    f"cannot compare {first.method} ({what} {getattr(first, what)}) with {other.method} ({what} "
                    f"{getattr(other, what)}): such numbers mean different things"
                )
        if _names(other) != _names(first):
            raise ValueError(f"cannot compare {first.method} with {other.method}: they were scored on different images")
        if any(other.method == before.method for before in evaluations[:index]):
            raise ValueError(f"two methods are called {other.method}; give them different names")


def _names(evaluation: Evaluation) -> list[str]:
    return sorted(normalised(score.image_id) for score in evaluation.scores)


def gains(evaluation: Evaluation, reference: Evaluation, what: str = "psnr") -> list[float]:
    """The differences to a reference, image by image; ``what`` is psnr or ssim. Raises as ``check_comparable``."""
    if evaluation is not reference:
        check_comparable([evaluation, reference])
    of_reference = {normalised(score.image_id): getattr(score, what) for score in reference.scores}
    return [getattr(score, what) - of_reference[normalised(score.image_id)] for score in evaluation.scores]


def compare(evaluations: Sequence[Evaluation], reference: str | None = None) -> list[dict[str, Any]]:
    """Returns a row for each method, best PSNR first: means, their intervals, and paired gains over a reference.

    Args:
        evaluations: Methods under one protocol, noise level and set of images.
        reference: The method that the gains are over, usually the best baseline; None: no gains.

    Returns:
        Plain values with the keys of ``COLUMNS``; None where something does not apply, is infinite or not known.

    Raises:
        ValueError: as ``check_comparable``, or if there is no method called ``reference``.

    Example:
        >>> import irnas_ray as ir
        >>> score, scored = ir.evaluation.Score, ir.evaluation.Evaluation
        >>> plain = scored("plain", "photographs-gray", 25, [score(name, 24, 0.6, 1) for name in "abcde"])
        >>> better = scored("better", "photographs-gray", 25, [score(name, 25, 0.7, 1) for name in "abcde"])
        >>> better.scores[0] = score("a", 26, 0.7, 1)
        >>> best, _ = ir.compare([plain, better], reference="plain")
        >>> best["method"], *(round(best[key], 2) for key in ("psnr_gain", "psnr_gain_low", "psnr_gain_high"))
        ('better', 1.2, 0.64, 1.76)
    """
    check_comparable(evaluations)
    against = next((other for other in evaluations if other.method == reference), None)
    if reference is not None and against is None:
        raise ValueError(f"no method is called {reference}; there are {', '.join(e.method for e in evaluations)}")
    rows = []
    for evaluation in sorted(evaluations, key=lambda evaluation: -evaluation.psnr):
        row: dict[str, Any] = {"method": evaluation.method, "protocol": evaluation.protocol, "sigma": evaluation.sigma}
        row["images"] = len(evaluation.scores)
        for what in ("psnr", "ssim"):
            row |= _with_interval(what, [getattr(score, what) for score in evaluation.scores])
        row["reference"] = None if against is None or evaluation is against else reference
        for what in ("psnr", "ssim"):
            differences = gains(evaluation, against, what) if against and evaluation is not against else []
            row |= _with_interval(f"{what}_gain", differences)
        rows.append(row | {"seconds": _finite_or_none(evaluation.seconds), "ssim_border": evaluation.ssim_border})
    return rows


def _with_interval(name: str, values: Sequence[float]) -> dict[str, float | None]:
    mean = math.fsum(values) / len(values) if values else math.nan
    low, high = mean_interval(values) or (None, None)
    if name == "ssim" and high is not None:
        high = min(high, 1.0)
    return {name: _finite_or_none(mean), f"{name}_low": low, f"{name}_high": high}


#: The columns of a comparison: means over the images, ends of their intervals, gains in dB and SSIM over the reference.
COLUMNS: tuple[str, ...] = (
    *("method", "protocol", "sigma", "images"),
    *(f"{what}{end}" for what in ("psnr", "ssim") for end in ("", "_low", "_high")),
    "reference",
    *(f"{what}_gain{end}" for what in ("psnr", "ssim") for end in ("", "_low", "_high")),
    "seconds",
    "ssim_border",
)


def write_comparison(rows: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Writes the rows of ``compare`` as CSV with the columns ``COLUMNS``; what is None stays empty."""
    write_csv(path, COLUMNS, rows)


def interval_table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows of ``compare`` as a Markdown table under a line that names the protocol."""
    reference = next((row["reference"] for row in rows if row["reference"] is not None), None)
    heading = _heading(*(rows[0][key] for key in ("protocol", "sigma", "images", "ssim_border")))
    gain = [f">gain over {reference} (dB)"] if reference else []
    lines = []
    for row in rows:
        cells = [row["method"], _cell(row, "psnr", ".2f"), _cell(row, "ssim", ".4f")]
        cells += [_cell(row, "psnr_gain", "+.2f")] if reference else []
        lines.append([*cells, "–" if row["seconds"] is None else f"{row['seconds']:.3f}"])
    table = Table(["method", ">PSNR (dB)", ">SSIM", *gain, ">seconds per image"], lines)
    return f"{heading}; [95 % t interval, from {FEWEST} images on]\n\n{table.markdown()}"


def _cell(row: dict[str, Any], name: str, form: str) -> str:
    if row[name] is None:
        return "–" if name.endswith("gain") else "inf"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:{form}} [" + ("–]" if low is None else f"{low:{form}}, {high:{form}}]")


def comparison_table(evaluations: Sequence[Evaluation]) -> str:
    """Returns methods and their means as a Markdown table, best PSNR first, under a line that names the protocol.

    Raises:
        ValueError: as ``check_comparable``.
    """
    check_comparable(evaluations)
    first = evaluations[0]
    rows = [
        [one.method, f"{one.psnr:.2f}", f"{one.ssim:.4f}", f"{one.seconds:.3f}"]
        for one in sorted(evaluations, key=lambda one: -one.psnr)
    ]
    table = Table(["method", ">PSNR (dB)", ">SSIM", ">seconds per image"], rows)
    return f"{_heading(first.protocol, first.sigma, len(first.scores), first.ssim_border)}\n\n{table.markdown()}"


def _heading(protocol: str, sigma: float | None, images: int, border: str) -> str:
    level = "" if sigma is None else f", sigma {sigma:g}"
    return f"Protocol `{protocol}`{level}, {images} images, SSIM {border.replace('_', '-')}"


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
