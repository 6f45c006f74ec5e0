"""The sampling by Triton against the definition written out: on a GPU, or on a CPU by Triton's interpreter."""

import importlib
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from reference_deformable import plain_deform_conv2d
from test_deform_conv import Geometry, with_gradients
from torch import Tensor

from irnas_ray.kernels import grid_sample, sampled_product
from irnas_ray.kernels.deform_conv import deform_conv2d
from irnas_ray.kernels.geometry import Geometry as Taps
from irnas_ray.kernels.sampled_product import SampledProduct

pytest.importorskip("triton")
from irnas_ray.kernels import triton_sampling  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
#: Small, because the interpreter takes ten milliseconds for a program.
SMALL = Geometry(batch=1, channels=3, outputs=2, image=(5, 4), kernel=(2, 2), padding=(1, 0))
CASES = {
    "small": (SMALL, 1024),
    "members of a batch, blocks of outputs": (replace(SMALL, batch=2, image=(7, 3)), 32),
    "groups": (replace(SMALL, channels=4, groups=2, offset_groups=4, kernel=(1, 2)), 1024),
    "stride, dilation": (replace(SMALL, kernel=(2, 3), stride=(2, 1), padding=(1, 2), dilation=(2, 1)), 1024),
    "one pixel": (replace(SMALL, channels=1, image=(1, 1), kernel=(3, 3), padding=(1, 1)), 1024),
    "more channels than a block has values": (replace(SMALL, channels=9, image=(2, 3), padding=(0, 1)), 8),
    "far outside": (replace(SMALL, spread=50.0), 1024),
    "whole positions": (replace(SMALL, spread=0.0), 1024),
}


@pytest.fixture(autouse=True)
def by_triton(monkeypatch):
    """As on a GPU, where all groups are sampled together."""
    monkeypatch.setattr(sampled_product, "_backend", lambda *tensors: triton_sampling)
    monkeypatch.setattr(sampled_product, "_chunks", lambda batch, groups, device: [slice(0, groups)])


def on_device(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(DEVICE) for name, tensor in tensors.items()}


def assert_equal(mine: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(mine[name].cpu(), value, rtol=tolerance, atol=tolerance, msg=f"{name} differs")


@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_the_definition(case, dtype, tolerance, monkeypatch):
    geometry, values = CASES[case]
    monkeypatch.setattr(triton_sampling, "VALUES", values)
    tensors = geometry.tensors(dtype)
    mine = with_gradients(deform_conv2d, on_device(tensors), geometry.keywords)
    assert_equal(mine, with_gradients(plain_deform_conv2d, tensors, geometry.keywords), tolerance)


def test_without_mask_and_without_the_gradient_of_the_kernel():
    tensors = {key: value for key, value in SMALL.tensors().items() if key != "mask"}
    weight = tensors.pop("weight")

    def with_weight(function):
        return lambda **others: function(weight=weight.to(others["input"].device), **others)

    mine = with_gradients(with_weight(deform_conv2d), on_device(tensors), SMALL.keywords)
    assert_equal(mine, with_gradients(with_weight(plain_deform_conv2d), tensors, SMALL.keywords), 1e-9)


def test_groups_that_read_one_image():
    """As the supernet has them; and tensors whose values do not lie side by side."""
    taps, random = Taps((1, 2), (1, 1), (0, 1), (1, 1), (3, 5)), torch.Generator().manual_seed(0)
    shapes = {"image": (2, 1, 3, 3, 4), "offset": (2, 3, 2, 2, 3, 5), "mask": (2, 3, 2, 3, 5), "weight": (3, 4, 6)}
    tensors = {name: torch.randn(shape, generator=random, dtype=torch.float64).mT for name, shape in shapes.items()}
    tensors = {name: tensor.contiguous().mT for name, tensor in tensors.items()}

    def mine(image, offset, mask, weight):
        return SampledProduct.apply(image, offset, mask, weight, taps)

    def written_out(image, offset, mask, weight):
        kernels = weight.unflatten(2, (3, 1, 2))
        groups = [
            plain_deform_conv2d(image[:, 0], moves.flatten(1, 2), kernel, padding=(0, 1), mask=factors)
            for moves, factors, kernel in zip(offset.unbind(1), mask.unbind(1), kernels, strict=True)
        ]
        return torch.stack(groups, dim=1)

    assert_equal(with_gradients(mine, on_device(tensors), {}), with_gradients(written_out, tensors, {}), 1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_positions_that_are_no_place(bad):
    """What is not a number stays so, what is infinitely far is outside; only the output that read it sees it."""
    tensors = SMALL.tensors(torch.float32)
    spot = (0, 2, 3, 1)  # the vertical move of the second tap
    tensors["offset"][spot] = bad
    mine = with_gradients(deform_conv2d, on_device(tensors), SMALL.keywords)
    tensors["offset"][spot] = 1e6
    expected = with_gradients(plain_deform_conv2d, tensors, SMALL.keywords)
    if math.isnan(bad):
        expected["output"][0, :, 3, 1] = expected["mask"][0, 1, 3, 1] = expected["offset"][0, 3, 3, 1] = math.nan
        del expected["weight"], expected["bias"]
    for name, value in expected.items():
        torch.testing.assert_close(mine[name].cpu(), value, rtol=1e-4, atol=1e-4, equal_nan=True)


class OnGpu(Tensor):
    """A tensor of the CPU that says that it is on a GPU."""

    device, is_cuda = torch.device("cuda"), True


def test_what_is_taken_is_on_a_gpu_in_single_or_double_precision(monkeypatch):
    single = torch.zeros(2).as_subclass(OnGpu)
    assert triton_sampling.takes(single, single.double(), None)
    for other in (single.half(), torch._neg_view(single), torch.zeros(2), torch.zeros(2, device="meta")):
        assert not triton_sampling.takes(single, other)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert not triton_sampling.takes(single)


@pytest.mark.parametrize("asked,expected", [("1", triton_sampling), ("0", grid_sample), ("", grid_sample)])
def test_only_who_asks_for_triton_gets_it(asked, expected, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("IRNAS_RAY_TRITON", asked)
    single = torch.zeros(2).as_subclass(OnGpu)
    assert sampled_product._backend(single, None) is expected
    assert sampled_product._backend(single, single.half()) is grid_sample


def test_without_triton_the_error_says_who_wanted_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, triton_sampling.__name__)
    with pytest.raises(ImportError, match="IRNAS_RAY_TRITON=1: .*install it"):
        importlib.import_module(triton_sampling.__name__)


PROGRAM = """
import sys
from types import SimpleNamespace
from irnas_ray.kernels import deform_conv2d, sampled_product, grid_sample
import os, torch
values = torch.rand(1, 1, 3, 3, dtype=torch.float64), torch.zeros(1, 2, 3, 3, dtype=torch.float64)
deform_conv2d(*values, torch.ones(1, 1, 1, 1, dtype=torch.float64))
assert sampled_product._backend(torch.zeros(1, device="meta")) is grid_sample
assert "triton" not in sys.modules, "a CPU needs no triton"

# as a launch does on cards of two generations, but for the launch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from irnas_ray.kernels import triton_sampling
for kernel in (triton_sampling._sample, triton_sampling._differentiate):
    channels = triton_sampling.prepare(torch.zeros(1, 1, 9, 1, 1)).shape[-1]
    sizes = {"CHANNELS": channels, "PADDED": 16, "BLOCK": 64}
    kinds = {name: "i32" if name in triton_sampling.SIZES else "*fp32" for name in kernel.arg_names}
    kinds |= dict.fromkeys(sizes, "constexpr")
    aligned = {(index,): [["tt.divisibility", 16]] for index, kind in enumerate(kinds.values()) if kind == "*fp32"}
    for generation in (80, 90):
        source = ASTSource(kernel, kinds, sizes, aligned)
        made = compile(source, target=GPUTarget("cuda", generation, 32), options={"enable_fp_fusion": True})
        assert made.asm["cubin"] and made.asm["ptx"].count("ld.global.v4") >= 8, "four channels are read at once"
"""


def test_a_cpu_does_not_load_triton_and_kernels_compile_for_gpus(tmp_path):
    environment = os.environ | {"IRNAS_RAY_TRITON": "1", "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    program = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
