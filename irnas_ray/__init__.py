"""Architecture and hyperparameter search for image restoration on Ray: IR-NAS, and what grew from it.

Rooms, top to bottom; each may import only from those below it:

* Ray layer: ``study``, ``trial``, ``finals``, ``patches``, ``report``
* loops (no Ray): ``searching``, ``training``, ``inference``, ``batches``
* networks: ``supernet``, ``network``, ``operations``, ``losses``
* facts: ``genotype``, ``degradation``, ``metrics``, ``deformable``, ``settings``
"""

__version__ = "0.1.0"
