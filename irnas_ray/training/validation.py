"""The score by which networks are compared while they are searched and trained."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from irnas_ray.degradations.downscale import BicubicDownscaling
from irnas_ray.degradations.factory import Degrade, degrade_image
from irnas_ray.evaluation.metrics import WINDOW, psnr, ssim
from irnas_ray.evaluation.scores import EvaluationImage
from irnas_ray.images.depth import unit_range
from irnas_ray.networks.inference import restore

#: Scores a network: a dict with ``psnr`` in dB and ``ssim``.
Validate = Callable[[nn.Module], dict[str, float]]

#: Most images of one size that are restored and scored together; bounds the memory.
IMAGES_AT_A_TIME = 16
#: Side in pixels that the middle of a validation image keeps where images are not restored in tiles.
SMALLEST_MIDDLE = 64
#: What a weight or architecture step costs for each of its pixels, in forward passes; measured with the supernet on a
#: CPU.
PASSES_PER_STEP = 2.3


def validator(
    images: Iterable[EvaluationImage],
    degradations: Sequence[float | Degrade] = (),
    tile: int | None = 64,
    device: str | torch.device = "cpu",
    pixels: int | None = None,
) -> Validate:
    """Returns ``validate(network) -> {"psnr": dB, "ssim": ...}``, means over the images and all degradations.

    Degraded images are made once, here, with random numbers fixed by the image's name, and stay on the device: two
    calls differ by the network alone.

    Args:
        images: Records with ``image_id``, ``clean`` and ``degraded`` (uint8 or uint16, c h w); pairs are scored as is.
        degradations: Each is scored, on images without a degraded half: levels of white noise (0-255 scale), or others.
        tile: Side in pixels of the tiles in which images are restored; None: whole. Paper: 64.
        device: Where images are kept and scored; best the network's.
        pixels: Most pixels that are scored in all, see ``middles``; None: all.

    Raises:
        ValueError: if there are no images, an image is smaller than SSIM's 11x11 window, its halves differ in size,
            or it has neither a degraded half nor a degradation.

    Example:
        >>> from skimage import data
        >>> import irnas_ray as ir
        >>> images = [ir.datasets.ImageRecord("camera", data.camera()[None, :64, :64], None)]
        >>> validate = ir.validator(images, degradations=[25])
        >>> scores = validate(ir.DnCNN(channels=1, depth=3, width=4))  # untrained: it changes nothing
        >>> round(scores["psnr"], 1)
        20.3
    """
    by_size: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
    chosen = [pair for image in images for pair in pairs_of(image, degradations)]
    if not chosen:
        raise ValueError("no images to validate on")
    step = max([1, *(made.factor for made in degradations if isinstance(made, BicubicDownscaling))])
    side = max(tile or SMALLEST_MIDDLE, WINDOW)
    for clean, degraded in chosen if pixels is None else middles(chosen, pixels, side, step):
        by_size[tuple(clean.shape)].append((clean, degraded))
    # Images of one size are scored together, which keeps a GPU busy.
    batches = [
        tuple(torch.stack(images).to(device) for images in zip(*part, strict=True))
        for pairs in by_size.values()
        for part in (pairs[start : start + IMAGES_AT_A_TIME] for start in range(0, len(pairs), IMAGES_AT_A_TIME))
    ]

    def validate(network: nn.Module) -> dict[str, float]:
        scores = []
        for clean, degraded in batches:
            restored = restore(network, degraded, tile)
            scores.append(torch.stack([psnr(restored, clean), ssim(restored, clean)]))
        means = torch.cat(scores, dim=1).double().mean(dim=1).tolist()
        return {"psnr": means[0], "ssim": means[1]}

    return validate


def pairs_of(
    image: EvaluationImage, degradations: Sequence[float | Degrade]
) -> list[tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w"]]]:
    """(clean, degraded) of a record, once for each degradation unless it is a pair; raises as ``validator``."""
    clean = unit_range(torch.tensor(image.clean))
    if min(clean.shape[-2:]) < WINDOW:
        raise ValueError(f"validation image {image.image_id} is {tuple(clean.shape)}, smaller than {WINDOW}x{WINDOW}")
    if image.degraded is None:
        if not degradations:
            raise ValueError(f"validation image {image.image_id} has no degraded half, and no noise level makes it one")
        return [(clean, degrade_image(clean, image.image_id, degradation)) for degradation in degradations]
    degraded = unit_range(torch.tensor(image.degraded))
    if degraded.shape != clean.shape:
        raise ValueError(f"validation image {image.image_id}: clean and degraded halves differ in size")
    return [(clean, degraded)]


def validation_pixels(share: float, steps: int, batch: int, crop: int) -> int | None:
    """Pixels that a validation may score to take ``share`` of the arithmetic of a search; None for a share of 1.

    Args:
        share: In (0, 1].
        steps: Weight steps between two validations, each with an architecture step.
        batch, crop: Patches of a step, and their side in pixels.
    """
    return None if share == 1 else int(share / (1 - share) * 2 * PASSES_PER_STEP * steps * batch * crop**2)


def middles(
    pairs: Sequence[tuple[Tensor, Tensor]], pixels: int, side: int, step: int = 1
) -> list[tuple[Tensor, Tensor]]:
    """The middles of images, ``pixels`` in all; where each would be under ``side``, of fewer images, spread over all.

    Args:
        pairs: (clean, degraded), each (c h w).
        pixels: About so many in all; at least a square of ``side`` of one image.
        side: Least height and width in pixels that is kept of an image which has as many.
        step: Middles begin at multiples of it, where the pixels of a smaller image that was enlarged do.
    """
    count = min(len(pairs), max(1, pixels // side**2))
    kept = [pairs[index * len(pairs) // count] for index in range(count)]
    share = min(1.0, pixels / sum(clean.shape[-2] * clean.shape[-1] for clean, _ in kept))

    def middle(image: Tensor) -> Tensor:
        height, width = (max(min(length, side), int(length * share**0.5)) for length in image.shape[-2:])
        top, left = ((image.shape[-2] - height) // 2 // step * step, (image.shape[-1] - width) // 2 // step * step)
        return image[..., top : top + height, left : left + width]

    return [(middle(clean), middle(degraded)) for clean, degraded in kept]
