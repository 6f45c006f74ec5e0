"""A population: which trials copy which, with what rates they go on, and that everything else stays a trial's own."""

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from searching_cases import SETTINGS, make_batches, make_net, validate
from study_cases import TINY, command, environment, search, wait_for

from irnas_ray.hpo.domains import Conditional
from irnas_ray.networks.checkpoints import load_state, save_state
from irnas_ray.search.bilevel import BilevelSearch
from irnas_ray.settings.study import StudyConfig, with_values
from irnas_ray.study.checks import check_search
from irnas_ray.tune.perturbation import FACTORS, RATES, continued, explored, kept_checkpoints, lineage, rate_of

WEIGHT_LR, ARCH_LR = RATES
LOG = FloatDistribution(1e-3, 1e-1, log=True)


def make_config(domains: dict[str, Any] | None = None, **values: Any) -> StudyConfig:
    config = with_values(StudyConfig(), {"tune.perturb_every": 5, "search.epochs": 20, "search.warmup_epochs": 2})
    config.domains = {WEIGHT_LR: LOG} if domains is None else domains
    return with_values(config, {key.replace("__", "."): value for key, value in values.items()})


def test_rates_are_multiplied_or_drawn_anew_within_their_domains() -> None:
    domains = {WEIGHT_LR: LOG, ARCH_LR: None}
    found = [explored({WEIGHT_LR: 0.02, ARCH_LR: 0.01}, domains, random.Random(seed)) for seed in range(400)]
    multiplied = [rates for rates in found if rates[WEIGHT_LR] in [0.02 * factor for factor in FACTORS]]
    assert 250 < len(multiplied) < 350  # three of four
    assert {rates[ARCH_LR] for rates in found} == {0.01 * factor for factor in FACTORS}
    drawn = [rates[WEIGHT_LR] for rates in found if rates not in multiplied]
    assert all(1e-3 <= rate <= 1e-1 for rate in drawn)
    assert 0.3 < sum(rate < 0.01 for rate in drawn) / len(drawn) < 0.7  # the middle of a logarithmic domain
    edge = [explored({WEIGHT_LR: 0.099}, {WEIGHT_LR: LOG}, random.Random(seed))[WEIGHT_LR] for seed in range(40)]
    assert max(edge) == 0.1 and 0.099 * 0.8 in edge


def test_rates_among_values_move_to_a_neighbour() -> None:
    choice = CategoricalDistribution((0.1, 0.001, 0.01, 1.0))
    found = [explored({WEIGHT_LR: 0.01}, {WEIGHT_LR: choice}, random.Random(seed))[WEIGHT_LR] for seed in range(400)]
    assert set(found) == {0.001, 0.01, 0.1, 1.0}
    assert sum(rate in (0.001, 0.1) for rate in found) > 320
    end = [explored({WEIGHT_LR: 1.0}, {WEIGHT_LR: choice}, random.Random(seed))[WEIGHT_LR] for seed in range(40)]
    assert {0.1, 1.0} <= set(end)


def test_a_copy_takes_weights_and_optimizers_and_keeps_its_own_images(tmp_path: Path) -> None:
    """It is where the copied trial was in the data, but in its own order; a real resume is still exact."""
    best = BilevelSearch(make_net(0), make_batches(0), make_batches(1), validate, **SETTINGS)
    for _ in range(3):
        best.run_epoch()
    save_state(best.state_dict() | {"seed": 0, "lineage": "[]"}, tmp_path / "state.pt")
    state = load_state(tmp_path / "state.pt")
    own_w, own_a = make_batches(2), make_batches(3)
    taken = continued(state, 1, own_w, own_a)
    copy = BilevelSearch(make_net(5), own_w, own_a, validate, **SETTINGS)
    copy.load_state_dict(taken)
    assert all(torch.equal(a, b) for a, b in zip(best.net.parameters(), copy.net.parameters(), strict=True))
    theirs, mine = (search.weight_optimizer.state_dict()["state"] for search in (best, copy))
    assert all(torch.equal(theirs[key]["momentum_buffer"], mine[key]["momentum_buffer"]) for key in theirs)
    assert copy.epoch == 3 and copy.result().genotype == best.result().genotype
    there, here = best.train_w.state_dict(), copy.train_w.state_dict()
    assert there["seen"] == here["seen"] == 6
    assert there["inner"]["source"]["drawn"] == here["inner"]["source"]["drawn"] == 12
    expected = make_batches(2).source
    for _ in range(7):
        patches = next(expected)
    assert torch.equal(next(own_w.source)[0], patches[0])
    fresh = make_batches(2)
    assert not torch.equal(own_w.geometry.get_state(), fresh.geometry.get_state())
    assert not torch.equal(own_w.noise.get_state(), fresh.noise.get_state())
    assert continued(state, 0, make_batches(0), make_batches(1)) is state


def test_a_copy_that_is_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    best = BilevelSearch(make_net(0), make_batches(0), make_batches(1), validate, **SETTINGS)
    best.run_epoch()

    def copy_of(state: dict[str, Any]) -> BilevelSearch:
        own_w, own_a = make_batches(2), make_batches(3)
        search = BilevelSearch(make_net(5), own_w, own_a, validate, **(SETTINGS | {"weight_lr": 0.04}))
        search.load_state_dict(continued(state, 1, own_w, own_a))
        return search

    first = copy_of(best.state_dict() | {"seed": 0})
    first.run_epoch()
    save_state(first.state_dict() | {"seed": 1}, tmp_path / "state.pt")
    first.run_epoch()
    second = copy_of(load_state(tmp_path / "state.pt"))
    second.run_epoch()
    assert all(torch.equal(a, b) for a, b in zip(first.net.parameters(), second.net.parameters(), strict=True))


def test_the_lineage_says_which_rates_held_when() -> None:
    first = lineage(None, 3, 0.02, 0.001)
    assert first == [{"epoch": 0, "seed": 3, "weight_lr": 0.02, "arch_lr": 0.001}]
    state = {"epoch": 4, "seed": 3, "lineage": json.dumps(first)}
    assert lineage(state, 3, 0.02, 0.001) == first
    copied = lineage(state, 5, 0.016, 0.001)
    assert copied == [*first, {"epoch": 4, "seed": 5, "weight_lr": 0.016, "arch_lr": 0.001}]
    # a study that was begun with a release that knew no populations
    assert lineage({"epoch": 4}, 3, 0.02, 0.001) == [{"epoch": 4, "seed": 3, "weight_lr": 0.02, "arch_lr": 0.001}]


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"tune__perturb_every": 0}, {}, "tune.perturb_every: 0; from 1 to below search.epochs=20"),
    ({"tune__perturb_every": 20}, {}, "tune.perturb_every: 20; from 1 to below"),
    ({"tune__objectives": ["score", "parameters"]}, {}, "tune.objectives: .*has the score only"),
    ({"cluster__max_concurrent": 3}, {}, "cluster.max_concurrent: 3; the 16 trials"),
    ({"tune__trials": 1}, {}, "tune.trials: 1; a population .* has at least 2"),
    ({"tune__replicates": 2}, {}, "tune.replicates: 2; the trials of a population"),
    ({}, {"architecture.width": IntDistribution(2, 4)}, "domains.architecture.width: trials of a population"),
    ({}, {"search.steps_per_epoch": IntDistribution(2, 4)}, "domains.search.steps_per_epoch: .*the same in all"),
    ({}, {ARCH_LR: Conditional(LOG, {"search.batch": (12,)})}, "domains.search.arch_lr: .*cannot be conditional"),
    ({"search__arch_lr": 0.0}, {}, "search.arch_lr: 0.0; more than 0"),
]


@pytest.mark.parametrize(("values", "domains", "message"), REFUSED)
def test_what_a_population_cannot_have_is_named(values: dict[str, Any], domains: dict[str, Any], message: str) -> None:
    config = make_config({WEIGHT_LR: LOG} | domains, **values)
    with pytest.raises(ValueError, match=message):
        check_search(config)


def test_what_a_population_can_have_passes() -> None:
    check_search(make_config({"search.ssim_weight": FloatDistribution(0.1, 1), WEIGHT_LR: LOG}))
    check_search(
        make_config({"architecture.width": IntDistribution(2, 4)}, tune__perturb_every=None, tune__replicates=2)
    )
    short = make_config({WEIGHT_LR: LOG}, search__arch_lr=None)
    check_search(short)
    assert rate_of(short, ARCH_LR) == short.search.arch_rate() == 6 / short.search.arch_steps()
    assert kept_checkpoints(make_config()) == 7
    assert kept_checkpoints(make_config(search__validate_every=2)) == 5
    assert kept_checkpoints(make_config(tune__perturb_every=None)) == 2


EPOCHS = 5
#: A study of two trials of which one is the better; they take turns, so that no start of a process decides who copies.
POPULATION = [
    "study=p",
    f"search.epochs={EPOCHS}",
    "search.steps_per_epoch=12",
    "search.validate_every=1",
    "search.proxy_steps=0",
    "final.count=1",
    "tune.trials=2",
    "tune.perturb_every=2",
    "cluster.cpus_per_trial=2",
    "domains.search.weight_lr={_target_: optuna.distributions.FloatDistribution, low: 1e-5, high: 0.1, log: true}",
    "tune.points=[{search.weight_lr: 1e-5}, {search.weight_lr: 0.025}]",
]


def copies(folder: Path) -> int:
    """How often a trial went on from the other one, each time with its rates changed, its seed and its loss its own."""
    trials = json.loads((folder / "summary.json").read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE", "COMPLETE"]
    assert {trial["config"]["seed"] for trial in trials} == {0, 1}
    assert len({trial["config"]["search.ssim_weight"] for trial in trials}) == 2
    copied = 0
    for trial in trials:
        history = trial["lineage"]
        last = {"weight_lr": trial["config"]["search.weight_lr"], "arch_lr": trial["config"]["search.arch_lr"]}
        assert {**history[-1], **last, "seed": trial["config"]["seed"]} == history[-1]
        assert history[0]["epoch"] == 0 and all(step["epoch"] % 2 == 0 and step["epoch"] < EPOCHS for step in history)
        for before, after in zip(history, history[1:], strict=False):
            copied += 1
            assert before["seed"] != after["seed"] and before["epoch"] < after["epoch"]
            factors = [after[rate] / before[rate] for rate in ("weight_lr", "arch_lr")]
            assert any(factors[1] == pytest.approx(factor) for factor in FACTORS)
            assert factors[0] != 1
    return copied


@pytest.mark.whole
def test_a_population_whose_driver_is_killed_after_a_copy_goes_on(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that nothing disturbed: with the same two trials, which copy each other at the same epochs."""
    own = {**environment(), "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    with open(tmp_path / "log", "w") as log:
        arguments = command("search", *TINY, *POPULATION, f"results={tmp_path}")
        run = subprocess.Popen(arguments, cwd=tmp_path, env=own, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: list(tmp_path.glob("p/trials/round-1/*/copied_*/state.pt")), run)
    finally:
        run.kill()
        run.wait()
    search(tmp_path, *POPULATION, "resume=true")
    # Tune's record may be older than the copy, and the better trial have ended when the other goes on
    copies(tmp_path / "p")
    told = capsys.readouterr().out
    assert "begins anew" not in told and "does not exist" not in told
    assert len(list(tmp_path.glob("p/trials/round-1*/*/result.json"))) == 2, told
