"""Whether a search was worth its time: the verdict, with intervals, and the page that shows it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
