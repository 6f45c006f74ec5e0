from .commands import export_network as export_network
from .exported_network import ExportedNetwork as ExportedNetwork
from .exported_network import load_any as load_any
from .exported_network import load_exported as load_exported
from .plain_network import plain as plain
