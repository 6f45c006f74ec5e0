"""Files that hold tensors: written atomically, loaded without running code, refused with a clear message if broken."""

import contextlib
import os
import textwrap
from pathlib import Path
from typing import Any

import torch

from irnas_ray.genotype import Genotype
from irnas_ray.network import DerivedNetwork

NETWORK_FORMAT = "irnas_ray.network"
NETWORK_VERSION = 1


def save_state(state: dict[str, Any], path: str | Path) -> None:
    """Write a dict of tensors and plain values so that ``path`` is either the old file or the whole new one.

    Raises OSError naming the file if the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError of its archive writer
        raise OSError(
            f"cannot write {path}: {error}; free space or choose another folder, the old file is kept"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def load_state(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a file of ``save_state``; ValueError naming the file if it is missing, truncated or something else."""
    try:
        file = open(path, "rb")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        with file:
            state = torch.load(file, map_location=device, weights_only=True)
    except Exception:  # torch meets damaged bytes with almost any exception: IndexError, struct.error, OSError, ...
        raise ValueError(f"{path}: is truncated, damaged, or no file of irnas_ray; use another checkpoint") from None
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds no checkpoint of irnas_ray")
    return state


def save_network(network: DerivedNetwork, path: str | Path, notes: dict[str, Any] | None = None) -> None:
    """Write ``network.pt``: weights, genotype, constructor arguments and plain notes, all that restoring needs."""
    state = {
        "format": NETWORK_FORMAT,
        "version": NETWORK_VERSION,
        "genotype": network.genotype.to_json(),
        "arguments": network.arguments(),
        "notes": notes or {},
        "weights": {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()},
    }
    save_state(state, path)


def load_network(path: str | Path, device: torch.device | str = "cpu") -> tuple[DerivedNetwork, dict[str, Any]]:
    """The network of a ``network.pt`` in evaluation mode, and its notes; ValueError naming file and field otherwise."""
    state = load_state(path, device)
    if state.get("format") != NETWORK_FORMAT:
        raise ValueError(f"{path}: is no network.pt of irnas_ray (a checkpoint of a search or training perhaps)")
    if state.get("version") != NETWORK_VERSION:
        raise ValueError(f"{path}: version {state.get('version')!r}; this release reads version {NETWORK_VERSION}")
    try:
        network = DerivedNetwork(Genotype.from_json(state["genotype"]), **state["arguments"])
        network.load_state_dict(state["weights"])
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        reason = textwrap.shorten(str(error).splitlines()[-1], 200)  # torch lists every weight
        raise ValueError(f"{path}: weights, genotype and arguments do not fit together ({reason})") from None
    return network.to(device).eval(), dict(state.get("notes", {}))
