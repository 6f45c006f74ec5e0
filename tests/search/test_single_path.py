"""The search by single paths: what trains, how its evolution chooses, and a resume that is exact."""

import statistics
from random import Random
from typing import Any

import pytest
import torch
from searching_cases import SETTINGS, facts, make_batches, make_net, validate

from irnas_ray.genotypes.encoding import Encoding
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.checkpoints import load_state, save_state
from irnas_ray.search.bilevel import BilevelSearch, run_search
from irnas_ray.search.decodings import Decoding
from irnas_ray.search.paths import PathNetwork
from irnas_ray.search.single_path import WATCHED, SinglePathSearch, evolved

ENCODING = Encoding(("conv", "sep", "dil", "skip"), nodes=3, layers=2, multipliers=(1,))
HIDDEN = ENCODING.encode(ENCODING.sample(Random(99)))


def make_search(seed: int = 0, batches: Any = make_batches, **settings: Any) -> SinglePathSearch:
    net = make_net(seed, multipliers=(1,), nodes=2)
    own = SETTINGS | {"path_evaluations": 12} | settings
    return SinglePathSearch(net, batches(0), batches(1), validate, **own)


def likeness(genotype: Genotype) -> dict[str, float]:
    """How many genes are those of a genotype that nothing knows."""
    return {"psnr": sum(HIDDEN[name] == value for name, value in ENCODING.encode(genotype).items()), "ssim": 0.5}


def test_evolution_finds_better_paths_than_chance_with_as_many_evaluations():
    found, drawn = [], []
    for seed in range(8):
        ranked = evolved(ENCODING, likeness, 80, 3, Random(seed))
        assert len({path for path, _ in ranked}) == len(ranked) == 80
        assert all(scores == likeness(path) for path, scores in ranked)
        values = [scores["psnr"] for _, scores in ranked]
        assert values == sorted(values, reverse=True)
        found.append(values[0])
        drawn.append(max(likeness(path)["psnr"] for path in ENCODING.sample_distinct(Random(seed), 80)[0]))
    assert statistics.mean(found) > statistics.mean(drawn) + 1 and min(found) >= statistics.mean(drawn)


def test_a_small_space_is_scored_whole():
    small = Encoding(("conv", "skip"), nodes=1, layers=2, multipliers=(1,))
    ranked = evolved(small, lambda path: {"psnr": float(str(path).count("skip"))}, 200, 3, Random(0))
    assert {path for path, _ in ranked} == set(small.enumerate())
    assert str(ranked[0][0]).startswith("n0 skip<-0 skip<-1") and str(ranked[-1][0]).startswith("n0 conv<-0 conv<-1")


def test_one_path_moves_in_every_step_and_alpha_rests(monkeypatch):
    drawn: list[str] = []

    def batches(seed: int) -> Any:
        for batch in make_batches(seed):
            drawn.append("wa"[seed])
            yield batch

    search = make_search(batches=batches)
    alpha, beta = search.net.alpha.clone(), search.net.beta.clone()
    paths: list[Genotype] = []
    forward = search.net.forward

    def followed(image: torch.Tensor, path: Any = None, alpha: Any = None) -> torch.Tensor:
        assert path is not None
        if torch.is_grad_enabled():
            paths.append(path)
        return forward(image, path=path, alpha=alpha)

    monkeypatch.setattr(search.net, "forward", followed)
    for epoch in range(1, 5):
        report = search.run_epoch()
        assert report is not None and report.epoch == epoch and report.arch_loss == 0 and report.margins == []
        assert len(search.ranked) == (WATCHED if epoch < 4 else 12)
    assert torch.equal(alpha, search.net.alpha) and torch.equal(beta, search.net.beta)
    assert len(paths) == 8 and len(set(paths)) > 4 and "".join(drawn) == "wa" * 4


def test_the_best_path_of_the_last_validation_is_what_was_found():
    search = make_search(candidates=3)
    result = run_search(search)
    best, scores = search.ranked[0]
    assert (result.genotype, result.psnr) == (best, scores["psnr"])
    search.net.eval()
    assert validate(PathNetwork(search.net, best)) == scores
    inherited = [Decoding(path, "evolution", scores["psnr"]) for path, scores in search.ranked[:3]]
    assert search.decodings() == inherited
    assert [report.psnr for report in result.reports] == [report.best_psnr for report in result.reports]
    health = result.health
    assert health is not None and health.skip_share == str(best).count("skip") / 4 and health.warning() is None
    kept = [edge.operator for path, _ in search.ranked[:3] for node in path.cell(0) for edge in node]
    assert health.operators == {"conv": kept.count("conv") / 12, "skip": kept.count("skip") / 12}
    assert health.alpha_entropy is None and health.numbers() == {"skip_share": health.skip_share}


@pytest.mark.parametrize("killed_after", [1, 3, 4])
def test_a_search_that_is_killed_goes_on_bit_for_bit(tmp_path, killed_after):
    whole = make_search(candidates=4)
    reports = [facts(whole.run_epoch()) for _ in range(4)]
    first = make_search(candidates=4)
    for _ in range(killed_after):
        first.run_epoch()
    save_state(first.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(999)
    second = make_search(7, candidates=4)
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    assert [facts(second.run_epoch()) for _ in range(killed_after, 4)] == reports[killed_after:]
    assert second.decodings() == whole.decodings() and second.history == whole.history
    expected, found = whole.net.state_dict(), second.net.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="one width"):
        SinglePathSearch(make_net(), make_batches(0), make_batches(1), validate, **SETTINGS)
    other = BilevelSearch(make_net(multipliers=(1,), nodes=2), make_batches(0), make_batches(1), validate, **SETTINGS)
    with pytest.raises(ValueError, match="another search.method"):
        make_search().load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="not been validated yet"):
        make_search().decodings()
