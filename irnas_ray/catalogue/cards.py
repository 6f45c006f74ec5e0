"""The networks that ship with the package: NAME.pt and its card NAME.md, found by their names without loading PyTorch.

A card is Markdown with a YAML head as model hubs read it; what stands under ``irnas_ray`` in the head is read here.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from irnas_ray.system.exit_status import WrongSetting

#: Where they lie; a file and its card here are all that a further network needs.
FOLDER = Path(__file__).parent
NAME = r"[a-z0-9]+(-[a-z0-9]+)*"


@dataclass(frozen=True)
class ShippedNetwork:
    """A network that ships, as its card describes it."""

    name: str
    #: What it is for, in a line.
    summary: str
    #: 1 for gray images, 3 for colour.
    channels: int
    #: The kind of degradation that it undoes, as in ``Degradation.kind``.
    degradation: str
    #: Lowest and highest noise level (0-255 scale) that it was trained for; None where there is no white noise.
    sigma: tuple[float, float] | None
    #: Learned values.
    parameters: int

    @property
    def path(self) -> Path:
        """The file of its weights."""
        return FOLDER / f"{self.name}.pt"

    @property
    def card(self) -> Path:
        """The file that says what it was trained on, what it scores, and what it may be used for."""
        return FOLDER / f"{self.name}.md"


def shipped_networks() -> list[ShippedNetwork]:
    """The networks that ship, in order of their names; ValueError naming the card that is missing or faulty."""
    return [_read(path.with_suffix(".md")) for path in sorted(FOLDER.glob("*.pt"))]


def located(path: str | Path) -> Path:
    """The file of the network that ships under this name; the path itself if it is no such name, or a file here.

    ValueError if it could only be a name and no network has it.
    """
    name = str(path)
    if not re.fullmatch(NAME, name) or Path(path).exists():
        return Path(path)
    names = [network.stem for network in sorted(FOLDER.glob("*.pt"))]
    if name not in names:
        raise ValueError(f"{name}: there is no such file, and the networks that ship are {', '.join(names) or 'none'}")
    return FOLDER / f"{name}.pt"


def fitting_network(channels: int) -> ShippedNetwork:
    """The network for white noise of the widest range of levels that restores images of so many channels.

    For colour images it is one for gray images where there is none for colour. WrongSetting if none fits.
    """
    blind = [network for network in shipped_networks() if network.degradation == "gaussian" and network.sigma]
    fitting = [network for network in blind if network.channels in (channels, 1)]
    if not fitting:
        raise WrongSetting("network: is missing, and none that ships fits; give it as network=PATH")
    return max(fitting, key=lambda network: (network.channels, _width(network), network.name))


def _width(network: ShippedNetwork) -> float:
    return network.sigma[1] - network.sigma[0] if network.sigma else 0.0


def _read(card: Path) -> ShippedNetwork:
    try:
        text = card.read_text(encoding="utf-8")
    except OSError:
        raise ValueError(f"{card}: is missing; every network that ships has a card") from None
    head = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    try:
        own: dict[str, Any] = yaml.safe_load(head[1])["irnas_ray"] if head else {}
        sigma = own.get("sigma")
        levels = None if sigma is None else (float(sigma[0]), float(sigma[1]))
        return ShippedNetwork(
            card.stem,
            str(own["summary"]),
            int(own["channels"]),
            str(own["degradation"]),
            levels,
            int(own["parameters"]),
        )
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{card}: its head does not say what it must ({type(error).__name__}: {error})") from None
