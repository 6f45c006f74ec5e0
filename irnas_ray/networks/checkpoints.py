"""Files that hold tensors: written atomically, loaded without running code, refused with a clear message if broken."""

import io
import reprlib
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from irnas_ray.catalogue.cards import located
from irnas_ray.networks.registry import core, describe_network, rebuild_network
from irnas_ray.networks.user_network import NetworkClass
from irnas_ray.system.files import written

NETWORK_FORMAT = "irnas_ray.network"
#: Version 1 held networks of genotypes only, and did not say so.
NETWORK_VERSION = 2


def save_state(state: dict[str, Any], path: str | Path) -> None:
    """Write a dict of tensors and plain values so that ``path`` is either the old file or the whole new one.

    Raises OSError naming the file if the disk is full or the folder cannot be written.
    """
    with written(path, "free space or choose another folder") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # torch raises an error of its archive writer in place of the system's
            raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from None


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


def save_network(network: nn.Module, path: str | Path, notes: dict[str, Any] | None = None) -> None:
    """Write ``network.pt``: weights, what the network is, and plain notes, all that restoring needs.

    Raises TypeError for a module that is none of this package's networks (wrap it in ``networks.UserNetwork``), and
    naming a note, or an argument of the network, that ``load_network`` could not read again; OSError naming the file if
    it cannot be written. An old file is kept then.

    >>> import irnas_ray as ir
    >>> ir.save_network(ir.DnCNN(channels=1, depth=3, width=4), "network.pt", notes={"sigma": 25})
    """
    if notes is not None and not isinstance(notes, Mapping):
        raise TypeError(f"notes: {reprlib.repr(notes)}; give a dict")
    description, notes = describe_network(network), dict(notes or {})
    _refuse_unreadable("notes", notes)
    _refuse_unreadable("arguments", description["arguments"])
    weights = {name: tensor.detach().cpu() for name, tensor in core(network).state_dict().items()}
    state = {"format": NETWORK_FORMAT, "version": NETWORK_VERSION, **description}
    save_state(state | {"notes": notes, "weights": weights}, path)


def _refuse_unreadable(what: str, values: dict[Any, Any]) -> None:
    """TypeError naming the first value that torch would write, and then not read without running code."""
    for name, value in values.items():
        content = io.BytesIO()
        try:
            torch.save({name: value}, content)
            content.seek(0)
            torch.load(content, map_location="cpu", weights_only=True)
        except Exception:  # what cannot be pickled raises almost anything
            shown = f"{what}[{name!r}]: {reprlib.repr(value)}"
            raise TypeError(f"{shown} could not be loaded again; give text, numbers, lists or dicts") from None


def load_network(
    path: str | Path, device: torch.device | str = "cpu", network_class: NetworkClass | str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a ``network.pt`` in evaluation mode, and its notes; ValueError naming file and field otherwise.

    The name of a network that ships, as ``irnas-ray networks`` lists them, stands for its file.
    A file with the weights of a user's own class is loaded only where the caller passes ``network_class``, the class or
    its import name: a file must not choose what code is run. All networks have ``channels`` and ``arguments()``.

    >>> import irnas_ray as ir
    >>> ir.save_network(ir.DnCNN(channels=1, depth=3, width=4), "network.pt", notes={"sigma": 25})
    >>> network, notes = ir.load_network("network.pt")
    >>> network.arguments(), notes
    ({'channels': 1, 'depth': 3, 'width': 4}, {'sigma': 25})
    """
    path = located(path)
    state = load_state(path, device)
    if state.get("format") != NETWORK_FORMAT:
        raise ValueError(f"{path}: not a network.pt of irnas_ray (perhaps a checkpoint of a search or of a training)")
    if type(state.get("version")) is not int or not 1 <= state["version"] <= NETWORK_VERSION:
        known = f"this release reads versions up to {NETWORK_VERSION}"
        raise ValueError(f"{path}: version {state.get('version')!r}; {known}")
    notes = state.get("notes", {})
    if not isinstance(notes, dict):
        raise ValueError(f"{path}: notes: {reprlib.repr(notes)} are no dict; the file is damaged, use another one")
    try:
        network = rebuild_network(state, network_class)
        core(network).load_state_dict(state["weights"])
    except PermissionError as error:
        raise ValueError(f"{path}: {error}") from None
    except (AttributeError, KeyError, TypeError, RuntimeError, ValueError) as error:
        reason = textwrap.shorten(str(error).splitlines()[-1], 200)  # torch lists every weight
        raise ValueError(f"{path}: weights, genotype and arguments do not fit together ({reason})") from None
    return network.to(device).eval(), dict(notes)
