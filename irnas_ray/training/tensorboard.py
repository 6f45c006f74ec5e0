"""Curves and sample images of a training as files for TensorBoard."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import torch
from jaxtyping import Float
from tensorboardX import SummaryWriter
from torch import Tensor, nn

from irnas_ray.degradations.factory import Degrade
from irnas_ray.evaluation.scores import EvaluationImage
from irnas_ray.networks.inference import restore
from irnas_ray.training.training import TrainingReport
from irnas_ray.training.validation import pairs_of

#: Images that are shown, and the largest side in pixels of what is shown of them.
SAMPLES, SIDE = 3, 192


class TrainingBoard:
    """Writes the loss, rate and scores of every report, and degraded, restored and clean images side by side.

    ``images`` and ``degradations`` are those of ``validation.validator``; the first ones' central parts are shown.
    ``step`` is the step from which a training goes on: TensorBoard then drops what an interrupted run wrote beyond it.
    Raises ValueError as ``validator`` if an image does not fit.

    >>> import torch
    >>> import irnas_ray as ir
    >>> from skimage import data
    >>> clean = torch.from_numpy(data.camera()[:64]).unfold(1, 64, 64).transpose(0, 1)[:, None]  # uint8
    >>> patches = ir.datasets.ResidentPatches(clean, None, batch=4, seed=0)
    >>> degrade = ir.make_degradation(ir.Degradation(sigmas=[25]))
    >>> batches = ir.TrainingBatches(patches, crop=32, degradation=degrade, seed=0)
    >>> images = [ir.datasets.ImageRecord("camera", data.camera()[None, 64:128, :64], None)]
    >>> validate = ir.validator(images, degradations=[25])
    >>> network = ir.DnCNN(channels=1, depth=3, width=4)
    >>> with ir.TrainingBoard("curves", images, degradations=[25]) as board:
    ...     report = ir.train(
    ...         network, batches, validate, steps=2, on_report=lambda report, training: board.write(report, network)
    ...     )
    """

    def __init__(
        self,
        folder: str | Path,
        images: Iterable[EvaluationImage] = (),
        degradations: Sequence[float | Degrade] = (),
        device: str | torch.device = "cpu",
        step: int = 0,
    ) -> None:
        self._samples = _samples(images, degradations, device)
        # a killed process takes along what the writer's thread has not written; its ``flush`` does not wait for that
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None, flush_secs=1)

    def __enter__(self) -> "TrainingBoard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, report: TrainingReport, network: nn.Module) -> None:
        """Write a report, and the samples as the network restores them now."""
        for step, loss in report.curve:
            self._writer.add_scalar("training/loss", loss, step)
        scalars = {"training/rate": report.rate, "validation/psnr": report.psnr, "validation/ssim": report.ssim}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, report.step)
        for name, (clean, degraded) in self._samples.items():
            shown = torch.cat([degraded, restore(network, degraded), clean], dim=-1).clamp(0, 1)
            self._writer.add_image(f"samples/{name}", shown.cpu().numpy(), report.step)


def _samples(
    images: Iterable[EvaluationImage], degradations: Sequence[float | Degrade], device: str | torch.device
) -> dict[str, tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w"]]]:
    samples = {}
    for image, _ in zip(images, range(SAMPLES), strict=False):
        clean, degraded = pairs_of(image, degradations[:1])[0]
        samples[image.image_id] = (_centre(clean).to(device), _centre(degraded).to(device))
    return samples


def _centre(image: Float[Tensor, "c h w"]) -> Float[Tensor, "c h2 w2"]:
    top, left = (max(0, (size - SIDE) // 2) for size in image.shape[-2:])
    return image[:, top : top + SIDE, left : left + SIDE]
