"""In which numbers networks are trained, and that the question to PyTorch is still understood."""

from pathlib import Path

import pytest
import torch

from irnas_ray.training import precision
from irnas_ray.training.precision import check_precision, is_bfloat16

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("device", [CPU, GPU])
def test_what_is_named_holds_everywhere(device: torch.device) -> None:
    assert is_bfloat16("bfloat16", device) and not is_bfloat16("float32", device)
    with pytest.raises(ValueError, match="precision: unknown 'half'; possible: float32, bfloat16, auto"):
        check_precision("half")


@pytest.mark.parametrize("has", [True, False])
def test_auto_is_bfloat16_on_a_cpu_that_has_it(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    assert is_bfloat16("auto", CPU) is has
    assert not is_bfloat16("auto", GPU)


def test_a_pytorch_that_cannot_be_asked_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(precision.torch.cpu, "_is_avx512_bf16_supported")
    assert not is_bfloat16("auto", CPU)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="another system describes its processor elsewhere")
def test_pytorch_2_15_knows_what_the_system_knows() -> None:
    """A contract with a function of PyTorch that is not public."""
    flags = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")]
    assert is_bfloat16("auto", CPU) == any("avx512_bf16" in line.split() for line in flags)
