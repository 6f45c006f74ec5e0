"""Methods without a supernet: whole configurations, none twice, that depend on the study alone and get better."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import optuna
import pytest
from ledger_cases import COMPLETE, make_ledger, report
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from scipy.stats import chisquare

from irnas_ray.genotypes.encoding import PREFIX
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.genotypes.macro import Macro
from irnas_ray.hpo.domains import Conditional
from irnas_ray.hpo.methods import METHODS
from irnas_ray.hpo.objectives import Limits
from irnas_ray.hpo.plan import StudyPlan
from irnas_ray.hpo.records import records_of
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.starting_points import starting_points
from irnas_ray.hpo.storage import open_storage
from irnas_ray.results.folder import StudyFolder
from irnas_ray.results.layout import settings_in
from irnas_ray.settings.study import GENES as GENES_OF_SETTINGS
from irnas_ray.settings.study import Architecture, Search, StudyConfig, Tune, settings_of, short_values, with_values

SMALL = Architecture(layers=2, nodes=2, operators=["conv", "sep", "skip", "none"], multipliers=[1, 2])
#: 972 genotypes, and none but them.
GENES = SearchSpace({}, {}, SMALL)
#: Genes whose names depend on three domains, one of which is conditional.
DEPENDING = SearchSpace(
    {
        "architecture.nodes": IntDistribution(1, 3),
        "architecture.tie_cells": CategoricalDistribution((True, False)),
        "architecture.layers": Conditional(IntDistribution(1, 3), {"architecture.tie_cells": (False,)}),
        "final.width": CategoricalDistribution((4, 8)),
        "final.lr": FloatDistribution(1e-3, 1e-1, log=True),
    },
    {"architecture.layers": 2, "architecture.tie_cells": True},
    SMALL,
)


def plan_of(name: str, space: SearchSpace, seed: int = 0, storage: Any = None, population: int = 6) -> StudyPlan:
    search = Search(method=name, population=population)
    return StudyPlan("s", storage or optuna.storages.InMemoryStorage(), space, seed=seed, search=search)


def ask(study: optuna.Study, plan: StudyPlan) -> tuple[optuna.Trial, dict[str, Any]]:
    study.sampler = plan.make_sampler(len(study.trials))
    trial = study.ask()
    return trial, plan.space.propose(trial)


def worth(space: SearchSpace, values: dict[str, Any]) -> float:
    """Highest, 0, where every operator is sep and levels alternate; of small spaces one genotype has it."""
    genotype = space.encoding(values).decode({key: value for key, value in values.items() if key.startswith(PREFIX)})
    edges = [edge for cell in genotype.cells for node in cell for edge in node]
    wrong = sum(edge.operator != "sep" for edge in edges) / len(edges) + sum(edge.source for edge in edges) / 9
    return -wrong - sum(level != (layer + 1) % 2 for layer, level in enumerate(genotype.levels))


def run(name: str, space: SearchSpace, count: int, seed: int = 0) -> tuple[optuna.Study, list[dict[str, Any]]]:
    """Configurations asked for two at a time, as two places do, and told."""
    study = optuna.create_study(direction="maximize")
    plan, proposed = plan_of(name, space, seed), []
    for _ in range(count // 2):
        for trial, values in [ask(study, plan) for _ in range(2)]:
            study.tell(trial, worth(space, values))
            proposed.append(values)
    return study, proposed


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("error:The param value")
def test_every_proposal_is_a_configuration_of_the_space(name: str) -> None:
    """Through the uniform beginning, and what is proposed from it; genes follow the domains that they depend on."""
    _, proposed = run(name, DEPENDING, 24)
    for values in proposed:
        genes = {key: value for key, value in values.items() if key.startswith(PREFIX)}
        assert DEPENDING.settle(values) == {key: value for key, value in values.items() if key not in genes}
        genotype = DEPENDING.encoding(values).decode(genes)
        assert genotype.nodes == values["architecture.nodes"]
        assert genotype.layers == values.get("architecture.layers", 2)
    assert len({values["architecture.nodes"] for values in proposed}) > 1
    assert len({values["architecture.tie_cells"] for values in proposed}) > 1


@pytest.mark.parametrize("name", METHODS)
def test_a_study_that_is_opened_again_proposes_what_it_would_have(tmp_path: Path, name: str) -> None:
    def opened() -> Any:
        return open_storage(f"journal:{tmp_path / 'log'}", tmp_path)

    optuna.create_study(study_name="s", storage=opened(), direction="maximize")
    calm, proposed = optuna.create_study(direction="maximize"), []
    for _ in range(12):
        resumed = optuna.load_study(study_name="s", storage=opened())
        (trial, values), (other, again) = (ask(study, plan_of(name, DEPENDING)) for study in (calm, resumed))
        assert values == again
        proposed.append(values)
        calm.tell(trial, worth(DEPENDING, values))
        resumed.tell(other, worth(DEPENDING, values))
    assert len({str(values) for values in proposed}) > 9


def test_random_is_uniform_over_genotypes_and_meets_none_twice() -> None:
    space = SearchSpace({}, {}, Architecture(layers=4, nodes=1, operators=["conv", "skip"], multipliers=[1, 2, 4]))
    encoding = space.encoding({})
    study, proposed = run("random", space, 2 * (encoding.size // 2))
    assert len({str(values) for values in proposed}) == len(proposed) == 2 * (encoding.size // 2)
    # the first half of the last layer's levels: paths count, not moves
    counts = [0, 0, 0]
    for seed in range(100):
        values = run("random", space, 2, seed)[1][0]
        counts[encoding.decode(values).levels[-1]] += 1
    expected = [sum(one.levels[-1] == level for one in encoding.enumerate()) / encoding.size for level in range(3)]
    assert chisquare(counts, [100 * share for share in expected]).pvalue > 1e-3
    # the space is used up, so that one comes again under another seed
    study.sampler = plan_of("random", space).make_sampler(len(study.trials))
    assert encoding.decode(plan_of("random", space).space.propose(study.ask()))


#: The predictor is slow with annotations checked, and needs fewer.
COUNTS = {"predictor": 20}


@pytest.mark.parametrize(("name", "seeds"), [("evolution", 5), ("predictor", 2), ("tpe", 5)])
def test_methods_that_learn_are_better_than_chance(name: str, seeds: int) -> None:
    def regret(name: str, seeds: int) -> float:
        return -sum(run(name, GENES, COUNTS.get(name, 30), seed)[0].best_value for seed in range(seeds)) / seeds

    by_chance = regret("random", 5)
    assert by_chance > 0.3 and regret(name, seeds) < 0.7 * by_chance


def test_the_predictor_proposes_nothing_beyond_the_limits_once_it_has_begun() -> None:
    """And among what is possible it sees what networks cost."""

    def known(values: Mapping[str, Any]) -> dict[str, float]:
        return {"parameters": 100.0 * values["final.width"] * DEPENDING.encoding(values).layers}

    limits = Limits({"parameters": 1600.0}, known, exact=True)
    plan = replace(plan_of("predictor", DEPENDING), limits=limits)
    study = optuna.create_study(direction="maximize")
    for number in range(12):
        trial, values = ask(study, plan)
        cost = known(values)["parameters"]
        assert number < 6 or cost <= 1600
        study.tell(trial, 20 + cost / 1000)
    assert sum(known(trial.params)["parameters"] == 1600 for trial in study.trials[6:]) >= 3


def test_children_differ_in_one_edit_from_the_best_of_the_youngest() -> None:
    """Those that are too old, failed or were refused have no children, however good they are."""
    study, proposed = run("evolution", GENES, 8)
    encoding, plan = GENES.encoding({}), plan_of("evolution", GENES, population=3)
    young = [encoding.decode(values) for values in proposed[-3:]]
    failed, _ = ask(study, plan)
    study.tell(failed, state=TrialState.FAIL)
    refused, _ = ask(study, plan)
    refused.set_user_attr("beyond the limits", {"parameters": 9})
    study.tell(refused, state=TrialState.PRUNED)
    for _ in range(6):
        trial, values = ask(study, plan)
        child = encoding.decode(values)
        assert min(encoding.distance(child, parent) for parent in young) == 1
        study.tell(trial, state=TrialState.FAIL)


def test_a_stopped_parent_is_worse_than_one_that_came_further() -> None:
    """Its score is better because it was given earlier, when others had none better."""
    study, plan = optuna.create_study(direction="maximize"), plan_of("evolution", GENES, population=2)
    plan.search.tournament = 2
    stopped, _ = ask(study, plan)
    stopped.report(99.0, 1)
    study.tell(stopped, state=TrialState.PRUNED)
    further, values = ask(study, plan)
    further.report(1.0, 1)
    further.report(1.5, 3)
    study.tell(further, state=TrialState.PRUNED)
    encoding = GENES.encoding({})
    child = encoding.decode(ask(study, plan)[1])
    assert encoding.distance(child, encoding.decode(values)) == 1


def test_a_ledger_keeps_genes_and_records_show_a_genotype() -> None:
    ledger = make_ledger(None, space=DEPENDING, search=Search(method="random", population=2))
    config = ledger.suggest("t0")
    assert config is not None and any(key.startswith(PREFIX) for key in config)
    genes = {key: value for key, value in config.items() if key.startswith(PREFIX)}
    genotype = DEPENDING.encoding(config).decode(genes)
    ledger.end("t0", report(ledger, "t0", 20.0, genotype=genotype.to_json(indent=None), steps=8, margins="[]"))
    (record,) = records_of(ledger.study.trials[0])
    assert record["config"] == {key: value for key, value in config.items() if key not in genes}
    assert record["genotype"]["cells"] and record["steps"] == 8 and record["margins"] == []
    assert ledger.study.trials[0].state == COMPLETE


def test_a_search_may_begin_with_a_genotype(tmp_path: Path) -> None:
    config = with_values(StudyConfig(architecture=SMALL), {"search.method": "tpe"})
    space = SearchSpace.of(config)
    encoding = space.encoding({})
    genotype = encoding.sample(Random(0))
    genotype.save(tmp_path / "known.json")
    points, notes = starting_points(Tune(warm_start=str(tmp_path / "known.json")), space, lambda folder: {})
    assert points == [encoding.encode(genotype)] and notes[-1] == f"begins with {tmp_path / 'known.json'} itself"
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial(points[0])
    assert encoding.decode(ask(study, plan_of("tpe", space))[1]) == genotype
    points, notes = starting_points(Tune(warm_start="irnas_denoise"), space, lambda folder: {})
    assert points == [] and "irnas_denoise itself is left out: genotype: 4 layers" in notes[-1]
    # so do the large choices that the genotype says
    macro = Macro(unshuffle=4, lower_level=True)
    Genotype(genotype.cells, genotype.levels, genotype.multipliers, macro).save(tmp_path / "large.json")
    tuned: dict[str, Any] = {
        "architecture.unshuffle": CategoricalDistribution((1, 4)),
        "architecture.lower_level": CategoricalDistribution((False, True)),
    }
    wider = SearchSpace.of(replace(config, domains=tuned))
    points, notes = starting_points(Tune(warm_start=str(tmp_path / "large.json")), wider, lambda folder: {})
    chosen = {"architecture.unshuffle": 4, "architecture.lower_level": True}
    assert points == [chosen | encoding.encode(genotype)] and notes[-1].endswith("large.json itself")
    # given domains change which genes there are
    study.enqueue_trial({"architecture.nodes": 3, "architecture.tie_cells": False, "architecture.layers": 3})
    trial, values = ask(study, plan_of("evolution", DEPENDING))
    assert DEPENDING.encoding(values).cells == 3 and trial.params["architecture.nodes"] == 3


def test_settings_know_genes_by_their_names() -> None:
    assert GENES_OF_SETTINGS == PREFIX
    config = with_values(StudyConfig(architecture=SMALL), {"architecture.nodes": 1})
    values = {"architecture.nodes": 2, f"{PREFIX}cell0.node0.first": "conv", "seed": 3}
    assert settings_of(config, values) == (
        with_values(config, {"architecture.nodes": 2}),
        {f"{PREFIX}cell0.node0.first": "conv"},
    )
    assert short_values(values) == "nodes=2, seed=3"


def test_a_search_may_begin_with_what_an_earlier_one_found(tmp_path: Path) -> None:
    """Genotypes and values of its best configurations, as far as they lie in the space."""
    config = with_values(StudyConfig(architecture=SMALL, study="a", results=str(tmp_path)), {"search.method": "random"})
    config.domains = {"architecture.nodes": IntDistribution(1, 2)}
    folder = StudyFolder(config)
    folder.create(config)
    study = optuna.create_study(study_name="a", storage=open_storage(None, folder.path), direction="maximize")
    tried = []
    for score in (1.0, 3.0, 2.0):
        trial, values = ask(study, plan_of("random", SearchSpace.of(config)))
        study.tell(trial, score)
        tried.append(values)
    tuned = Tune(warm_start=str(folder.path), warm_start_count=2)
    points, notes = starting_points(tuned, SearchSpace.of(config), settings_in)
    assert points == [tried[1], tried[2]] and notes == [f"begins with 2 configurations of {folder.path}"]
    # where only values are tuned, genes are not; where other operators are, genotypes with others are left out
    supernets = SearchSpace.of(with_values(config, {"search.method": "darts"}))
    points, notes = starting_points(tuned, supernets, settings_in)
    nodes = dict.fromkeys(tried[one]["architecture.nodes"] for one in (1, 2))
    assert points == [{"architecture.nodes": count} for count in nodes]
    assert "not taken over: not tuned here" in notes[0]
    other = SearchSpace.of(with_values(config, {"architecture.operators": ["dil", "def"]}))
    points, notes = starting_points(tuned, other, settings_in)
    assert points == [{"architecture.nodes": count} for count in nodes]
    assert notes[0].startswith(f"the genotype of configuration 1 of {folder.path} is left out: genotype.cell0.node0")
