"""Batches that do not fit into memory: their gradient is put together from parts, and nothing else changes."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from searching_cases import SETTINGS, make_batches, make_net, validate
from torch import Tensor, nn

from irnas_ray.datasets.batches import Batch
from irnas_ray.evaluation.metrics import ssim
from irnas_ray.search.bilevel import BilevelSearch
from irnas_ray.training.accumulation import Accumulation, TooLarge, is_out_of_memory
from irnas_ray.training.loss import SSIM_FLOOR, restoration_loss
from irnas_ray.training.training import Training


class Refuse(torch.autograd.Function):
    """The identity, whose backward pass runs out of memory for more than so many images."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, most: int) -> Tensor:
        ctx.most = most
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        refuse(gradient, ctx.most)
        return gradient, None


def refuse(images: Tensor, most: int) -> None:
    if len(images) > most:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


class Tight(nn.Module):
    """A network in a memory that holds so many images, fewer in the backward pass; it counts what it is asked for."""

    def __init__(self, network: nn.Module, most: int = 100, most_backward: int = 100) -> None:
        super().__init__()
        self.network, self.most, self.most_backward = network, most, most_backward
        self.asked: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.asked.append(len(images))
        restored = self.network(images)
        # late, when layers before have already moved their statistics
        refuse(images, self.most)
        return Refuse.apply(restored, self.most_backward)


class Smooth(nn.Module):
    """A network without batch normalisation, near the identity, so that its SSIM is far from the floor."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Softplus(), nn.Conv2d(4, 1, 3, padding=1))
        self.scale = nn.Parameter(torch.tensor(0.1))
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        return images + self.scale * self.layers(images)


def batch_of(images: int, noise: float = 0.1) -> Batch:
    random = torch.Generator().manual_seed(1)
    clean = torch.rand(images, 1, 13, 13, generator=random, dtype=torch.float64)
    # the images differ in how well they are restored, so that a mean of SSIMs is not like each of them
    strength = torch.linspace(0.1, 3, images, dtype=torch.float64).view(-1, 1, 1, 1)
    return clean + noise * strength * torch.randn(clean.shape, generator=random, dtype=torch.float64), clean


def loss_with(network: nn.Module, weight: float):
    def loss_of(degraded: Tensor, clean: Tensor, average: Any) -> Tensor:
        return restoration_loss(network(degraded), clean, weight, average)

    return loss_of


def gradients(network: nn.Module, batch: Batch, weight: float = 0.5, parts: int | None = None) -> tuple[Tensor, Tensor]:
    """Loss and all gradients of one step, in parts of so many images."""
    accumulation = Accumulation(network, "lower it")
    accumulation.micro_batch = parts
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    loss = accumulation.backward(loss_with(network, weight), optimizer, batch)
    return loss, torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_gradient_of_parts_is_that_of_the_batch(parts: int, weight: float) -> None:
    network, batch = Smooth(), batch_of(7)
    loss, expected = gradients(network, batch, weight)
    found_loss, found = gradients(network, batch, weight, parts)
    torch.testing.assert_close(found_loss, loss, rtol=1e-13, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    assert not found_loss.requires_grad and expected.abs().max() > 1e-3


def test_means_of_parts_losses_would_be_another_gradient() -> None:
    """What the usual accumulation does: it averages the losses of the parts, and the logarithm of SSIM is no sum."""
    network, (degraded, clean) = Smooth(), batch_of(6)
    _, expected = gradients(network, (degraded, clean), 2.0)
    losses = [restoration_loss(network(d), c, 2.0) for d, c in zip(degraded.split(2), clean.split(2), strict=True)]
    usual = torch.autograd.grad(torch.stack(losses).mean(), list(network.parameters()))
    assert (torch.cat([g.flatten() for g in usual]) - expected).norm() > 0.01 * expected.norm()


def test_a_mean_ssim_under_the_floor_has_no_gradient_in_parts_either() -> None:
    """Though the SSIM of some images alone is above it."""
    network, batch = Smooth(), batch_of(6)
    degraded, clean = batch
    clean[1:] = 1 - degraded[1:]
    with torch.no_grad():
        values = ssim(network(degraded), clean)
    assert values.mean() < SSIM_FLOOR < values.max()
    loss, expected = gradients(network, batch)
    found_loss, found = gradients(network, batch, parts=1)
    torch.testing.assert_close((found_loss, found), (loss, expected), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(found, gradients(network, batch, weight=0.0)[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("where", ["most", "most_backward"])
def test_a_step_that_does_not_fit_is_repeated_in_parts_that_do(where: str) -> None:
    network, batch = Smooth(), batch_of(7)
    loss, expected = gradients(network, batch)
    tight = Tight(network, **{where: 2})
    accumulation, optimizer = Accumulation(tight, "lower it"), torch.optim.SGD(tight.parameters(), lr=0.1)
    gradient = []
    for _ in range(2):
        found = accumulation.backward(loss_with(tight, 0.5), optimizer, batch)
        gradient.append(torch.cat([p.grad.flatten() for p in tight.parameters() if p.grad is not None]))
        torch.testing.assert_close((found, gradient[-1]), (loss, expected), rtol=1e-10, atol=1e-14)
        assert accumulation.micro_batch == 2
        tries, tight.asked = tight.asked, []
    assert tries == [2, 2, 2, 1] * 2 and torch.equal(*gradient)


def test_a_batch_that_fits_is_computed_as_a_whole_and_once() -> None:
    tight = Tight(Smooth())
    accumulation, optimizer = Accumulation(tight, ""), torch.optim.SGD(tight.parameters(), lr=0.1)
    batch = batch_of(4)
    accumulation.backward(loss_with(tight, 0.5), optimizer, batch)
    assert tight.asked == [4] and accumulation.micro_batch is None
    accumulation.micro_batch = 4  # found with larger batches
    accumulation.backward(loss_with(tight, 0.5), optimizer, batch)
    assert tight.asked == [4, 4]


def test_batch_statistics_move_once_by_the_mean_over_the_parts() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1)).double()
    degraded, clean = batch_of(6)
    norm: Any = network[1]
    norm.running_mean.fill_(0.3)
    with torch.no_grad():
        images = network[0](degraded)
    means = torch.stack([part.mean(dim=(0, 2, 3)) for part in images.split(3)])
    variances = torch.stack([part.transpose(0, 1).flatten(1).var(dim=1) for part in images.split(3)])
    tight = Tight(network, most=3)
    accumulation, optimizer = Accumulation(tight, ""), torch.optim.SGD(tight.parameters(), lr=0.1)
    accumulation.backward(loss_with(tight, 0.5), optimizer, (degraded, clean))
    assert tight.asked == [6] + [3, 3] * 2
    torch.testing.assert_close(norm.running_mean, 0.9 * 0.3 + 0.1 * means.mean(dim=0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variances.mean(dim=0))
    assert norm.num_batches_tracked == 1


def test_random_numbers_are_not_drawn_twice() -> None:
    def step(most: int, parts: int | None) -> tuple[Tensor, Tensor]:
        network = Tight(nn.Sequential(Smooth(), nn.Dropout(0.5)), most=most)
        torch.manual_seed(5)
        _, gradient = gradients(network, batch_of(4), parts=parts)
        return gradient, torch.rand(3)

    for refused, direct in zip(step(2, None), step(100, 2), strict=True):
        assert torch.equal(refused, direct)


def test_what_does_not_fit_at_all_names_the_settings() -> None:
    tight = Tight(Smooth(), most=0)
    with pytest.raises(TooLarge, match=r"one image does not fit into memory; lower it \(CUDA out of memory.*MiB\.\)"):
        gradients(tight, batch_of(5))
    assert tight.asked == [5, 3, 2, 1]
    shared = Accumulation(tight, "lower final.batch", divisible=False)
    with pytest.raises(TooLarge, match="a share of 4 images does not fit into memory; lower final.batch"):
        shared.backward(loss_with(tight, 0.5), torch.optim.SGD(tight.parameters()), batch_of(4))


def test_other_errors_are_passed_on() -> None:
    def broken(degraded: Tensor, clean: Tensor, average: Any) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    network = Smooth()
    accumulation = Accumulation(network, "")
    with pytest.raises(RuntimeError, match="shapes cannot"):
        accumulation.backward(broken, torch.optim.SGD(network.parameters()), batch_of(2))
    assert accumulation.micro_batch is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (FloatingPointError("the loss became nan"), False),
    ],
)
def test_errors_that_mean_memory(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_a_search_whose_batches_do_not_fit_goes_on_in_parts_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> BilevelSearch:
        return BilevelSearch(make_net(), make_batches(0), make_batches(1), validate, **SETTINGS)

    def tighten(bilevel: BilevelSearch) -> list[int]:
        asked: list[int] = []
        forward = bilevel.net.forward

        def tight(images: Tensor) -> Tensor:
            restored = forward(images)
            if bilevel.net.training:
                asked.append(len(images))
                refuse(images, 1)
            return restored

        monkeypatch.setattr(bilevel.net, "forward", tight)
        return asked

    whole, parted = make(), make()
    asked = tighten(parted)
    drawn = []
    for _ in range(3):
        one, other = whole.run_epoch(), parted.run_epoch()
        assert one is not None and other is not None
        assert (one.micro_batch, other.micro_batch) == (None, 1)
        # batch normalisation sees less at a time, so that the numbers are near, not equal
        assert other.weight_loss == pytest.approx(one.weight_loss, rel=0.5)
        drawn.append((whole.train_w.state_dict(), parted.train_w.state_dict()))
    assert asked.count(2) == 1 and asked.count(1) == 4 * 8
    assert all(str(one) == str(other) for one, other in drawn)  # the same batches, none drawn twice
    again = make()
    again.load_state_dict(copy.deepcopy(parted.state_dict()))
    asked = tighten(again)
    again.run_epoch()
    assert set(asked) == {1}
    state = whole.state_dict()
    del state["micro_batch"]  # of an earlier release
    again.load_state_dict(state)
    assert again.accumulation.micro_batch is None


@pytest.mark.parametrize("ssim_weight", [0.0, 0.5])
def test_a_training_in_parts_gives_the_network_of_one_that_fits(ssim_weight: float) -> None:
    networks = []
    for most in (100, 1):
        network = Tight(Smooth().float(), most=100, most_backward=most)
        training = Training(
            network, make_batches(0), lambda net: {"psnr": 1.0, "ssim": 1.0}, steps=20, lr=0.01, ssim_weight=ssim_weight
        )
        report = training.run()
        assert report.micro_batch == (None if most == 100 else 1) == training.state_dict()["micro_batch"]
        networks.append((report.loss, *network.parameters()))
    torch.testing.assert_close(*([torch.as_tensor(x) for x in network] for network in networks), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
def test_a_process_that_really_runs_out_of_memory_ends_its_step() -> None:
    program = Path(__file__).parents[1] / "support" / "little_memory.py"
    path = os.pathsep.join(filter(None, [str(program.parents[2]), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    loss, parts = json.loads(done.stdout)
    assert loss > 0 and parts in (1, 2, 4, 8, 16, 32)
