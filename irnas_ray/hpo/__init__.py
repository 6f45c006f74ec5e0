"""What is proposed and what continues, with Optuna and without Ray: domains, samplers, objectives, rungs, storage."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
