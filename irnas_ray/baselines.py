"""Methods without a network, so that every score has something to be compared with."""

import logging

import torch
from jaxtyping import Float
from skimage.restoration import denoise_nl_means
from torch import Tensor

from irnas_ray.degradation import check_sigma
from irnas_ray.evaluation import Method
from irnas_ray.protocols import Protocol

logger = logging.getLogger(__name__)

# Channels -> patch size, search distance (pixels) and h as a multiple of sigma. Chosen by mean PSNR over 192x192 crops
# of scikit-image's camera, astronaut, chelsea and coffee, from patch sizes 3-13, distances 3-11 and h 0.3-0.8:
#   sigma                            30     50     70
#   gray: best for that sigma     28.45  26.03  24.40 dB
#   gray: these values            28.38  25.96  24.30 dB
#   RGB:  best for that sigma     29.27  26.89  25.38 dB  (without camera; distance at most 7)
#   RGB:  these values            29.11  26.88  25.27 dB
_NON_LOCAL_MEANS = {1: (9, 5, 0.6), 3: (7, 7, 0.5)}


def degraded_input(degraded: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    """Returns the degraded image as it is: the score that every method has to beat."""
    return degraded


def non_local_means(sigma: float) -> Method:
    """Returns scikit-image's fast non-local means for white noise of known level, with values tuned for quality.

    Args:
        sigma: Noise level on the 0-255 scale.

    Raises:
        ValueError: if sigma is negative or not finite.
    """
    level = check_sigma(sigma) / 255

    def method(degraded: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        if level == 0:
            return degraded
        patch, distance, strength = _NON_LOCAL_MEANS[len(degraded)]
        gray = len(degraded) == 1
        pixels = degraded.cpu().permute(1, 2, 0).numpy()
        restored = denoise_nl_means(
            pixels[..., 0] if gray else pixels,
            patch_size=patch,
            patch_distance=distance,
            h=strength * level,
            sigma=level,
            fast_mode=True,
            channel_axis=None if gray else -1,
        )
        return torch.from_numpy(restored.reshape(pixels.shape)).permute(2, 0, 1).to(degraded)

    return method


def baselines(protocol: Protocol, sigma: float | None) -> dict[str, Method]:
    """Returns the baselines that make sense under a protocol, by name; says in the log what is left out and why.

    Raises:
        ValueError: if the protocol adds noise and sigma is missing, negative or not finite.
    """
    methods: dict[str, Method] = {"degraded input": degraded_input}
    if protocol.degradation != "gaussian":
        logger.info("protocol %s: no non-local means, because it needs a noise level and none is stated", protocol.id)
    elif sigma is None:
        raise ValueError(f"protocol {protocol.id} needs a noise level sigma (0-255 scale)")
    else:
        methods["non-local means"] = non_local_means(sigma)
    return methods
