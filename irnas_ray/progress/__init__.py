"""What is shown while a study runs: a live table, or plain lines in a log."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
