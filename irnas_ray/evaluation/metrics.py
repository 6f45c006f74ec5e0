"""How close a restored image is to the clean one: PSNR, SSIM and the luma on which de-raining is scored."""

import functools
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

#: Side in pixels and standard deviation of SSIM's Gaussian window (Wang et al. 2004).
WINDOW, WINDOW_SIGMA = 11, 1.5

#: Which windows SSIM is the mean over: those inside the image, or one around every pixel, with zeros beyond the border.
Border = Literal["cropped", "zero_padded"]
BORDERS: tuple[Border, ...] = get_args(Border)


def psnr(prediction: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Returns each image's peak signal-to-noise ratio in dB for data range 1; infinite where the images are equal.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> import torch
        >>> import irnas_ray as ir
        >>> clean = torch.full((2, 1, 16, 16), 0.5)
        >>> [round(value, 2) for value in ir.psnr(clean + 0.1, clean).tolist()]
        [20.0, 20.0]
    """
    _check_shapes(prediction, target)
    prediction, target = _full_precision(prediction), _full_precision(target)
    return -10 * torch.log10((prediction - target).square().mean(dim=(1, 2, 3)))


def ssim(
    prediction: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], border: Border = "cropped"
) -> Float[Tensor, " b"]:
    """Returns each image's structural similarity (at most 1) for data range 1, the mean over pixels and channels.

    Wang et al. 2004: Gaussian window 11x11 of sigma 1.5, K1 = 0.01, K2 = 0.03. Computed in double precision, because
    the variances of flat images are differences of almost equal numbers. Differentiable.

    Args:
        prediction: Restored images.
        target: Clean images.
        border: cropped counts windows that lie inside the image only, as scikit-image does. zero_padded counts one
            around every pixel with zeros beyond the border, as the code of many papers does; it is about
            0.01 higher on denoised images.

    Raises:
        ValueError: if the shapes differ, an image is smaller than the window, or the border is another.

    Example:
        >>> import torch
        >>> import irnas_ray as ir
        >>> image = torch.rand(1, 1, 16, 16)
        >>> round(ir.ssim(image, image).item(), 3)
        1.0
    """
    kind = torch.promote_types(_full_precision(prediction).dtype, target.dtype)
    return fast_ssim(prediction.double(), target.double(), border).to(kind)


def fast_ssim(
    prediction: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], border: Border = "cropped"
) -> Float[Tensor, " b"]:
    """As ``ssim``, but in the images' own precision, at least single: for a loss, whose gradient it does not change.

    In single precision flat images are up to 2e-4 off, and may exceed 1.
    """
    _check_shapes(prediction, target)
    zeros = WINDOW // 2 if known_border(border) == "zero_padded" else 0
    if min(prediction.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels, got {tuple(prediction.shape[-2:])}")
    x, y = _full_precision(prediction), _full_precision(target)
    # The variances enter only as a sum, so one filtered x^2 + y^2 serves for both.
    with torch.autocast(x.device.type, enabled=False):
        moments = _blur(torch.cat([x, y, x * x + y * y, x * y], dim=1), zeros)
    mean_x, mean_y, mean_squares, mean_product = moments.chunk(4, dim=1)
    product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * product + c1) / (squares + c1)
    structure = (2 * (mean_product - product) + c2) / (mean_squares - squares + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def known_border(name: object) -> Border:
    """The treatment of borders of that name; ValueError that lists the possible ones."""
    if name not in BORDERS:
        raise ValueError(f"ssim: {name!r}; possible: {', '.join(BORDERS)}")
    return BORDERS[BORDERS.index(name)]


def luma(rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Returns Y of ITU-R BT.601 in studio swing: [0, 1] goes to [16/255, 235/255], as de-raining papers score it."""
    red, green, blue = rgb.split(1, dim=1)
    return (65.481 * red + 128.553 * green + 24.966 * blue + 16) / 255


def _check_shapes(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ValueError(f"shapes differ: prediction {tuple(prediction.shape)}, target {tuple(target.shape)}")


def _full_precision(image: Tensor) -> Tensor:
    # Variances are differences of almost equal numbers, which half precision cannot hold.
    return image if image.dtype == torch.float64 else image.float()


@functools.lru_cache(maxsize=16)
def _window(dtype: torch.dtype, device: torch.device) -> Float[Tensor, " k"]:
    distance = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weight = torch.exp(-distance.square() / (2 * WINDOW_SIGMA**2))
    return (weight / weight.sum()).to(device, dtype)


def _blur(images: Float[Tensor, "b n h w"], zeros: int) -> Float[Tensor, "b n h2 w2"]:
    """Filters all channels with the Gaussian window where it lies inside the image and so many zeros around it."""
    channels = images.shape[1]
    # Copied, because a window first made in inference mode could not take part in a gradient itself.
    window = _window(images.dtype, images.device).repeat(channels, 1, 1, 1)
    # Contiguous, because channels-last input would go to cuDNN and its TF32, too coarse for the variances.
    rows = conv2d(images.contiguous(), window, padding=(0, zeros), groups=channels)
    return conv2d(rows, window.view(channels, 1, WINDOW, 1), padding=(zeros, 0), groups=channels)
