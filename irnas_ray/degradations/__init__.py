"""What is undone: white noise, a camera, the noise of raw images, and rain, seeded and on any device."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
