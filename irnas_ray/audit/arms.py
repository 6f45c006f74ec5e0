"""An audit that runs: each search a study of its own, then all trainings of networks in one, then the test images."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from irnas_ray.audit.budgets import planned_budget, random_search, steps_of, trial_multiply_adds, unit_of
from irnas_ray.audit.evidence import (
    TRAINED,
    AuditFolder,
    Judged,
    arms_of,
    cost_of,
    evaluation_of,
    is_finished,
    metrics_of,
    proxies_of,
    run_name,
    seconds_of,
    test_scores,
    winner_of,
)
from irnas_ray.audit.ledger import check_equal_budgets
from irnas_ray.audit.networks import NEAR, Network, UniformNetworks, controls, is_near, mutants
from irnas_ray.audit.record import audit_of
from irnas_ray.audit.report import write_audit
from irnas_ray.audit.tables import arms_table
from irnas_ray.cluster.connection import connect
from irnas_ray.cluster.placement import trial_resources
from irnas_ray.datasets.manifest import Manifest, is_prepared
from irnas_ray.datasets.whole_images import load_images
from irnas_ray.networks.checkpoints import load_network
from irnas_ray.results.folder import StudyFolder
from irnas_ray.results.layout import FinalLayout, StudyLayout
from irnas_ray.results.study_results import read_study
from irnas_ray.settings.audit import AuditConfig
from irnas_ray.settings.study import StudyConfig, Tune, with_values
from irnas_ray.study.candidates import Candidate
from irnas_ray.study.checks import check_search, check_settings
from irnas_ray.study.finals import scores_of
from irnas_ray.study.pace import shortened
from irnas_ray.study.study import prepare_data, run, run_study
from irnas_ray.system.environment import PYTHON, hardware, versions
from irnas_ray.system.exit_status import Incomplete, checking_settings
from irnas_ray.system.files import write_json
from irnas_ray.system.random_streams import stream_seed
from irnas_ray.system.urls import absolute, join

#: Runs are so far apart in ``tune.seed`` that none of their trials shares a seed.
APART = 100_000
#: Settings that an audit cannot have -> why.
REFUSED = {
    "minutes": "runs that are cut short by a clock have unequal budgets; audit.budget shortens all alike",
    "final.minutes": "trainings that are ended by a clock are not equal; give final.steps",
    "tune.storage": "the studies of an audit keep their trials in their own folders",
    "tune.warm_start": "runs begin from nothing, or they would not differ",
    "tune.perturb_every": "random search has no rates to change",
}


@dataclass
class Plan:
    """An audit that is checked: the settings of the searches of each arm, and of the trainings of single networks."""

    searches: dict[str, StudyConfig]
    trained: StudyConfig
    #: What a run of each arm may spend, and in what that is counted.
    budgets: dict[str, float]
    unit: str


def run_audit(config: AuditConfig) -> Path:
    """Run or continue the audit that the settings describe, print its verdict, and return its ``audit.html``.

    Every search is a study in the audit's folder, as are the trainings of all networks together; what has finished is
    not run again. Raises ValueError or OSError with a clear message, before any work where that is possible; Incomplete
    at the end if networks had to be left out; KeyboardInterrupt if it was stopped.
    """
    config.study = config.study or f"audit-{config.search_space}"
    with checking_settings():
        plan = planned(config)
        folder = AuditFolder(config)
        folder.check(config)
    prepared = prepare_data(config)
    with folder.lock():
        folder.check(config)
        folder.create(config)
        return _run(config, plan, folder, prepared)


def planned(config: AuditConfig) -> Plan:
    """The studies of an audit; ValueError naming the setting if one of them cannot run, or if budgets are unequal."""
    _check(config)
    check_settings(config)
    own = StudyConfig(**{field.name: copy.deepcopy(getattr(config, field.name)) for field in fields(StudyConfig)})
    # the test images stay closed until all is trained
    own = with_values(shortened(own, config.audit.budget), {"final.count": 1, "final.scored": "validation"})
    check_search(own)
    random = random_search(own)
    check_settings(random)
    check_search(random)
    unit = unit_of(own)
    searches = {"searched": own, "random": random}
    budgets = {arm: planned_budget(search, unit) for arm, search in searches.items()}
    check_equal_budgets({arm: [budget] for arm, budget in budgets.items()}, unit)
    return Plan(searches, with_values(own, {"domains": {}}), budgets, unit)


def _check(config: AuditConfig) -> None:
    for key, why in REFUSED.items():
        section, _, name = key.rpartition(".")
        if getattr(getattr(config, section) if section else config, name) is not None:
            raise ValueError(f"{key}: {why}")
    if config.tune.points:
        raise ValueError(f"tune.points: {REFUSED['tune.warm_start']}")
    if config.tune.objectives != Tune().objectives:
        raise ValueError(f"tune.objectives: {config.tune.objectives}; an audit judges one, the score")


def _run(config: AuditConfig, plan: Plan, folder: AuditFolder, prepared: Path) -> Path:
    print(f"audit {folder.name!r} in {folder.path}", flush=True)
    size, left_out = config.audit, list[str]()
    data: dict[str, object] = (
        {} if config.data.source and is_prepared(config.data.source) else {"data.output": str(prepared)}
    )
    places = [(arm, run) for arm in plan.searches for run in range(size.runs)]
    for place, (arm, number) in enumerate(places):
        seeds = {"tune.seed": config.tune.seed + APART * place, "final.seed": seed_of(config, place, 0)}
        study = _study(plan.searches[arm], folder, run_name(arm, number), data | seeds)
        _finished(study, run_study, left_out)
        if arm == "random":
            _make_equal(study, mean_spent(plan, folder, config.audit.runs), left_out)
    winners = [winner_of(folder.study(run_name(*place)), f"{place[0]} {place[1] + 1}") for place in places]
    alone, facts = networks_alone(config, plan, winners)
    candidates, judged = trainings(config, folder, places, winners, alone)
    study = _study(plan.trained, folder, TRAINED, data | {"final.count": len(candidates)})
    _finished(study, lambda own: run(own, lambda stage: ([], candidates)), left_out)
    begun = time.perf_counter()
    if size.images == "test":
        _score(config, judged, prepared)
    names = [*(run_name(*place) for place in places), TRAINED]
    seconds = seconds_of(folder, names) + time.perf_counter() - begun
    return _conclude(config, plan, folder, judged, facts, seconds, left_out)


def seed_of(config: AuditConfig, place: int, training: int) -> int:
    """The seed of a training of the network at a place among all that are judged; no two trainings share one."""
    return config.final.seed + place * config.audit.seeds + training


def _study(settings: StudyConfig, folder: AuditFolder, name: str, values: dict[str, object]) -> StudyConfig:
    """The settings of a study of the audit, which goes on where it has begun."""
    own = with_values(settings, values | {"study": name, "results": str(folder.path)})
    if own.cluster.storage is not None:
        own.cluster.storage = join(absolute(own.cluster.storage), folder.name)
    own.resume = StudyFolder(own).config.exists()
    if own.resume:
        # random search may have gone on
        own.tune.trials = max(own.tune.trials, StudyFolder(own).read_settings()["tune"]["trials"])
    return own


def mean_spent(plan: Plan, folder: AuditFolder, runs: int) -> float:
    """Multiply-adds that the searched runs have spent on average."""
    own = plan.searches["searched"]
    trial_cost = trial_multiply_adds(own) if own.search.supernet else 0.0
    return sum(_multiply_adds(folder.study(run_name("searched", run)), trial_cost) for run in range(runs)) / runs


def _multiply_adds(study: StudyLayout, trial_cost: float = 0.0) -> float:
    return cost_of(read_study(study.path).records, trial_cost).multiply_adds


def _make_equal(study: StudyConfig, target: float, left_out: list[str]) -> None:
    """Let a random search that has spent fewer multiply-adds than ``target`` go on with more trials until it has.

    Rungs stop more of its trials than of a search that gets better from trial to trial, and its networks are smaller
    than those of a search that has found that large ones are better.
    """
    folder, before = StudyFolder(study), 0.0
    while before < (spent := _multiply_adds(folder)) < target:
        trials = folder.read_settings()["tune"]["trials"]
        more = math.ceil((target - spent) / (spent / trials))
        print(f"study {study.study!r} goes on: {spent:.4g} of {target:.4g} multiply-adds are spent", flush=True)
        before = spent
        _finished(with_values(study, {"tune.trials": trials + more, "resume": True}), run_study, left_out)


def _finished(study: StudyConfig, work: Callable[[StudyConfig], object], left_out: list[str]) -> None:
    if is_finished(study):
        print(f"study {study.study!r} is finished", flush=True)
        return
    try:
        work(study)
    except Incomplete as error:
        left_out.append(f"{study.study}: {error}")


def networks_alone(
    config: AuditConfig, plan: Plan, winners: list[Network]
) -> tuple[dict[str, list[Network]], dict[str, str]]:
    """Arm -> the networks that nobody has searched for, made to fit what A has found; and what is to be said of them.

    The same every time. Controls and mutants are made from the network of A with the best validation.
    """
    size, found = config.audit, winners[: config.audit.runs]
    own, targets = plan.searches["searched"], [network.multiply_adds for network in found]
    uniform = UniformNetworks(own, config.tune.seed)
    near = uniform.near(targets, size.networks)
    share = sum(is_near(one.multiply_adds, targets[place % len(targets)]) for place, one in enumerate(near))
    facts = {
        "uniform networks": f"{share} of {len(near)} within {NEAR:.0%} of the multiply-adds of a network of A, by "
        f"turns; {uniform.drawn} drawn"
    }
    best = max(found, key=lambda network: network.score)
    arms = {"uniform": near, "controls": controls(best, own)}
    return arms | {"mutants": mutants(best, own, size.mutants, stream_seed(config.tune.seed, "mutants"))}, facts


def trainings(
    config: AuditConfig,
    folder: AuditFolder,
    places: list[tuple[str, int]],
    winners: list[Network],
    alone: dict[str, list[Network]],
) -> tuple[list[Candidate], list[Judged]]:
    """The trainings that are still to do, and all networks with the folders of theirs.

    The first training of what a search has found is the one that its own study ends with.
    """
    candidates: list[Candidate] = []
    judged: list[Judged] = []

    def train(network: Network, arm: str, first: int, finals: list[Path], run: int | None = None) -> None:
        for training in range(first, config.audit.seeds):
            seed = seed_of(config, len(judged), training)
            candidates.append(network.candidate(len(candidates) + 1, seed, arm))
            finals.append(folder.study(TRAINED).final(len(candidates)))
        judged.append(Judged(arm, network, finals, run))

    for (arm, number), network in zip(places, winners, strict=True):
        train(network, arm, 1, [folder.study(run_name(arm, number)).final(1)], number)
    for arm, networks in alone.items():
        for network in networks:
            train(network, arm, 0, [])
    return candidates, judged


def _score(config: AuditConfig, judged: list[Judged], prepared: Path) -> None:
    """Open the test images, once and at the end, and score every training on them that is not scored yet."""
    ids = Manifest.load(prepared).ids("test")[: config.final.images]
    finals = [final for one in judged for final in one.finals if metrics_of(final) is not None]
    waiting = [final for final in finals if not _is_scored(final, ids)]
    if not waiting:
        return
    connect(config.cluster)
    print(f"test images: {len(ids)}, opened now; {len(waiting)} networks are scored on them", flush=True)
    networks = {final: load_network(FinalLayout(final).network)[0] for final in waiting}
    for final, evaluation in scores_of(networks, load_images(prepared, ids), config, trial_resources(config.cluster)):
        write_json(test_scores(final), evaluation.to_dict())


def _is_scored(final: Path, ids: Sequence[str]) -> bool:
    known = evaluation_of(final, "test")
    return known is not None and [score.image_id for score in known.scores] == list(ids)


def _conclude(
    config: AuditConfig,
    plan: Plan,
    folder: AuditFolder,
    judged: list[Judged],
    facts: dict[str, str],
    seconds: float,
    left_out: list[str],
) -> Path:
    own, images = plan.searches["searched"], config.audit.images
    costs = {"searched": trial_multiply_adds(own)} if own.search.supernet else {}
    arms, ids, missing = arms_of(judged, folder, images, costs)
    proxies = proxies_of(judged, arms, folder, own)
    budgets = {arm: [budget] * config.audit.runs for arm, budget in plan.budgets.items()}
    facts = facts_of(config, plan, len(ids)) | facts | ({"left out": ", ".join(missing)} if missing else {})
    audit = audit_of(folder.name, arms, ids, seconds, proxies, facts, budgets=budgets, unit=plan.unit)
    page = write_audit(audit, folder.path)
    print(f"\n{audit.judgement}\n\n{arms_table(audit).markdown()}\n\naudit: {page}", flush=True)
    if missing or left_out:
        left_out += [f"left out, because a training failed: {', '.join(missing)}"] * bool(missing)
        raise Incomplete(f"the audit is finished, but {'; '.join(left_out)}")
    return page


def facts_of(config: AuditConfig, plan: Plan, images: int) -> dict[str, str]:
    """What a reader must know of an audit beside its numbers."""
    own, random, unit = plan.searches["searched"], plan.searches["random"], plan.unit
    spent, beside = (f"{plan.budgets[arm]:.4g} {unit}" for arm in plan.searches)
    opened = "opened once, after the last training" if config.audit.images == "test" else "Train V; no test image"
    level = f", sigma {own.final.sigma:g}" if own.degradation.kind == "gaussian" else ""
    said = versions(PYTHON, "torch", "ray", "optuna")
    return {
        "method": own.search.method,
        "search space": own.search_space,
        "images": f"{images}, {config.audit.images} ({opened})",
        "protocol": f"{config.final.protocol}{level}",
        "budget of a run": f"at most {spent}; random search {beside}, "
        "and more until it has spent as many multiply-adds as A",
        "trials of a run": f"{own.tune.trials} of {steps_of(own)} steps; random search "
        f"{random.tune.trials} of {steps_of(random)}",
        "trainings that judge": f"{own.final.steps} steps, {config.audit.seeds} seeds",
        "seeds": f"tune.seed={config.tune.seed}, final.seed={config.final.seed}",
        "versions": ", ".join(f"{name} {version}" for name, version in said.items()),
        "machine": str(hardware()["gpu"] or hardware()["processor"]),
    }
