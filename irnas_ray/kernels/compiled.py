"""The library of ``native.c`` and ``planes.c``, which is compiled when the package is installed: float32 on a CPU.

Where no compiler was found then, ``available`` is False, and PyTorch's own operations do the work.
"""

import ctypes
import hashlib
import os
import sys
import warnings
from importlib.machinery import PathFinder
from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path(__file__).parent


def _load() -> ctypes.CDLL | None:
    """The library that ``IRNAS_RAY_NATIVE`` names, or else the one that was compiled from the sources that lie here."""
    named = os.environ.get("IRNAS_RAY_NATIVE")
    if named:
        library = None if named == "0" else _open(named)
        if named != "0" and library is None:
            warnings.warn(f"IRNAS_RAY_NATIVE: {named} is no library that can be opened, and not used", stacklevel=1)
        return library
    # as in setup.py
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]")))).hexdigest()
    outdated = None
    # a clone hides an installed package from a worker of Ray that was started in it, and holds no library itself
    for folder in (FOLDER, *(Path(path, *__name__.split(".")[:-1]) for path in sys.path)):
        found = PathFinder.find_spec("_native", [str(folder)])
        library = _open(found.origin) if found and found.origin else None
        if library and _sources(library) == sources:
            return library
        if library and found:
            outdated = outdated or found.origin
    if outdated:
        warnings.warn(
            f"{outdated} was compiled from other sources than those in {FOLDER} and is not used: run pip install again",
            stacklevel=1,
        )
    return None


def _open(path: str) -> ctypes.CDLL | None:
    try:
        # its parallel loops run on the threads of torch, whose OpenMP library is loaded already
        return ctypes.CDLL(path)
    except OSError:
        return None


def _sources(library: ctypes.CDLL) -> str | None:
    """The hash of the sources that a library was compiled from; None for one that does not say."""
    try:
        library.irnas_ray_sources.restype = ctypes.c_char_p
    except AttributeError:
        return None
    return str(library.irnas_ray_sources().decode())


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
