from .connection import connect as connect
from .placement import Node as Node
from .placement import nodes as nodes
from .placement import trial_resources as trial_resources
