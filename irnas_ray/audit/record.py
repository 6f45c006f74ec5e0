"""An audit as a value: its arms with all scores and costs, the judgement on them, and the file that holds both."""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from irnas_ray.audit.agreement import Agreement, rank_correlation
from irnas_ray.audit.ledger import Cost, check_equal_budgets
from irnas_ray.audit.verdict import SHAPES, Judgement, checked_scores, judge
from irnas_ray.system.files import write_json

FORMAT = "irnas_ray.audit"
VERSION = 1


@dataclass(frozen=True)
class Run:
    """One whole run of a search with the network that it chose, or one network that nothing has searched for."""

    name: str
    #: PSNR in dB of the network trained alone: for each training seed one of each image.
    scores: list[list[float]]
    cost: Cost
    #: The network: its genotype or its name, weights, multiply-adds a pixel, and what of the genotype is skip.
    network: str = ""
    parameters: int | None = None
    multiply_adds_per_pixel: float | None = None
    skip_share: float | None = None
    #: Of how many decisions of the genotype how many were ties.
    ties: int | None = None
    decisions: int | None = None
    #: Cost (multiply-adds) at which each score was known in the search, and the score in dB.
    trail: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed only; or networks that are listed one by one, such as controls."""

    title: str
    runs: list[Run]
    one_by_one: bool = False


@dataclass(frozen=True)
class Audit:
    """Everything that an audit has measured, and what it comes to; made by ``audit_of`` or ``read_audit``."""

    name: str
    #: ``"searched"``, ``"random"`` and ``"uniform"``, and what else was measured.
    arms: dict[str, Arm]
    #: Ids of the images, in the order of the scores.
    images: list[str]
    #: Proxy -> its value and the score in dB of each network for which both are known.
    proxies: dict[str, list[tuple[float, float]]]
    judgement: Judgement
    #: Proxy -> Kendall's tau-b with the scores.
    tau: dict[str, Agreement]
    #: Wall time of the whole audit, without that of runs that were stopped.
    seconds: float
    #: What else a reader must know, such as protocol, noise level, search space and versions.
    facts: dict[str, str] = field(default_factory=dict)


def audit_of(
    name: str,
    arms: Mapping[str, Arm],
    images: Sequence[str],
    seconds: float,
    proxies: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    facts: Mapping[str, str] | None = None,
    draws: int = 10_000,
    budgets: Mapping[str, Sequence[float]] | None = None,
    unit: str = "multiply-adds",
) -> Audit:
    """Judges an audit's arms.

    Args:
        name: What the audit is called.
        arms: At least ``"searched"``, ``"random"`` and ``"uniform"``; each run with as many seeds as its arm's others.
        images: Ids of the images, in the order of the scores.
        seconds: Wall time of the whole audit, without that of runs that were stopped.
        proxies: Proxy -> pairs of its value and the score in dB of a network trained alone.
        facts: What else a reader must know.
        draws: Bootstrap draws.
        budgets: What each run of searched and random was allowed to spend; None: the multiply-adds that it has spent.
        unit: What they are counted in.

    Raises:
        ValueError: as ``judge``, of any arm; if searched and random had unequal budgets.
    """
    scores = {key: [run.scores for run in arm.runs] for key, arm in arms.items()}
    for key in {**SHAPES, **scores}:
        found = checked_scores(scores, key).shape[2]
        if found != len(images):
            raise ValueError(f'scores["{key}"]: {found} images, but {len(images)} have names')
    judgement = judge(scores, draws)
    spent = {key: [run.cost.multiply_adds for run in arms[key].runs] for key in ("searched", "random")}
    check_equal_budgets(spent if budgets is None else budgets, unit)
    pairs = {proxy: [(float(x), float(y)) for x, y in values] for proxy, values in (proxies or {}).items()}
    tau = {proxy: rank_correlation(*np.array(values).reshape(-1, 2).T) for proxy, values in pairs.items()}
    return Audit(name, dict(arms), list(images), pairs, judgement, tau, float(seconds), dict(facts or {}))


def write_record(audit: Audit, path: str | Path) -> None:
    """Writes ``audit.json``, whole or not at all: the judgement's fields beside arms, tau and seconds.

    What is not finite becomes null. OSError naming the file if it cannot be written.
    """
    value = asdict(audit)
    write_json(path, _without_nan({"format": FORMAT, "version": VERSION, **value.pop("judgement"), **value}))


def read_audit(path: str | Path) -> Audit:
    """Reads an ``audit.json`` as it was written; ValueError names the file, and the field that is missing or wrong."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(f'{path}: field "format" must be "{FORMAT}"; this file is something else')
    if value.get("version") != VERSION:
        raise ValueError(f"{path}: version {value.get('version')!r} is unknown; this release reads version {VERSION}")
    value["judgement"] = {
        one.name: _with_nan(value[one.name], one.name) for one in fields(Judgement) if one.name in value
    }
    if isinstance(value.get("tau"), dict):
        value["tau"] = {proxy: _with_nan(found, proxy) for proxy, found in value["tau"].items()}
    try:
        return _reader().validate_python(value)
    except ValueError as error:
        first = error.errors()[0]  # type: ignore[attr-defined]
        where = ".".join(str(part) for part in first["loc"] if part != "judgement")
        raise ValueError(f"{path}: {where}: {first['msg']}") from None


@functools.cache
def _reader() -> Any:
    # slow to import
    from pydantic import TypeAdapter

    return TypeAdapter(Audit)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(value: Any, name: str) -> Any:
    """The numbers that ``_without_nan`` took away: an interval of the difference is then boundless, all else NaN."""
    if isinstance(value, dict):
        return {key: _with_nan(part, key) for key, part in value.items()}
    if name == "interval" and value == [None, None]:
        return [-math.inf, math.inf]
    if isinstance(value, list):
        return [math.nan if part is None else part for part in value]
    return math.nan if value is None else value
