from .command import run as run
from .configuration import compose as compose
