"""The library of ``native.c`` and ``planes.c``, which is compiled when the package is installed: float32 on a CPU.

Where no compiler was found then, ``available`` is False, and PyTorch's own operations do the work.
"""

import ctypes
import importlib.util
import os

import torch
from torch import Tensor


def _load() -> ctypes.CDLL | None:
    found = importlib.util.find_spec("irnas_ray.kernels._native")
    path = os.environ.get("IRNAS_RAY_NATIVE") or (found and found.origin)
    if not path or path == "0":
        return None
    try:
        # its parallel loops run on the threads of torch, whose OpenMP library is loaded already
        return ctypes.CDLL(path)
    except OSError:
        return None


_LIBRARY = _load()
available = _LIBRARY is not None


def takes(*tensors: Tensor | None) -> bool:
    """Whether the library can be used, which it is for tensors that are all float32 and on a CPU."""
    return available and all(tensor is None or _readable(tensor) for tensor in tensors)


def _readable(tensor: Tensor) -> bool:
    """Whether memory holds the values as C reads them, apart from their order."""
    # a negated view, as the imaginary part of a conjugate is one, holds the values with the other sign
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_neg()
    return dense and tensor.dtype == torch.float32


class Pointer(ctypes.c_void_p):
    """Where a tensor's values are; they stay there as long as it is kept."""

    tensor: Tensor | None = None


def pointer(tensor: Tensor | None, size: int) -> Pointer:
    """Where a tensor's values are; ValueError if C would find others there, or not as many as it reads or writes."""
    if tensor is None:
        return Pointer(None)
    if not _readable(tensor) or not tensor.is_contiguous() or tensor.numel() != size:
        kind = f"{tensor.dtype} on {tensor.device}, shape {tuple(tensor.shape)}, strides {tensor.stride()}"
        raise ValueError(f"{kind}; expected {size} contiguous torch.float32 values on cpu")
    found = Pointer(tensor.data_ptr())
    found.tensor = tensor
    return found


def call(name: str, shape: ctypes.Structure, *arguments: object) -> None:
    """Call a function of the library; MemoryError if it finds no memory for what it keeps meanwhile."""
    assert _LIBRARY is not None
    if getattr(_LIBRARY, name)(ctypes.byref(shape), *arguments):
        raise MemoryError(f"{name}: no memory for a part of an image")
