"""Folders of studies as the layout has them, without a training: what reports and figures are made of."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.decoding import Margin
from irnas_ray.genotypes.genotype import Genotype

SPACE = {
    "architecture.nodes": IntDistribution(3, 5),
    "search.arch_lr": FloatDistribution(1e-3, 1e-1, log=True),
    "search.ssim_weight": FloatDistribution(0, 1),
}
DENOISING = Genotype(
    (
        (
            (Edge(0, "conv"), Edge(1, "conv")),
            (Edge(1, "dil"), Edge(2, "dil")),
            (Edge(0, "skip"), Edge(2, "def")),
            (Edge(0, "def"), Edge(4, "def")),
            (Edge(1, "skip"), Edge(5, "skip")),
        ),
    ),
    (0, 0, 0, 1),
)
MARGINS = [
    Margin("node 0 operator on input 0", "conv", "dil", 0.3),
    Margin("node 3 input", "4", "2", 0.0123),
    Margin("layer 3 level", "1", "0", 0.25),
]
SUMMARY = {
    "protocol": "photographs-gray",
    "sigma": 50.0,
    "versions": {"torch": "9.8.7", "device": "Abacus"},
    "seconds": {"search": 7260.0, "finals": 12.5},
    "finals": [
        {
            "rank": 1,
            "trial": "t07",
            "psnr": 28.125,
            "ssim": 0.8125,
            "parameters": 631234,
            "multiply_adds_per_pixel": 640000,
            "seconds": 90.0,
        }
    ],
    "baselines": {"degraded input": {"psnr": 14.625, "ssim": 0.1}, "non-local means": {"psnr": 27.0, "ssim": 0.7}},
}


class Page(HTMLParser):
    """Collects tags that are never closed, and what would be loaded or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def make_study(folder: Path, count: int = 24, summary: bool = True, database: bool = True, name: str = "small") -> Path:
    """A study in which the score follows ssim_weight alone; a third was stopped, the second trial failed."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"study": name, "search_space": "toy", "tune": {}}))
    generator = np.random.default_rng(0)
    records, trials = [], []
    for number in range(count):
        params = {
            "architecture.nodes": int(generator.integers(3, 6)),
            "search.arch_lr": float(10 ** generator.uniform(-3, -1)),
            "search.ssim_weight": float(generator.uniform()),
        }
        score = 30 - 4 * abs(params["search.ssim_weight"] - 0.5)
        state = "FAIL" if number == 1 else "PRUNED" if number % 3 == 2 else "COMPLETE"
        records.append(make_record(f"t{number:02d}", state, params | {"seed": number}, score))
        trials.append(make_trial(records[-1], params, score))
    if database:
        study = optuna.create_study(storage=f"sqlite:///{folder}/study.db", study_name=name, direction="maximize")
        study.add_trials(trials)
    if summary:
        (folder / "summary.json").write_text(json.dumps(SUMMARY | {"study": name, "trials": records}))
    return folder


def make_record(trial_id: str, state: str, config: dict[str, Any], score: float) -> dict[str, Any]:
    failed = state == "FAIL"
    return {
        "id": trial_id,
        "state": state,
        "config": config,
        "psnr": None if failed else score,
        "ssim": None if failed else 0.5,
        "score": None if failed else score,
        "genotype": None if failed else json.loads(DENOISING.to_json()),
        "margins": [] if failed else [vars(margin) for margin in MARGINS],
        "seconds": 12.5,
        "error": "ValueError: <b>lost</b> & found" if failed else None,
        "round": 1,
    }


def make_trial(record: dict[str, Any], params: dict[str, Any], score: float) -> optuna.trial.FrozenTrial:
    state = TrialState[record["state"]]
    replicate = {"seed": record["config"]["seed"], "trial": record["id"], "error": record["error"]}
    replicate |= {name: record[name] for name in ("state", "score", "psnr", "ssim", "seconds")}
    attributes: dict[str, Any] = {"replicates": [replicate]}
    if record["genotype"]:
        attributes |= {"genotype": DENOISING.to_json(None), "margins": json.dumps(record["margins"]), "psnr": score}
    value = None if state in (TrialState.FAIL, TrialState.RUNNING) else score
    return create_trial(state=state, params=params, distributions=SPACE, value=value, user_attrs=attributes)
