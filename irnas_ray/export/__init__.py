"""Networks in files of other tools: ONNX and torch.export, written, checked and read back."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
