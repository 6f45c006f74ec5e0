"""Architecture and hyperparameter search for image restoration on Ray: IR-NAS, and what grew from it.

``import irnas_ray as ir`` loads nothing else; each name below is loaded when it is first used.
"""

import os

import lazy_loader

# Before torch is loaded: threads that wait for each other by spinning keep other processes from the cores, and, where
# these are busy, the very threads that they wait for.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
