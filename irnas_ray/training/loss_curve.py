"""The training loss, averaged over short stretches of steps."""

import math

from jaxtyping import Float
from torch import Tensor

#: Steps over which the loss of a point is averaged.
STRETCH = 50


class LossCurve:
    """Collects the loss of every step on its device; it is read rarely, because each reading waits for the device."""

    def __init__(self) -> None:
        self._stretches: list[tuple[int, int, Tensor]] = []

    def add(self, step: int, loss: Float[Tensor, ""]) -> None:
        """Take in the loss of a step."""
        if not self._stretches or self._stretches[-1][1] == STRETCH:
            self._stretches.append((step, 1, loss))
        else:
            _, count, total = self._stretches[-1]
            self._stretches[-1] = (step, count + 1, total + loss)

    def points(self) -> tuple[tuple[int, float], ...]:
        """The last step of every stretch and its mean loss."""
        return tuple((step, float(total) / count) for step, count, total in self._stretches)

    def mean(self) -> float:
        """The mean loss of all steps; 0 where there were none."""
        steps = sum(count for _, count, _ in self._stretches)
        return math.fsum(float(total) for _, _, total in self._stretches) / max(1, steps)
