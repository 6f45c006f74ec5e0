"""In which numbers a network's forward pass is computed while it is trained."""

import torch

PRECISIONS = ("float32", "bfloat16", "auto")


def check_precision(precision: str) -> None:
    """ValueError if there is no such setting ``final.precision``."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: unknown {precision!r}; possible: {', '.join(PRECISIONS)}")


def is_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether a network is computed in bfloat16 on a device under a setting ``final.precision``.

    ``auto`` says so for a CPU that has instructions for it (AVX-512 BF16), where a step takes seven tenths of the time;
    others would imitate them, and GPUs have not been measured.
    """
    if precision != "auto":
        return precision == "bfloat16"
    return device.type == "cpu" and _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    # not public in PyTorch 2.15, which has no other way to ask
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return known is not None and bool(known())
