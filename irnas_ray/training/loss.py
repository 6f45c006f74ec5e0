"""The loss that the search and the final training minimise."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from irnas_ray.evaluation.metrics import fast_ssim

#: SSIM below this counts as this: an untrained network's SSIM may be zero or negative, where the logarithm is
#: undefined. At the floor the SSIM term has no gradient, and the squared error leads on alone.
SSIM_FLOOR = 0.01


def restoration_loss(
    prediction: Float[Tensor, "b c h w"],
    target: Float[Tensor, "b c h w"],
    ssim_weight: float = 0.5,
    average: Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]] | None = None,
) -> Float[Tensor, ""]:
    """Returns mean squared error + ssim_weight * log10(1 / SSIM), always finite for finite images (eq. 7 and 8).

    SSIM is the mean over the batch, never below ``SSIM_FLOOR``. A weight of 0 leaves SSIM out altogether.

    Args:
        prediction: Restored images, about [0, 1]; not clipped, because clipping would stop the gradient.
        target: Clean images in [0, 1], at least 11x11 pixels unless ssim_weight is 0.
        ssim_weight: lambda of eq. 7. Paper: 0.5.
        average: Makes means over this batch those of a larger one of which it is a part (``distributed.joint_mean``).

    Raises:
        ValueError: if the shapes differ or images are smaller than SSIM's window.

    Example:
        >>> import torch
        >>> import irnas_ray as ir
        >>> clean = torch.rand(2, 1, 16, 16)
        >>> round(ir.restoration_loss(clean + 0.1, clean, ssim_weight=0).item(), 4)
        0.01
    """
    if prediction.shape != target.shape:
        raise ValueError(f"shapes differ: prediction {tuple(prediction.shape)}, target {tuple(target.shape)}")
    error = mse_loss(prediction.to(torch.promote_types(prediction.dtype, target.dtype)), target)
    means = torch.stack([error] if ssim_weight == 0 else [error, fast_ssim(prediction, target).mean()])
    if average is not None:
        means = average(means)
    if ssim_weight == 0:
        return means[0]
    return means[0] - ssim_weight * torch.log10(means[1].clamp(min=SSIM_FLOOR))
