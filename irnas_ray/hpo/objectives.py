"""What configurations are compared by, the score and what the final network costs, and what that may be at most."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from irnas_ray.hpo.rungs import Values, dominates

#: The metric that compares trials: the validation PSNR of the supernet and, at the end, of the proxy if there is one.
SCORE = "score"
#: The metric of the latency; measured only where it is asked for.
LATENCY = "seconds_per_megapixel"


@dataclass(frozen=True)
class Objective:
    """What a trial reports under ``metric``, whether more of it is better, and how tables show it."""

    name: str
    metric: str
    maximise: bool
    label: str
    digits: int = 0

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """What Optuna calls it."""
        return "maximize" if self.maximise else "minimize"


#: What configurations can be compared by, by name.
OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("score", SCORE, True, "score (dB)", 2),
        Objective("parameters", "parameters", False, "parameters"),
        Objective("multiply_adds", "multiply_adds_per_pixel", False, "multiply-adds per pixel"),
        Objective("latency", LATENCY, False, "seconds per megapixel", 3),
    )
}


@dataclass(frozen=True)
class Limits:
    """What the final network of a configuration may cost at most."""

    #: Metric of the cost -> the most that is allowed.
    most: Mapping[str, float]
    #: What is known of a configuration's costs before any work.
    known: Callable[[Mapping[str, Any]], Mapping[str, float]]
    #: Whether that is what its network will cost, or only what none of its networks is below.
    exact: bool

    def excess(self, costs: Mapping[str, Any]) -> dict[str, float]:
        """By which share each cost exceeds its limit: above zero where it does."""
        return {metric: costs[metric] / most - 1 for metric, most in self.most.items() if metric in costs}

    def name_of(self, metric: str) -> str:
        """What the constraint that is known before any work is called in the Optuna study."""
        return metric if self.exact else f"least {metric}"


def objectives_of(names: Sequence[str]) -> list[Objective]:
    """The objectives of these names; ValueError if one is unknown or named twice, or the score is not among them."""
    unknown = [name for name in names if name not in OBJECTIVES]
    if unknown:
        raise ValueError(f"tune.objectives: unknown {unknown[0]!r}; possible: {', '.join(OBJECTIVES)}")
    if len(set(names)) < len(names):
        raise ValueError(f"tune.objectives: {list(names)} names one twice")
    if "score" not in names:
        raise ValueError("tune.objectives: score is missing, without which the smallest network would be the best")
    return [OBJECTIVES[name] for name in names]


def pareto_front(points: Sequence[Values], maximise: Sequence[bool]) -> list[int]:
    """The places of the points that no other dominates, in their order."""
    return [
        place for place, point in enumerate(points) if not any(dominates(other, point, maximise) for other in points)
    ]
