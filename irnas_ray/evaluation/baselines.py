"""Methods without a network, so that every score has something to be compared with."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import lazy_loader
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from irnas_ray.degradations.gaussian import check_sigma
from irnas_ray.evaluation.protocols import Protocol
from irnas_ray.evaluation.scores import Method

# loaded when first used, with much of SciPy: a study's driver leaves the work to a worker
pywt = lazy_loader.load("pywt", suppress_warning=True)
restoration = lazy_loader.load("skimage.restoration", suppress_warning=True)

logger = logging.getLogger(__name__)

#: Pixels (h w) or (h w 3) with data range 1, and the noise's standard deviation on that range -> restored pixels.
Denoiser = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Baseline:
    """A denoiser for white noise of known level."""

    #: What it is called in tables.
    label: str
    #: Its parameters in words, for results; what is called sigma is the known level.
    parameters: str
    denoise: Denoiser


# Chosen by mean PSNR over 192x192 crops of scikit-image's camera (gray only), astronaut, chelsea and coffee. A sigma's
# own best values gain at most 0.16 dB over these. On the crops at the centre:
#   sigma                  30     50     70              30     50     70
#   non-local means     27.83  25.46  23.80 dB   RGB  28.47  26.23  24.59 dB
#   wavelet             27.12  24.94  23.59           28.31  26.01  24.62
#   total variation     27.45  25.34  23.99           27.49  25.44  24.12

#: Channels -> patch size, search distance (pixels) and h as a multiple of sigma; from patch sizes 3-13, distances 3-11
#: (RGB: 3-7) and h 0.3-0.8.
_NON_LOCAL_MEANS = {1: (9, 5, 0.6), 3: (7, 7, 0.5)}
#: From haar, db2, sym4, sym8 and bior4.4 with 3, 4 and 5 levels; without cycle spinning it loses 1 dB.
_WAVELET, _LEVELS, _SHIFTS = "db2", 4, 3
#: From 0.6-2.5. The iteration's own stopping rule (2e-4) stops so early that the score jumps from weight to weight.
_TV_WEIGHT, _TV_EPS, _TV_ITERATIONS = 0.9, 1e-5, 400


def _non_local_means(pixels: np.ndarray, level: float) -> np.ndarray:
    patch, distance, strength = _NON_LOCAL_MEANS[3 if pixels.ndim == 3 else 1]
    return restoration.denoise_nl_means(
        pixels,
        patch_size=patch,
        patch_distance=distance,
        h=strength * level,
        sigma=level,
        fast_mode=True,
        channel_axis=-1 if pixels.ndim == 3 else None,
    )


def _wavelet(pixels: np.ndarray, level: float) -> np.ndarray:
    colour = pixels.ndim == 3
    shrink = partial(
        restoration.denoise_wavelet,
        sigma=level,
        wavelet=_WAVELET,
        mode="soft",
        wavelet_levels=max(1, min(_LEVELS, pywt.dwtn_max_level(pixels.shape[:2], _WAVELET))),
        method="BayesShrink",
        convert2ycbcr=colour,
        # in YCbCr, whose values are rescaled, the level has to follow
        rescale_sigma=colour,
        channel_axis=-1 if colour else None,
    )
    return restoration.cycle_spin(pixels, shrink, (_SHIFTS, _SHIFTS, 0) if colour else _SHIFTS, workers=1)


def _total_variation(pixels: np.ndarray, level: float) -> np.ndarray:
    return restoration.denoise_tv_chambolle(
        pixels,
        weight=_TV_WEIGHT * level,
        eps=_TV_EPS,
        max_num_iter=_TV_ITERATIONS,
        channel_axis=-1 if pixels.ndim == 3 else None,
    )


def _bm3d(pixels: np.ndarray, level: float) -> np.ndarray:
    import bm3d

    # In colour, blocks are matched on the luminance of the opponent colour space (Dabov et al. 2007).
    return bm3d.bm3d_rgb(pixels, level) if pixels.ndim == 3 else bm3d.bm3d(pixels, level)


#: Name on the command line -> the baseline; the remaining ones are the input as it is: `degraded` and `bicubic`.
DENOISERS: dict[str, Baseline] = {
    "non_local_means": Baseline(
        "non-local means",
        "scikit-image, fast mode, sigma known; patch 9, distance 5, h 0.6 sigma; RGB: patch 7, distance 7, h 0.5 sigma",
        _non_local_means,
    ),
    "wavelet": Baseline(
        "wavelet",
        "scikit-image, sigma known; BayesShrink, soft, db2, 4 levels, cycle spinning over 4x4 shifts; RGB: in YCbCr",
        _wavelet,
    ),
    "tv": Baseline(
        "total variation",
        "scikit-image, Chambolle; weight 0.9 sigma, eps 1e-5, at most 400 iterations",
        _total_variation,
    ),
    "bm3d": Baseline("BM3D", "package bm3d, sigma known, profile np, both stages; RGB: bm3d_rgb", _bm3d),
}

#: The name of every baseline on the command line.
NAMES = ("degraded", "bicubic", *DENOISERS)
DEGRADED_LABEL = "degraded input"
#: Under protocols of super-resolution the input is enlarged already.
BICUBIC_LABEL = "bicubic"


def degraded_input(degraded: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    """Returns the degraded image as it is: the score that every method has to beat."""
    return degraded


def denoiser(name: str, sigma: float) -> Method:
    """Returns a baseline for white noise of known level; it can be sent to other processes.

    Args:
        name: non_local_means, wavelet, tv or bm3d.
        sigma: Noise level on the 0-255 scale; zero returns the input.

    Raises:
        ValueError: if the name is unknown, sigma is negative or not finite, or the package bm3d is missing.
    """
    if name not in DENOISERS:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(NAMES)}")
    level = check_sigma(sigma) / 255
    if name == "bm3d":
        _need_bm3d()
    return partial(_denoise, name, level)


def non_local_means(sigma: float) -> Method:
    """Returns scikit-image's fast non-local means for white noise of known level, with values tuned for quality.

    Args:
        sigma: Noise level on the 0-255 scale.

    Raises:
        ValueError: if sigma is negative or not finite.
    """
    return denoiser("non_local_means", sigma)


def baselines(protocol: Protocol, sigma: float | None) -> dict[str, Method]:
    """Returns the quick baselines that make sense under a protocol, by label; says in the log what is left out and why.

    Raises:
        ValueError: if the protocol adds noise and sigma is missing, negative or not finite.
    """
    label = BICUBIC_LABEL if protocol.degradation == "downscale" else DEGRADED_LABEL
    methods: dict[str, Method] = {label: degraded_input}
    if protocol.degradation != "gaussian":
        logger.info("protocol %s: no non-local means, because it needs a noise level and none is stated", protocol.id)
    elif sigma is None:
        raise ValueError(f"protocol {protocol.id} needs a noise level sigma (0-255 scale)")
    else:
        methods["non-local means"] = non_local_means(sigma)
    return methods


def named_baselines(names: list[str], protocol: Protocol, sigma: float | None) -> dict[str, Method]:
    """Returns the baselines of these names, by label.

    Where the protocol adds no white noise of known level, sigma is what the denoisers are told, and the labels say so.

    Raises:
        ValueError: if a name is unknown or listed twice, sigma is needed and missing or out of range, or the package
            bm3d is missing.
    """
    methods: dict[str, Method] = {}
    for name in names:
        label, method = _named(name, protocol, sigma)
        if label in methods:
            raise ValueError(f"method: {name} is listed twice")
        methods[label] = method
    return methods


def _named(name: str, protocol: Protocol, sigma: float | None) -> tuple[str, Method]:
    if name == "degraded":
        return DEGRADED_LABEL, degraded_input
    if name == "bicubic":
        if protocol.degradation != "downscale":
            raise ValueError(f"method bicubic enlarges images, protocol {protocol.id} does not; use degraded")
        return BICUBIC_LABEL, degraded_input
    if name in DENOISERS and sigma is None:
        raise ValueError(
            f"method {name} removes white noise of known level; protocol {protocol.id} states none: give "
            "sigma=LEVEL (0-255 scale)"
        )
    method = denoiser(name, sigma or 0.0)
    assumed = "" if protocol.degradation == "gaussian" else f" (sigma {sigma:g})"
    return DENOISERS[name].label + assumed, method


def is_baseline(label: str) -> bool:
    """Whether a method of a table, by its label, is one of the baselines."""
    return label in (DEGRADED_LABEL, BICUBIC_LABEL) or parameters_of(label) is not None


def parameters_of(label: str) -> str | None:
    """The parameters of the denoiser with this label, in words; None for anything else."""
    name = label.partition(" (sigma ")[0]
    return next((known.parameters for known in DENOISERS.values() if known.label == name), None)


def _denoise(name: str, level: float, degraded: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    if level == 0:
        return degraded
    # bm3d computes in double precision, and the others lose nothing by it.
    pixels = degraded.cpu().double().permute(1, 2, 0).numpy()
    restored = DENOISERS[name].denoise(pixels[..., 0] if len(degraded) == 1 else pixels, level)
    return torch.from_numpy(np.ascontiguousarray(restored).reshape(pixels.shape)).permute(2, 0, 1).to(degraded)


def _need_bm3d() -> None:
    try:
        import bm3d  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"method bm3d: the package bm3d cannot be imported ({error}); install it with "
            "pip install 'irnas_ray[bm3d]' (free for non-commercial use)"
        ) from None
