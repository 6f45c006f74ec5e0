"""Which network is trained: that of a genotype, DnCNN, or one of the user's own; built from a name."""

import importlib
import inspect
import json
import re
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.networks.derived import DerivedNetwork, multiply_adds_per_pixel
from irnas_ray.networks.dncnn import DnCNN

#: The name of networks that a genotype describes.
GENOTYPE = "genotype"
#: Hand-designed networks by their names.
HAND_DESIGNED = {"dncnn": DnCNN}
#: What names a class of the user's own.
IMPORT_NAME = r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*"
#: Side in pixels of the image on which a user's network is tried.
TRIED_SIDE = 64

NetworkClass = Callable[..., nn.Module]


class UserNetwork(nn.Module):
    """A network of the user's own, checked once, with what this package asks of every network.

    ``network_class`` is the class, or its import name ``package.module:Class``; it is called with ``arguments``, and
    with ``channels`` where it has a parameter of that name. It must take and give images (b c h w) in [0, 1] of one
    shape. Raises ValueError if it cannot be imported or built, fails on a 64x64 image, or changes the image's shape.
    """

    def __init__(self, network_class: NetworkClass | str, channels: int, **arguments: Any) -> None:
        super().__init__()
        if isinstance(network_class, str):
            network_class = import_class(network_class)
        self.name = f"{network_class.__module__}:{network_class.__qualname__}"
        self.channels = channels
        self._arguments = {"channels": channels, **arguments}
        keywords = self._arguments if _takes_channels(network_class) else arguments
        try:
            json.dumps(arguments)
            self.network = network_class(**keywords)
        except (TypeError, ValueError) as error:
            raise ValueError(f"network_arguments: {self.name} cannot be built with {keywords} ({error})") from None
        self._try()

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The restored image of a degraded one."""
        return self.network(image)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments besides the class, as plain values."""
        return dict(self._arguments)

    def _try(self) -> None:
        image = torch.zeros(1, self.channels, TRIED_SIDE, TRIED_SIDE)
        mode = self.network.training
        try:
            with torch.no_grad():
                shape = tuple(self.network.eval()(image).shape)
        except Exception as error:  # the user's code may raise anything
            raise ValueError(
                f"network: {self.name} fails on an image {tuple(image.shape)} ({type(error).__name__}: {error})"
            ) from error
        finally:
            self.network.train(mode)
        if shape != tuple(image.shape):
            raise ValueError(f"network: {self.name} makes {shape} of an image {tuple(image.shape)}; shapes must agree")


def import_class(name: str) -> NetworkClass:
    """The class that ``package.module:Class`` names; importing runs the module, so never call this for a file's sake.

    Raises ValueError naming what is missing.
    """
    if not re.fullmatch(IMPORT_NAME, name):
        raise ValueError(f"network: {name!r} is no import name; write package.module:Class")
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"network: {name} cannot be imported ({error}); install it, or name its folder in PYTHONPATH"
        ) from None
    if not callable(found):
        raise ValueError(f"network: {name} is no class")
    return found


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
    counter = FlopCounterMode(display=False)
    mode = network.training
    with torch.no_grad(), counter:
        network.eval()(torch.zeros(1, network.channels, TRIED_SIDE, TRIED_SIDE).to(parameter))
    network.train(mode)
    return round(counter.get_total_flops() / (2 * TRIED_SIDE**2))


def _takes_channels(network_class: NetworkClass) -> bool:
    try:
        return "channels" in inspect.signature(network_class).parameters
    except (TypeError, ValueError):
        return False
