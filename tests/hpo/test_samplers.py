"""Samplers: what they propose depends on the study alone, they optimise, and grids are gone through once."""

import itertools
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from irnas_ray.hpo.domains import Conditional, Domains
from irnas_ray.hpo.samplers import (
    MOST_GRID,
    POPULATION,
    SAMPLERS,
    STARTUP,
    check_sampler,
    grid_size,
    make_sampler,
    read_cmaes,
)
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.hpo.storage import open_storage

SMOOTH: Domains = {
    "search.weight_lr": FloatDistribution(-5, 5),
    "search.arch_lr": FloatDistribution(-5, 5),
    "architecture.nodes": IntDistribution(0, 10),
}
CHOICE = CategoricalDistribution(("a", "b", "c"))


def smooth(values: Mapping[str, Any]) -> float:
    """A bowl whose highest value is 0."""
    first, second, third = (values[name] for name in SMOOTH)
    return -((first - 1.5) ** 2) - (second + 2) ** 2 - 0.3 * (third - 7) ** 2


def ask(study: optuna.Study, name: str, seed: int, space: SearchSpace) -> tuple[optuna.Trial, dict[str, Any]]:
    """A configuration as a study asks for it: with a sampler of its own."""
    study.sampler = make_sampler(name, seed, len(study.trials), space, len(study.directions))
    trial = study.ask()
    return trial, space.propose(trial)


def run(study: optuna.Study, name: str, seed: int, count: int) -> list[dict[str, Any]]:
    """Ask for configurations two at a time, as two slots do, and tell them."""
    proposed = []
    for _ in range(count // 2):
        pair = [ask(study, name, seed, SearchSpace(SMOOTH)) for _ in range(2)]
        for trial, values in pair:
            study.tell(trial, [smooth(values)] * len(study.directions))
            proposed.append(values)
    return proposed


def reopen(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=open_storage(f"journal:{folder / 'log'}", folder))


def create(folder: Path) -> optuna.Study:
    folder.mkdir(exist_ok=True)
    storage = open_storage(f"journal:{folder / 'log'}", folder)
    return optuna.create_study(study_name="s", storage=storage, direction="maximize")


@pytest.mark.parametrize("name", [*SAMPLERS[:-1], "grid"])
def test_a_study_that_is_opened_again_proposes_what_it_would_have(tmp_path: Path, name: str) -> None:
    """Over both the random beginning and what the models, generations and states of CMA-ES and NSGA-II propose."""
    count = {"gp": 8, "cmaes": 22, "nsga2": 3 * POPULATION}.get(name, 14)
    grid = {"architecture.nodes": IntDistribution(0, 9), "architecture.width": CHOICE}
    space = SearchSpace(SMOOTH if name != "grid" else grid)
    proposed: dict[str, list[dict[str, Any]]] = {"calm": [], "resumed": []}
    create(tmp_path / "resumed")
    calm = optuna.create_study(direction="maximize")
    for number in range(count):
        # the one study lives on, the other is opened before each configuration
        for place, study in (("calm", calm), ("resumed", reopen(tmp_path / "resumed"))):
            trial, values = ask(study, name, 5, space)
            study.tell(trial, float(smooth({**dict.fromkeys(SMOOTH, 0), **values}) - number % 3))
            proposed[place].append(values)
    assert proposed["calm"] == proposed["resumed"]
    assert len({str(values) for values in proposed["calm"]}) > count - 4  # not the same again and again


@pytest.mark.parametrize("name", SAMPLERS[:-1])
def test_seeds_decide(name: str) -> None:
    first, same, other = (run(optuna.create_study(direction="maximize"), name, seed, 4) for seed in (1, 1, 2))
    assert first == same != other


def regret(name: str, count: int, seeds: int) -> float:
    """How far the best of some configurations is from the optimum, on the average over seeds."""
    total = 0.0
    for seed in range(seeds):
        study = optuna.create_study(direction="maximize")
        run(study, name, seed, count)
        total -= study.best_value
    return total / seeds


def test_optimising_samplers_are_better_than_chance() -> None:
    by_chance = regret("random", 40, 12)
    assert by_chance > 1
    # a Gaussian process needs fewer configurations and more time for each
    for name, (count, seeds) in {"tpe": (40, 12), "cmaes": (40, 12), "nsga2": (40, 12), "gp": (20, 1)}.items():
        assert regret(name, count, seeds) < 0.75 * by_chance, name


@pytest.mark.parametrize("name", ["tpe", "gp", "nsga2", "random"])
def test_several_objectives(name: str) -> None:
    study = optuna.create_study(directions=["maximize", "maximize"])
    assert len(run(study, name, 0, STARTUP + 3)) == STARTUP + 3 - (STARTUP + 3) % 2


GRID = SearchSpace(
    {
        "a": IntDistribution(2, 6, step=2),
        "b": CategoricalDistribution(("x", "y")),
        "c": Conditional(FloatDistribution(0.1, 0.3, step=0.1), {"b": ("y",)}),
        "d": Conditional(CategoricalDistribution((True, False)), {"e": (1,)}),
    },
    {"c": 0.0, "e": 1, "d": False},
)


def test_a_grid_is_gone_through_once() -> None:
    """Also where domains are conditional; a failed configuration comes again, a stopped one does not."""
    expected = [
        {"a": a, "b": b} | c | {"d": d}
        for a, b, d in itertools.product((2, 4, 6), "xy", (True, False))
        for c in ([{}] if b == "x" else [{"c": 0.1}, {"c": 0.2}, {"c": 0.3}])
    ]
    assert grid_size(GRID) == len(expected) == 24
    study = optuna.create_study()
    seen = []
    for number in range(len(expected)):
        trial, values = ask(study, "grid", 3, GRID)
        seen.append(values)
        study.tell(trial, 0.0) if number % 2 else study.tell(trial, state=TrialState.PRUNED)
    assert sorted(map(str, seen)) == sorted(map(str, expected)) and seen != expected  # shuffled
    failing = optuna.create_study()
    trial, values = ask(failing, "grid", 3, GRID)
    running, other = ask(failing, "grid", 3, GRID)
    failing.tell(trial, state=TrialState.FAIL)
    assert other != values and ask(failing, "grid", 3, GRID)[1] == values == seen[0]
    failing.tell(running, 0.0)


def test_a_point_that_was_given_is_not_met_again() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"a": 6, "b": "y"})
    seen = [ask(study, "grid", 0, GRID)[1] for _ in range(24)]
    assert seen[0]["a"] == 6 and seen[0]["b"] == "y" and "c" in seen[0]
    assert len({str(values) for values in seen}) == 24


def test_a_grid_without_domains_is_one_configuration() -> None:
    assert grid_size(SearchSpace({})) == 1
    trial, values = ask(optuna.create_study(), "grid", 0, SearchSpace({}))
    assert values == {} and trial.params == {}


CONTINUOUS = FloatDistribution(0, 1)
REFUSED: list[tuple[str, Domains, int, str]] = [
    ("tpee", SMOOTH, 1, "tune.sampler: unknown 'tpee'; possible: tpe, gp, cmaes, nsga2, random, grid"),
    ("grid", {"a": CHOICE, "b": CONTINUOUS}, 1, "domains.b: .*is continuous.*give it a step"),
    ("grid", {f"x{index}": IntDistribution(0, 9) for index in range(6)}, 1, f"more than {MOST_GRID} configurations"),
    ("tpe", {}, 1, "nothing is tuned; .*tune.sampler=grid"),
    ("cmaes", {"a": CHOICE, "b": IntDistribution(3, 3)}, 1, "all domains are choices or single values"),
    ("cmaes", {"a": CONTINUOUS, "b": Conditional(CONTINUOUS, {"e": (1,)})}, 1, "domains.b is conditional"),
    ("cmaes", {"a": CONTINUOUS}, 2, "cmaes has one objective"),
]


@pytest.mark.parametrize(("name", "domains", "objectives", "message"), REFUSED)
def test_what_a_sampler_cannot_do_is_refused(name: str, domains: Domains, objectives: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_sampler(name, 0, 0, SearchSpace(domains, GRID.fixed), objectives)


def test_what_a_sampler_can_do_is_not_refused() -> None:
    for name in SAMPLERS[:-1]:
        check_sampler(name, SearchSpace({"a": CHOICE, "b": CONTINUOUS}))
    for name in ("tpe", "gp", "nsga2", "random"):
        check_sampler(name, SearchSpace({"a": CHOICE, "b": Conditional(CONTINUOUS, {"a": ("b",)})}), 3)


class Code:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('code of others ran')",)


def test_the_state_of_cmaes_in_a_storage_of_others_runs_no_code() -> None:
    """Optuna unpickles it."""
    space = {"a": FloatDistribution(0, 1), "b": FloatDistribution(0, 1)}
    study = optuna.create_study(sampler=make_sampler("cmaes", 0, 0, SearchSpace(space)))
    for _ in range(10):
        trial = study.ask(space)
        study.tell(trial, sum(trial.params.values()))
    attributes = [trial.system_attrs for trial in study.get_trials() if "cma:optimizer:0" in trial.system_attrs]
    state = bytes.fromhex("".join(attributes[-1][f"cma:optimizer:{part}"] for part in range(2)))
    assert read_cmaes(state).dim == 2
    trial = study.ask(space)
    trial.storage.set_trial_system_attr(trial._trial_id, "cma:optimizer:0", pickle.dumps(Code()).hex())
    study.tell(trial, 0.0)
    study.sampler = make_sampler("cmaes", 0, 11, SearchSpace(space))
    with pytest.raises(pickle.UnpicklingError, match="tune.sampler=cmaes in the study's storage names builtins.exec"):
        study.ask(space)


#: Proposes from choices that are lists, keeps them in a database and reads them again.
LISTS = """
import optuna
from irnas_ray.cli.distributions import make_domains
from irnas_ray.hpo.samplers import make_sampler
from irnas_ray.hpo.search_space import SearchSpace
from irnas_ray.settings.study import StudyConfig

optuna.logging.set_verbosity(optuna.logging.ERROR)
lists = {"architecture.multipliers": [[1], [1, 2]]}
one = {"architecture.layers": {"choices": [2, 3], "when": {"architecture.multipliers": [[1]]}}}
space = SearchSpace.of(StudyConfig(domains=make_domains(lists | one)))
space.check()
for number in range(8):
    sampler = make_sampler("SAMPLER", 0, number, space)
    study = optuna.create_study(storage="sqlite:///lists.db", study_name="s", load_if_exists=True, sampler=sampler)
    trial = study.ask()
    values = space.propose(trial)
    study.tell(trial, len(values["architecture.multipliers"]))
    assert ("architecture.layers" in values) == (values["architecture.multipliers"] == [1])
assert [1] in [trial.params["architecture.multipliers"] for trial in study.trials]
"""


@pytest.mark.parametrize("name", ["tpe", "gp", "random", "grid"])
def test_lists_are_proposed_without_warnings(name: str, tmp_path: Path) -> None:
    """In a process of its own, for pytest decides about warnings itself."""
    command = [sys.executable, "-c", LISTS.replace("SAMPLER", name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Choices for" not in done.stderr, done.stderr


@pytest.mark.filterwarnings("ignore:Choices for a categorical")
def test_lists_are_not_crossed() -> None:
    space = SearchSpace({"architecture.multipliers": CategoricalDistribution(([1], [1, 2]))})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"nsga2 cannot cross choices that are lists, as .*domains.architecture.mult"):
        check_sampler("nsga2", space)
