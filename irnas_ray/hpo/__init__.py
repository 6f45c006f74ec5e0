"""What is proposed and what continues, with Optuna and without Ray: domains, samplers, objectives, rungs, storage."""

import warnings

import lazy_loader

# lists, such as those of architecture.multipliers, are kept as JSON and come back as they were; Optuna warns of them
# again for every trial that is proposed or read
warnings.filterwarnings("ignore", "Choices for a categorical distribution should be", UserWarning)
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
