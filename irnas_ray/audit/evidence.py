"""What the finished studies of an audit have to say: their folders read as arms, proxies and facts."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from irnas_ray.audit.ledger import Cost
from irnas_ray.audit.networks import Network
from irnas_ray.audit.record import Arm, Run
from irnas_ray.audit.tables import mean_score
from irnas_ray.evaluation.scores import Evaluation
from irnas_ray.genotypes.decoding import TIE
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.plan import rungs_of
from irnas_ray.hpo.records import name_of
from irnas_ray.results.aggregates import missing_of
from irnas_ray.results.folder import StudyFolder, as_plain
from irnas_ray.results.layout import FinalLayout, StudyLayout
from irnas_ray.results.study_results import read_study
from irnas_ray.settings.study import StudyConfig
from irnas_ray.system.files import write_text

#: Arms in the order in which they are shown, and what they are called.
TITLES = {
    "searched": "A searched",
    "random": "B random search",
    "uniform": "C uniform networks",
    "controls": "D controls",
    "mutants": "E one edit from the best of A",
}
#: Study of all networks that are trained alone.
TRAINED = "trained"


class AuditFolder(StudyFolder):
    """``results/<audit>``: its settings, the folders of its studies, and at the end what it came to."""

    def create(self, config: StudyConfig, fingerprint: str = "") -> None:
        """Make the folder and write ``config.yaml``; every study looks after its own data."""
        write_text(self.config, yaml.safe_dump(as_plain(config), sort_keys=False))

    def study(self, name: str) -> StudyLayout:
        """A study's own folder."""
        return StudyLayout(self.path / name)


def run_name(arm: str, run: int) -> str:
    """The study of a run, which counts from 0."""
    return f"{arm}-{run + 1}"


@dataclass(frozen=True)
class Judged:
    """A network of an arm with the folders of its trainings, a seed each; and the run that has found it, if one has."""

    arm: str
    network: Network
    finals: Sequence[Path]
    run: int | None = None


def test_scores(final: Path) -> Path:
    """The scores of a final network on the test images, which are opened at the end."""
    return final / "test_scores.json"


def evaluation_of(final: Path, images: str) -> Evaluation | None:
    """The scores of one training on the audit's images; None where it has failed, or was not scored yet."""
    path = test_scores(final) if images == "test" else FinalLayout(final).metrics
    if not path.exists():
        return None
    value = json.loads(path.read_text(encoding="utf-8"))
    return Evaluation.from_dict(value if images == "test" else value["evaluation"])


def winner_of(study: StudyLayout, name: str) -> Network:
    """The network that a finished search has chosen; ValueError naming its folder if its training has failed."""
    found = metrics_of(study.final(1))
    if found is None:
        raise ValueError(f"{study.path}: the training of what this search has found has failed, so it has no score")
    genotype = Genotype.from_json(json.dumps(found["genotype"]))
    cost, weights = found["multiply_adds_per_pixel"], found["parameters"]
    return Network(name, genotype, cost, weights, dict(found["settings"]), score=found["validation_psnr"])


def metrics_of(final: Path) -> dict[str, Any] | None:
    """What a training came to; None where it has left nothing."""
    path = FinalLayout(final).metrics
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def is_finished(config: StudyConfig) -> bool:
    """Whether a study has run to its end under these settings, so that there is nothing to do again."""
    folder = StudyFolder(config)
    if not folder.summary.exists():
        return False
    kept = {"resume", "results", "cluster", "fingerprint"}
    # as YAML gives it back
    now = yaml.safe_load(yaml.safe_dump(as_plain(config)))
    before, now = ({key: x[key] for key in x.keys() - kept} for x in (folder.read_settings(), now))
    records = folder.read_records()
    whole = len(folder.read_summary()["finals"]) == config.final.count and not (
        records and missing_of(records, config.tune.trials)
    )
    return before == now and whole


def arms_of(
    judged: Sequence[Judged], folder: AuditFolder, images: str, costs: Mapping[str, float]
) -> tuple[dict[str, Arm], list[str], list[str]]:
    """The arms, the ids of the images, and the names of networks that are left out because a training of them failed.

    ``costs`` says for each searched arm what a trial with a supernet costs in multiply-adds. ValueError naming the run
    if a network that a run has found is among those that failed.
    """
    arms: dict[str, list[Run]] = {}
    ids: list[str] = []
    missing: list[str] = []
    for one in judged:
        evaluations = [evaluation for final in one.finals if (evaluation := evaluation_of(final, images))]
        if len(evaluations) < len(one.finals) or not all(math.isfinite(e.psnr) for e in evaluations):
            if one.run is not None:
                raise ValueError(
                    f"{one.network.name}: {len(evaluations)} of its {len(one.finals)} trainings have a score, and no "
                    "run can be left out; resume=true goes on with those whose workers died"
                )
            missing.append(one.network.name)
            continue
        ids = ids or [score.image_id for score in evaluations[0].scores]
        rows = [{score.image_id: score.psnr for score in evaluation.scores} for evaluation in evaluations]
        if any(row.keys() != set(ids) for row in rows):
            raise ValueError(f"{one.network.name}: scored on other images than {judged[0].network.name}")
        scores = [[row[image] for image in ids] for row in rows]
        arms.setdefault(one.arm, []).append(_run(one, scores, folder, costs.get(one.arm, 0.0)))
    titled = {arm: Arm(title, arms[arm], arm == "controls") for arm, title in TITLES.items() if arm in arms}
    return titled, ids, missing


def _run(one: Judged, scores: list[list[float]], folder: AuditFolder, trial_cost: float) -> Run:
    metrics = [found for final in one.finals if (found := metrics_of(final))]
    judging = sum(found["seconds"] for found in metrics)
    genotype = one.network.genotype
    kept = [edge.operator for cell in genotype.cells for node in cell for edge in node] if genotype else []
    described: dict[str, Any] = {
        "network": str(genotype or f"{one.network.kind} {one.network.arguments}"),
        "parameters": metrics[0]["parameters"],
        "multiply_adds_per_pixel": metrics[0]["multiply_adds_per_pixel"],
        "skip_share": kept.count("skip") / len(kept) if kept else None,
    }
    if one.run is None:
        return Run(one.network.name, scores, Cost(0, 0, 0.0, 0.0, judging), **described)
    records = read_study(folder.path / run_name(one.arm, one.run)).records
    winner = next((record for record in records if name_of(record) == metrics[0]["trial"]), {})
    margins = [margin for margin in winner.get("margins") or [] if not margin["decision"].startswith("layer ")]
    if margins:
        described |= {"ties": sum(margin["margin"] < TIE for margin in margins), "decisions": len(margins)}
    cost = replace(cost_of(records, trial_cost), judging_seconds=judging)
    return Run(one.network.name, scores, cost, trail=trail_of(records, _each_spent(records, trial_cost)), **described)


def cost_of(records: Sequence[Mapping[str, Any]], trial_cost: float = 0.0) -> Cost:
    """What the trials of a search have cost; ``trial_cost`` are the multiply-adds of one with a supernet."""
    steps = sum(record.get("steps") or 0 for record in records)
    seconds = sum(record.get("seconds") or 0.0 for record in records)
    return Cost(len(records), steps, sum(_each_spent(records, trial_cost)), seconds)


def _each_spent(records: Sequence[Mapping[str, Any]], trial_cost: float) -> list[float]:
    most = max((record.get("steps") or 0 for record in records), default=0)
    return [_spent(record, trial_cost, most) for record in records]


def _spent(record: Mapping[str, Any], trial_cost: float, most: int) -> float:
    """Multiply-adds of a trial; of one with a supernet, which does not count them, by its share of the steps."""
    share = (record.get("steps") or 0) / most if most else 1.0
    return float(record.get("training_multiply_adds") or trial_cost * share)


def trail_of(records: Sequence[Mapping[str, Any]], spent: Sequence[float]) -> list[tuple[float, float]]:
    """What a run had spent when each trial that ran to its end was through, and that trial's score.

    The score of one that was stopped early is that of a shorter training, and no better than it seems.
    """
    trail, total = [], 0.0
    for record, cost in zip(records, spent, strict=True):
        total += cost
        score = record.get("score")
        if record["state"] == "COMPLETE" and score is not None and math.isfinite(score):
            trail.append((total, float(score)))
    return trail


def proxies_of(
    judged: Sequence[Judged], arms: Mapping[str, Arm], folder: AuditFolder, config: StudyConfig
) -> dict[str, list[tuple[float, float]]]:
    """Everything that a search might have chosen by, against the mean score of the same network trained alone.

    What trials came to is known of the networks that A and B have chosen; parameters and multiply-adds of all that a
    genotype describes, but for controls, which are made to measure.
    """
    runs = {(arm, run.name): run for arm, one in arms.items() for run in one.runs}
    found: dict[str, list[tuple[float, float]]] = {}
    for one in judged:
        run = runs.get((one.arm, one.network.name))
        if run is None or one.arm == "controls":
            continue
        values: dict[str, float | None] = {
            "parameters": run.parameters,
            "multiply-adds": run.multiply_adds_per_pixel,
        }
        if one.run is not None:
            values = _trial_values(one, folder, config) | values
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                found.setdefault(name, []).append((float(value), mean_score(run)))
    return found


def _trial_values(one: Judged, folder: AuditFolder, config: StudyConfig) -> dict[str, float | None]:
    """What the trial that a run has chosen reported: at each rung, and at its end."""
    assert one.run is not None
    results = read_study(folder.path / run_name(one.arm, one.run))
    trial = (metrics_of(one.finals[0]) or {})["trial"]
    record = next((record for record in results.records if name_of(record) == trial), None)
    if record is None:
        return {}
    reports = next((x.intermediate_values for x in results.configurations if x.number == record["configuration"]), {})
    values: dict[str, float | None] = {f"score at epoch {epoch}": reports.get(epoch) for epoch in rungs_of(config)}
    if one.arm == "searched" and config.search.supernet:
        values["score in the supernet"] = record.get("psnr")
    return values | {"score of the trial": record.get("score")}


def seconds_of(folder: AuditFolder, names: Sequence[str]) -> float:
    """Wall time of the studies, of all their runs that came to an end."""
    return sum(sum(folder.study(name).read_summary().get("seconds", {}).values()) for name in names)
