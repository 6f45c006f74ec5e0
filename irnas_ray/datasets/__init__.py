"""Images as a Parquet data set: preparing, splitting, reading patches, and batches on the device."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
