"""Architecture and hyperparameter search for image restoration on Ray: IR-NAS, and what grew from it."""

__version__ = "0.1.0"
