"""A search trial without a supernet: the network of one genotype is trained for some epochs and validated."""

from collections.abc import Iterable

from torch import nn

from irnas_ray.datasets.batches import Batch, State
from irnas_ray.settings.study import Final, Search
from irnas_ray.training.training import Training, TrainingReport
from irnas_ray.training.validation import Validate


class ShortTraining(Training):
    """A training by the recipe of final networks that lasts ``search.epochs * search.steps_per_epoch`` steps.

    Each ``run`` trains up to the next of ``search.validate_every`` epochs. The schedule is that of all epochs: a trial
    that is stopped at a rung was trained so far as one that goes on, and all are compared there under the same rates.
    Arguments and errors as for ``Training``.
    """

    def __init__(
        self, network: nn.Module, batches: Iterable[Batch], validate: Validate, final: Final, search: Search
    ) -> None:
        steps, every = search.epochs * search.steps_per_epoch, search.validate_every * search.steps_per_epoch
        super().__init__(network, batches, validate, final, steps=steps, minutes=None, validate_every=every)
        self.search = search
        #: ``psnr`` and ``ssim`` of the last validation.
        self.scores: dict[str, float] = {}

    @property
    def epoch(self) -> int:
        """Epochs that are finished."""
        return self.step // self.search.steps_per_epoch

    def run(self) -> TrainingReport:
        """Train up to the next validation and validate. Raises FloatingPointError if the loss is not finite."""
        report = super().run()
        self.scores = {"psnr": report.psnr, "ssim": report.ssim}
        return report

    def state_dict(self) -> State:
        """Everything that the rest of the training depends on."""
        return super().state_dict() | {"epoch": self.epoch, "scores": self.scores}

    def load_state_dict(self, state: State) -> None:
        """Continue from a ``state_dict``; ValueError if it belongs to another network."""
        super().load_state_dict(state)
        self.scores = dict(state["scores"])
