from .cards import ShippedNetwork as ShippedNetwork
from .cards import fitting_network as fitting_network
from .cards import shipped_networks as shipped_networks
