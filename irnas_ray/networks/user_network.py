"""Networks of the user's own: imported by name, checked once, and asked no more than any other network."""

import importlib
import inspect
import json
import re
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

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

    >>> import torch
    >>> import irnas_ray as ir
    >>> network = ir.UserNetwork(torch.nn.Conv2d, channels=1, in_channels=1, out_channels=1, kernel_size=3, padding=1)
    >>> network(torch.rand(1, 1, 16, 16)).shape
    torch.Size([1, 1, 16, 16])
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
        raise ValueError(f"network: {name!r} is not an import name; write package.module:Class")
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
        raise ValueError(f"network: {name} is not a class")
    return found


def _takes_channels(network_class: NetworkClass) -> bool:
    try:
        return "channels" in inspect.signature(network_class).parameters
    except (TypeError, ValueError):
        return False
