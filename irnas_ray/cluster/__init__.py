"""The machines: connecting to Ray, what each node has, and what fits where."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
