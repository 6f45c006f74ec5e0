"""How a trial's process takes up a checkpoint; apart from the rest, because every such process imports it."""

from typing import Any


class OutlivesCheckpoint:
    """What Tune calls a trial's function through: it is called also where the checkpoint to go on from is gone.

    Tune would count that as a failure of the trial, each time until none is left; the function can look for another
    checkpoint (``Reports.load``), because ``tune.get_checkpoint`` names the one that was to be.
    """

    def restore(self, checkpoint_path: Any) -> None:
        """Go on from a result with a checkpoint, as Tune's ``Trainable``."""
        trainable: Any = super()
        try:
            trainable.restore(checkpoint_path)
        except ValueError:
            # raised for nothing else, after the counts of the result were taken over
            trainable.load_checkpoint(checkpoint_path)
