"""A whole run on Ray: search trials, final trainings, scores, summary."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
