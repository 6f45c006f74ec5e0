"""The discrete architecture: cells, levels, decoding from alpha and beta, and the paper's genotypes as files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
