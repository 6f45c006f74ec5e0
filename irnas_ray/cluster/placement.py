"""What a trial takes of the cluster, how many fit at a time, and why one that waits cannot be placed."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util import placement_group_table

from irnas_ray.cluster.internals import free_resources
from irnas_ray.settings.study import Cluster

#: Value of cluster.gpus_per_trial that lets a measurement decide.
AUTO = "auto"
#: Ray counts resources in ten-thousandths.
GRAIN = 10_000


@dataclass(frozen=True)
class Node:
    """CPUs and GPUs of a living node, and how many of them nobody holds."""

    address: str
    cpus: float
    gpus: float
    free_cpus: float
    free_gpus: float

    def __str__(self) -> str:
        gpus = f", {self.free_gpus:g} of {self.gpus:g} GPUs" if self.gpus else ", no GPU"
        return f"{self.address} has {self.free_cpus:g} of {self.cpus:g} CPUs{gpus} free"


def nodes() -> list[Node]:
    """The living nodes of the cluster."""
    free = free_resources()
    return [
        Node(
            node["NodeManagerAddress"],
            node["Resources"].get("CPU", 0),
            node["Resources"].get("GPU", 0),
            free.get(node["NodeID"], {}).get("CPU", 0),
            free.get(node["NodeID"], {}).get("GPU", 0),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def trial_resources(cluster: Cluster) -> dict[str, float]:
    """CPUs and GPUs of one trial; ValueError if no node has as many.

    With ``auto`` these are the resources of a trial that was not measured: a whole GPU where there is one.
    """
    gpus = cluster.gpus_per_trial
    living = nodes()
    if gpus is None or gpus == AUTO:
        gpus = 1 if any(node.gpus >= 1 for node in living) else 0
    wanted = {"cpu": float(cluster.cpus_per_trial), "gpu": float(gpus)}
    if not any(fitting(wanted, node.cpus, node.gpus) for node in living):
        have = "; ".join(f"{node.address}: {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in living)
        raise ValueError(
            f"cluster: a trial wants {wanted['cpu']:g} CPUs and {wanted['gpu']:g} GPUs on one node, but no node has as "
            f"many ({have}); lower cluster.cpus_per_trial or cluster.gpus_per_trial"
        )
    return wanted


def slots(resources: dict[str, float], most: int | None) -> int:
    """How many trials of these resources fit the cluster's nodes at a time, and never more than ``most``."""
    fit = sum(fitting(resources, node.cpus, node.gpus) for node in nodes())
    return max(1, min(fit, most or fit))


def fitting(resources: dict[str, float], cpus: float, gpus: float) -> int:
    """How many trials fit one node; a trial that takes a part of a GPU is never spread over two of them."""
    by_cpus = _whole(cpus / resources["cpu"]) if resources["cpu"] else GRAIN
    share = resources["gpu"]
    if not share:
        return by_cpus
    by_gpus = _whole(gpus) * _whole(1 / share) if share < 1 else _whole(gpus / share)
    return min(by_cpus, by_gpus)


def gpu_share(needed: float, totals: Iterable[float]) -> float:
    """The part of a GPU for a trial that needs so many bytes, such that the smallest of the GPUs holds what is packed.

    1 where not even one trial fits: it gets all there is.
    """
    together = max(1, int(min(totals) // needed)) if needed > 0 else 1
    # rounded down, or Ray would find the last of them not to fit
    return 1.0 if together == 1 else math.floor(GRAIN / together) / GRAIN


def explain_waiting(waiting: int, resources: dict[str, float], living: list[Node], seconds: float) -> str:
    """One sentence that says for what trials wait and what each node has free."""
    many = f"{waiting} trials have" if waiting > 1 else "a trial has"
    gpus = f" and {resources['gpu']:g} GPU{'s' if resources['gpu'] > 1 else ''}" if resources.get("gpu") else ""
    wanted = f"{resources.get('cpu', 0):g} CPU{'s' if resources.get('cpu', 0) != 1 else ''}{gpus}"
    text = f"{many} waited for {seconds:.0f} s for {wanted} on one node: {'; '.join(map(str, living)) or 'no node'}"
    if not any(fitting(resources, node.cpus, node.gpus) for node in living):
        return f"{text}; no node that is left is large enough, so add one, or stop and lower cluster.*_per_trial"
    if any(fitting(resources, node.free_cpus, node.free_gpus) for node in living):
        return f"{text}; there is room, so it is being started"
    return f"{text}; the rest is held by other trials or by other programs on this cluster"


def check_gpus(value: Any) -> None:
    """ValueError naming the setting unless it is null, ``auto``, a part of one GPU or a whole number of them."""
    if value is None or value == AUTO:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0 or (value > 1 and value != int(value)) or 0 < value < 1 / GRAIN:
        raise ValueError(f"cluster.gpus_per_trial: {value!r}; 0, a part of one such as 0.25, a whole number, or auto")


def _whole(number: float) -> int:
    # what Ray counts as equal is equal here
    return int(number + 0.5 / GRAIN)


class WaitingTrials:
    """Says why trials that could run are not placed: once they have waited for ``patience`` seconds, then rarely."""

    def __init__(self, patience: float = 30.0, again: float = 600.0) -> None:
        self.patience, self.again = patience, again
        self._since: dict[str, float] = {}
        self._silent_until = 0.0

    def explain(self, trials: Sequence[Any]) -> str | None:
        """The reason to be told now, given the Tune trials there are; None where there is nothing to tell."""
        now = time.monotonic()
        # a final training of several workers runs for Tune while its workers wait
        idle = [x for x in trials if x.status == "PENDING" or (x.status == "RUNNING" and not x.last_result)]
        self._since = {trial.trial_id: self._since.get(trial.trial_id, now) for trial in idle}
        longest = now - min(self._since.values(), default=now)
        if longest < self.patience or now < self._silent_until:
            return None
        # a trial that has its place is idle too, until its worker is up
        groups = unplaced()
        self._silent_until = now + (self.again if groups else self.patience / 2)
        if not groups:
            return None
        asked = max(groups[0], key=lambda bundle: (bundle.get("GPU", 0), bundle.get("CPU", 0)))
        wanted = {"cpu": asked.get("CPU", 0.0), "gpu": asked.get("GPU", 0.0)}
        return explain_waiting(min(len(groups), len(idle)), wanted, nodes(), longest)


def unplaced() -> list[list[dict[str, float]]]:
    """The bundles of each group of resources that the cluster was asked for and has not found a place for."""
    groups = placement_group_table().values()
    return [list(group["bundles"].values()) for group in groups if group["state"] == "PENDING"]
