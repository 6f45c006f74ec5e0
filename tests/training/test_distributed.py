"""Several processes that train together come to what one comes to, agree with each other, and say when they cannot."""

from typing import Any

import pytest
import torch
import torch.multiprocessing
from distributed_cases import CASES, PROCESSES, STEPS, finish, make_batches, make_network, run_case, validate, work

from irnas_ray.kernels.sync_batch_norm import SynchronisedBatchNorm2d, synchronise
from irnas_ray.networks.folding import folded
from irnas_ray.training.training import Training

#: Largest difference of values about one, after five steps.
TOLERANCES = {torch.float64: 1e-11, torch.float32: 2e-5}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process of a group found."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(PROCESSES)]


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Tensors and numbers in nested dicts and lists by where they lie."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return {path: value}
    return {key: leaf for name, item in items for key, leaf in leaves(item, f"{path}/{name}").items()}


def compare(found: Any, expected: Any, tolerance: float) -> None:
    """Fails unless all numbers are close and everything else is equal."""
    one, other = leaves(expected), leaves(found)
    assert one.keys() == other.keys()
    for path, value in one.items():
        if isinstance(value, (torch.Tensor, float)):
            kept = dict(rtol=tolerance, atol=tolerance)
            torch.testing.assert_close(other[path], value, msg=lambda text, path=path: f"{path}: {text}", **kept)
        else:
            assert other[path] == value, path


@pytest.mark.parametrize("name", [name for name in CASES if name != "bfloat16"])
def test_the_processes_come_to_what_one_process_comes_to(found, name):
    """Weights, averages, optimizer, batch statistics, losses and scores, each after every report or at the end."""
    alone = run_case(name, Training)
    assert any("running_var" in path for path in leaves(alone["state"]))
    compare(found[0][name], alone, TOLERANCES[CASES[name][1]])


def test_in_bfloat16_too_as_far_as_its_rounding_allows(found):
    alone = run_case("bfloat16", Training)
    compare(found[0]["bfloat16"]["reports"], alone["reports"], 0.02)
    assert leaves(alone["reports"]) != leaves(run_case("single", Training)["reports"])


def test_a_share_alone_trains_something_else():
    """So that the comparison means something: the shares differ in brightness and contrast."""
    settings, dtype = CASES["adam"]
    halves = [(degraded[:2], clean[:2]) for degraded, clean in make_batches(dtype)]
    half = finish(Training(make_network(dtype), halves, validate, **(STEPS | settings)))
    whole = run_case("adam", Training)
    assert abs(half["reports"][0]["loss"] - whole["reports"][0]["loss"]) > 1e-3
    name = "stem.1.running_var"
    assert not torch.allclose(half["state"]["network"][name], whole["state"]["network"][name], rtol=1e-3)


@pytest.mark.parametrize("name", [*CASES, "resumed", "timed"])
def test_all_processes_hold_the_same_bits(found, name):
    first, *others = [each[name] for each in found]
    for other in others:
        compare(other, first, 0.0)


def test_a_training_that_is_continued_goes_on_bit_for_bit(found):
    whole, resumed = found[0]["adam"], found[0]["resumed"]
    compare(resumed["reports"], whole["reports"][1:], 0.0)
    compare(resumed["state"], whole["state"], 0.0)


def test_one_process_continues_what_several_began(found):
    settings, dtype = CASES["adam"]
    alone = Training(make_network(dtype), make_batches(dtype), validate, **(STEPS | settings))
    alone.load_state_dict(found[1]["begun"])
    compare(finish(alone)["state"], found[0]["adam"]["state"], TOLERANCES[dtype])


def test_the_first_process_decides_when_time_is_up_and_alone_validates(found):
    # four readings of 3.5 s for a step and its validation, three at the start; a tenth of the minute is 6 s
    assert [each["timed"]["steps"] for each in found] == [[1, 2, 3, 4, 5]] * PROCESSES


def test_a_synchronised_network_is_the_same_network_to_everyone_else():
    torch.manual_seed(0)
    plain, joint = make_network(torch.float32), make_network(torch.float32)
    synchronise(joint)
    assert any(isinstance(module, SynchronisedBatchNorm2d) for module in joint.modules())
    image = torch.rand(3, 1, 14, 12)
    # without processes also in training
    assert torch.equal(plain(image), joint(image))
    compare(joint.state_dict(), plain.state_dict(), 0.0)
    whole, parts = folded(plain.eval()), folded(joint.eval())
    assert torch.equal(whole(image), parts(image))


def test_parameters_that_are_not_used_stay(found):
    before, after = found[0]["unused"]["before"], found[0]["unused"]["after"]
    assert torch.equal(before["unused.weight"], after["unused.weight"])
    assert not torch.equal(before["used.weight"], after["used.weight"])


def test_what_the_processes_cannot_do_is_said_by_all(found):
    said = [each["complaints"] for each in found]
    assert said[0] == said[1]
    assert said[0] == {
        "genotype": "the processes disagree about the genotype, by rank: abc on 0; def on 1; nothing was trained",
        "batch": "a batch of 3 images cannot be divided among 2 processes",
        "normalisation": "BatchNorm1d cannot normalise over several processes; use BatchNorm2d, or one process",
    }
