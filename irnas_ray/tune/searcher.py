"""The bridge from Ray Tune to a study's ledger: its calls are passed on, and nothing is decided here.

Ray's own ``OptunaSearch`` records stopped trials as complete and NaN as running for ever, and knows nothing of seeds.
"""

import pickle
import sys
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from irnas_ray.hpo.ledger import Ledger


class StudySearch(Searcher):
    """Suggests to Tune what the ledger does, and tells the ledger what Tune says of its trials.

    Where the ledger's plan has rungs, this takes ``ConfigurationHalving`` as scheduler.
    """

    def __init__(self, ledger: Ledger) -> None:
        # Tune is not told the metrics: one that is missing from a report would end the whole study
        super().__init__()
        self.ledger = ledger
        #: Most trials at a time.
        self.limit = sys.maxsize

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """A configuration and one of its seeds; None while as many run as may or all do, FINISHED when all have ended.

        Tune saves that it heard of the end: told earlier it would ask no more for seeds that are lost with a driver.
        """
        suggested = self.ledger.suggest(trial_id, self.limit)
        return str(Searcher.FINISHED) if suggested is None and self.ledger.finished() else suggested

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Let at most so many trials run, not counting those that wait at a rung."""
        self.limit = max_concurrent
        return True

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep what a trial reported."""
        self.ledger.record(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note how a trial ended."""
        self.ledger.end(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Write a file, as Tune expects one; everything is in the study's storage."""
        Path(checkpoint_path).write_bytes(pickle.dumps(None))

    def restore(self, checkpoint_path: str) -> None:
        """Go on from the study's storage; Tune then names the trials that it still has."""
        self.ledger.load()
