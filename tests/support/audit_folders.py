"""The folder of an audit whose studies are finished, written by the layout's own writers, without a training."""

import json
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from irnas_ray.audit.arms import Plan, networks_alone, planned, trainings
from irnas_ray.audit.evidence import TRAINED, AuditFolder, Judged, run_name, test_scores, winner_of
from irnas_ray.audit.networks import Network, UniformNetworks
from irnas_ray.cli.command_line import compose_settings
from irnas_ray.evaluation.scores import Evaluation, Score
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.results.folder import StudyFolder
from irnas_ray.results.layout import FinalLayout
from irnas_ray.settings.audit import AuditConfig
from irnas_ray.settings.study import with_values
from irnas_ray.system.files import write_json

SMALL = (
    "architecture.layers=1 architecture.nodes=1 architecture.width=2 final.width=4 final.batch=2 search.batch=2"
    " search.method=evolution search.epochs=3 search.warmup_epochs=1 search.steps_per_epoch=120 search.validate_every=1"
    " tune.grace_epochs=1 tune.early_stopping=true tune.trials=4"
    " audit.runs=2 audit.seeds=2 audit.networks=3 audit.mutants=2 search_spaces=compact domains={} study=a"
).split()


def settings(*arguments: str) -> AuditConfig:
    """The settings of a small audit."""
    return compose_settings("audit", AuditConfig, [*SMALL, *arguments])


class Finished:
    """An audit's folder when all is trained; trial n of a run has reported ``20 + n`` dB after its first epoch."""

    def __init__(self, config: AuditConfig) -> None:
        self.config, self.plan = config, planned(config)
        self.folder = AuditFolder(config)
        self.folder.create(config)
        size = config.audit
        self.places = [(arm, run) for arm in self.plan.searches for run in range(size.runs)]
        for place, (arm, run) in enumerate(self.places):
            _search(self.plan, self.folder, arm, run, place)
        self.winners = [
            winner_of(self.folder.study(run_name(*place)), f"{place[0]} {place[1] + 1}") for place in self.places
        ]
        self.alone, self.facts = networks_alone(config, self.plan, self.winners)
        self.candidates, self.judged = trainings(config, self.folder, self.places, self.winners, self.alone)
        for candidate in self.candidates:
            network = next(one.network for one in self.judged if candidate.name.startswith(f"{one.network.name},"))
            final = self.folder.study(TRAINED).final(candidate.rank)
            write_training(final, network, candidate.trial, candidate.settings["final.seed"])

    def of(self, arm: str) -> list[Judged]:
        return [one for one in self.judged if one.arm == arm]


def write_training(final: Path, network: Network, trial: str, seed: int, test: float = 26.0) -> None:
    """What a training leaves: of seed n it has ``25 + n / 100`` dB on the validation images, and more on the test."""
    shown = [Score(f"image {place}", 25 + seed / 100 + place, 0.5, 0.1) for place in range(3)]
    metrics: dict[str, Any] = {
        "name": network.name,
        "trial": trial,
        "genotype": None if network.genotype is None else _plain(network.genotype),
        "settings": dict(network.settings),
        "seed": seed,
        "scored": "validation",
        "validation_psnr": 25 + seed / 100,
        "parameters": 1000,
        "multiply_adds_per_pixel": network.multiply_adds,
        "seconds": 2.0,
        "evaluation": Evaluation(network.name, "photographs-gray", 50, shown).to_dict(),
    }
    write_json(FinalLayout(final).metrics, metrics)
    opened = [Score(f"test {place}", test + seed / 100 + place, 0.5, 0.1) for place in range(2)]
    write_json(test_scores(final), Evaluation(network.name, "photographs-gray", 50, opened).to_dict())


def _plain(genotype: Genotype) -> Any:
    return json.loads(genotype.to_json())


def _search(plan: Plan, folder: AuditFolder, arm: str, run: int, place: int) -> None:
    """A run of four trials: the last but one is stopped early, and the last is the best."""
    config = with_values(plan.searches[arm], {"study": run_name(arm, run), "results": str(folder.path)})
    study = StudyFolder(config)
    if study.summary.exists():
        return
    study.create(config)
    networks = UniformNetworks(config, seed=place)
    own = optuna.create_study(
        study_name=study.name, storage=f"sqlite:///{study.path / 'study.db'}", direction="maximize"
    )
    records = []
    for number in range(config.tune.trials):
        network = networks.draw()
        stopped = number == config.tune.trials - 2
        state = "PRUNED" if stopped else "COMPLETE"
        seed = {"seed": number, "trial": f"trial{number}", "state": state, "score": 22.0 + number, "error": None}
        own.add_trial(
            create_trial(
                user_attrs={"replicates": [seed]},
                state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
                value=22.0 + number,
                intermediate_values={1: 20.0 + number} | ({} if stopped else {3: 22.0 + number}),
            )
        )
        records.append(
            {
                "id": f"trial{number}",
                "configuration": number,
                "state": state,
                "config": {"seed": number},
                "score": 22.0 + number,
                "seconds": 3.0,
                "steps": 10,
                "training_multiply_adds": 1000,
                "genotype": _plain(network.genotype),
                "margins": [],
            }
        )
    write_json(study.records, records)
    # the winner of a run stands where its study has put it
    write_training(study.final(1), network, "trial3", seed=place * 2)
    final = {"rank": 1, "name": "final 1"}
    write_json(study.summary, {"study": study.name, "seconds": {"search": 5.0}, "trials": records, "finals": [final]})
