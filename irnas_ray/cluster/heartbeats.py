"""Where workers leave their signs of life: an actor whose process loads no more than Ray."""

import ray


@ray.remote(num_cpus=0, max_restarts=-1)
class Heartbeats:
    """How many signs of life each trial has given, and the pickled handles of the workers that give them."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        #: By worker: one may work for several trials, one after the other.
        self._workers: dict[str, tuple[str, bytes]] = {}

    def beat(self, trial: str, worker: str, handle: bytes) -> None:
        """Note a sign of life of a trial's worker."""
        self._counts[trial] = self._counts.get(trial, 0) + 1
        self._workers[worker] = trial, handle

    def counts(self) -> dict[str, int]:
        """The signs of every trial."""
        return self._counts

    def take_workers(self, trial: str) -> list[bytes]:
        """The workers of a trial, which are forgotten."""
        found = [worker for worker, (own, _) in self._workers.items() if own == trial]
        return [self._workers.pop(worker)[1] for worker in found]
