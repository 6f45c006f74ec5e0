"""Every setting as a typed dataclass: of a study, of the other commands, of each degradation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
