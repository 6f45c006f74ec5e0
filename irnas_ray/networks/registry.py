"""Which network is trained: that of a genotype, DnCNN, or one of the user's own; built from a name."""

import re
from typing import Any

import lazy_loader
import torch
from torch import nn

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.derived import DerivedNetwork, multiply_adds_per_pixel
from irnas_ray.networks.dncnn import DnCNN
from irnas_ray.networks.user_network import IMPORT_NAME, TRIED_SIDE, NetworkClass, UserNetwork

# loaded when first used, with PyTorch's shape checks and Triton: few networks are a user's own
flop_counter = lazy_loader.load("torch.utils.flop_counter", suppress_warning=True)

#: The name of networks that a genotype describes.
GENOTYPE = "genotype"
#: Hand-designed networks by their names.
HAND_DESIGNED = {"dncnn": DnCNN}


def check_name(name: str) -> None:
    """ValueError saying what is possible unless ``name`` can name a network."""
    if name != GENOTYPE and name not in HAND_DESIGNED and not re.fullmatch(IMPORT_NAME, name):
        possible = ", ".join([GENOTYPE, *HAND_DESIGNED])
        raise ValueError(f"network: unknown {name!r}; possible: {possible}, or your own as package.module:Class")


def make_peer(name: str, channels: int, arguments: dict[str, Any]) -> nn.Module:
    """A network without a genotype: a hand-designed one by its name, or the user's own by its import name.

    Raises ValueError if there is no such network or it does not take the arguments.
    """
    check_name(name)
    if "channels" in arguments:
        raise ValueError("network_arguments: channels follows from the data's colour; leave it out")
    if name not in HAND_DESIGNED:
        return UserNetwork(name, channels, **arguments)
    try:
        network: nn.Module = HAND_DESIGNED[name](channels=channels, **arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"network_arguments: {name} cannot be built with {arguments} ({error})") from None
    # a training step of DnCNN on a busy CPU core: 114 ms instead of 186
    return network.to(memory_format=torch.channels_last)


def describe_network(network: nn.Module) -> dict[str, Any]:
    """The name, genotype and arguments of a network as plain values, from which ``rebuild_network`` makes it anew.

    Raises TypeError for a network that is none of this package's; wrap it in ``UserNetwork``.
    """
    if isinstance(network, DerivedNetwork):
        return {"network": GENOTYPE, "genotype": network.genotype.to_json(), "arguments": network.arguments()}
    if isinstance(network, UserNetwork):
        return {"network": network.name, "arguments": network.arguments()}
    for name, kind in HAND_DESIGNED.items():
        if isinstance(network, kind):
            return {"network": name, "arguments": kind.arguments(network)}
    raise TypeError(f"{type(network).__name__} cannot be saved as a network; wrap it in UserNetwork")


def rebuild_network(description: dict[str, Any], network_class: NetworkClass | str | None = None) -> nn.Module:
    """The network of a ``describe_network``, with new weights.

    A description may come from anywhere, so a user's class in it is never imported because of its name there: the
    caller passes ``network_class``, the class or its import name. Raises PermissionError if it is needed and missing,
    and KeyError, TypeError or ValueError if the description is damaged.
    """
    name, arguments = description.get("network", GENOTYPE), description["arguments"]
    check_name(name)
    if name == GENOTYPE:
        return DerivedNetwork(Genotype.from_json(description["genotype"]), **arguments)
    if name in HAND_DESIGNED:
        return make_peer(name, arguments["channels"], {k: value for k, value in arguments.items() if k != "channels"})
    if network_class is None:
        raise PermissionError(
            f"it holds weights of the class {name!r}, whose code is not run unasked; if you trust that code, add "
            f"network_class={name}"
        )
    return UserNetwork(network_class, **arguments)


def core(network: nn.Module) -> nn.Module:
    """The module whose weights are saved: a user's own network without its wrapper."""
    return network.network if isinstance(network, UserNetwork) else network


def multiply_adds(network: nn.Module) -> int:
    """Multiplications with an addition for each pixel of an image; what PyTorch's counter knows of a user's network."""
    if not isinstance(network, UserNetwork):
        return multiply_adds_per_pixel(network)
    parameter = next(network.parameters(), torch.zeros(()))
    counter = flop_counter.FlopCounterMode(display=False)
    mode = network.training
    with torch.no_grad(), counter:
        network.eval()(torch.zeros(1, network.channels, TRIED_SIDE, TRIED_SIDE).to(parameter))
    network.train(mode)
    return round(counter.get_total_flops() / (2 * TRIED_SIDE**2))
