"""What a decoded network costs, as a trial reports it."""

import pytest
import torch
from torch import Tensor, nn

from irnas_ray.genotypes.published import load_genotype
from irnas_ray.hpo.objectives import LATENCY
from irnas_ray.networks import costs
from irnas_ray.networks.building import make_network
from irnas_ray.networks.costs import TIMED_CALLS, seconds_per_megapixel
from irnas_ray.networks.derived import DerivedNetwork, count_parameters
from irnas_ray.networks.dncnn import DnCNN
from irnas_ray.networks.registry import multiply_adds
from irnas_ray.networks.size import MOST_PARAMETERS
from irnas_ray.networks.supernet import SuperNet
from irnas_ray.settings.study import StudyConfig
from irnas_ray.study.trial import network_costs

CPU = torch.device("cpu")


class Slow(nn.Module):
    """Takes a known time of its own clock, and much longer at its first and its third call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.now = 0, 0.0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        self.now += 0.5 if self.calls in (1, 3) else 0.05
        assert not self.training and image.shape[1] == 3
        return image


def test_the_time_is_a_median_of_calls_that_leaves_out_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Slow()
    monkeypatch.setattr(costs.time, "perf_counter", lambda: network.now)
    seconds = seconds_per_megapixel(network, 3, CPU)
    assert network.calls == TIMED_CALLS + 1
    assert seconds * 128**2 / 1e6 == pytest.approx(0.05)


@pytest.mark.parametrize("objectives", [["score"], ["score", "latency"]])
def test_costs_are_those_of_the_final_network_and_cost_no_random_numbers(objectives: list[str]) -> None:
    settings = StudyConfig()
    final, settings.tune.objectives = settings.final, objectives
    final.width, final.stem_channels, final.aspp_channels, final.low_level_channels = 2, 2, 2, 2
    genotype = load_genotype("irnas_denoise")
    torch.manual_seed(1)
    state = torch.get_rng_state()
    found = network_costs(genotype, settings, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    network = make_network(genotype, settings)
    assert found["parameters"] == count_parameters(network)
    assert found["multiply_adds_per_pixel"] == multiply_adds(network)
    assert found["device"] == "cpu"
    assert (LATENCY in found) == ("latency" in objectives)
    assert found.get(LATENCY, 1) > 0


TOO_LARGE = {
    "width": lambda: DerivedNetwork(load_genotype("irnas_denoise"), channels=1, width=10**6),
    "stem": lambda: DerivedNetwork(load_genotype("irnas_denoise"), channels=1, width=4, stem_channels=10**9),
    "pyramid": lambda: DerivedNetwork(load_genotype("irnas_denoise"), channels=1, width=4, aspp_channels=10**5),
    "channels": lambda: DerivedNetwork(load_genotype("irnas_denoise"), channels=10**9, width=4),
    "DnCNN's width": lambda: DnCNN(channels=1, width=10**6),
    "DnCNN's depth": lambda: DnCNN(channels=1, depth=10**6, width=1),
    "supernet's width": lambda: SuperNet(channels=1, layers=4, nodes=5, width=10**6),
    "supernet's nodes": lambda: SuperNet(channels=1, layers=4, nodes=10**4, width=4),
    "supernet's layers": lambda: SuperNet(channels=1, layers=10**4, nodes=5, width=4),
    "supernet's edges": lambda: SuperNet(channels=1, layers=100, nodes=100, width=4),
}


@pytest.mark.parametrize("build", TOO_LARGE.values(), ids=TOO_LARGE)
def test_networks_of_absurd_sizes_are_refused_before_they_are_built(build, monkeypatch):
    def built(*_: object, **__: object) -> None:
        raise AssertionError("something of it was built")

    monkeypatch.setattr(nn.Conv2d, "__init__", built)
    with pytest.raises(ValueError, match="at most"):
        build()


def test_the_largest_paper_network_is_far_from_the_bound():
    with torch.device("meta"):
        network = DerivedNetwork(load_genotype("irnas_denoise"), channels=3, width=40)
    assert network._least_parameters() < count_parameters(network) < MOST_PARAMETERS / 50
