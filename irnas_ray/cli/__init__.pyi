from .command_line import run as run
from .configuration import compose as compose
