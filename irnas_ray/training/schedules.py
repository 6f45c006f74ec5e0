"""How long a training lasts, and how its rate changes over that."""

import math
from dataclasses import dataclass

SCHEDULES = ("cosine", "polynomial", "constant")
#: Into so many equal parts a wall-clock budget is divided; each ends with a validation and a checkpoint.
PARTS = 10


@dataclass(frozen=True)
class Budget:
    """What a training may use: a number of steps, or minutes of wall-clock time.

    Raises ValueError unless exactly one is given and is positive.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError(f"steps: {self.steps}, minutes: {self.minutes}; give one of both")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps: {self.steps}; at least 1")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"minutes: {self.minutes}; more than 0")

    def used(self, step: int, seconds: float) -> float:
        """The share that is used up after so many steps and seconds, in [0, 1]."""
        if self.minutes is not None:
            return min(1.0, seconds / (60 * self.minutes))
        assert self.steps is not None
        return min(1.0, step / self.steps)

    def part(self, used: float) -> int:
        """The number of the part of a wall-clock budget that a share used lies in; steps are not divided."""
        return 0 if self.minutes is None else int(PARTS * used)

    def describe(self, step: int, seconds: float) -> str:
        """Where a training stands, in words."""
        if self.minutes is not None:
            return f"step {step}, {seconds / 60:.1f}/{self.minutes:g} min"
        return f"step {step}/{self.steps}"


def check_schedule(schedule: str, warmup: float) -> None:
    """ValueError naming the setting unless there is such a schedule and ``warmup`` is in [0, 1)."""
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule: unknown {schedule!r}; possible: {', '.join(SCHEDULES)}")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup: {warmup}; a share of the training from 0 to below 1")


def rate_factor(schedule: str, used: float, warmup: float = 0.0) -> float:
    """What the initial rate is multiplied by when a share ``used`` of the budget is used up.

    It rises linearly from 0 to 1 over the share ``warmup``, and then follows the schedule: `cosine` to zero (Loshchilov
    and Hutter 2017, without restarts), `polynomial` with power 0.9 to zero, or `constant`.
    """
    if used < warmup:
        return used / warmup
    done = (used - warmup) / (1 - warmup)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return (1 - done) ** 0.9 if schedule == "polynomial" else 1.0
