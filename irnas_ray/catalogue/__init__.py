"""The networks that ship: a file NAME.pt and a card NAME.md each, which lie here."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
