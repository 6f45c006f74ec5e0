"""The work of `irnas-ray networks`."""

from irnas_ray.catalogue.cards import shipped_networks
from irnas_ray.settings.commands import NetworksConfig
from irnas_ray.system.exit_status import WrongSetting


def print_networks(config: NetworksConfig) -> None:
    """Print the networks that ship, one a line, or the card of the one that is named; ValueError if there is none."""
    networks = {network.name: network for network in shipped_networks()}
    if config.network:
        if config.network not in networks:
            raise WrongSetting(f"network: {config.network} does not ship; possible: {', '.join(networks) or 'none'}")
        print(networks[config.network].card.read_text(encoding="utf-8").rstrip())
        return
    width = max(map(len, networks), default=0)
    for name, network in networks.items():
        color = "gray" if network.channels == 1 else "RGB"
        print(f"{name:<{width}}  {network.summary} ({color}, {network.parameters:,} parameters)")
    print(
        "a name stands wherever a network.pt does, as in network=NAME; irnas-ray networks network=NAME prints its card"
    )
