"""What a camera does to a picture after demosaicing, but for its bilateral filters: median, unsharp mask, JPEG."""

import io
import math

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.nn import functional

from irnas_ray.degradations.colors import to_bits


def plus_median(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The median of each pixel and its four neighbours, channel by channel; border pixels are repeated outwards."""
    padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    a, b = padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]
    c, d = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    # The least and the greatest of the four neighbours cannot be the median of five: ten comparisons instead of a sort.
    low = torch.maximum(torch.minimum(a, b), torch.minimum(c, d))
    high = torch.minimum(torch.maximum(a, b), torch.maximum(c, d))
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    return torch.maximum(low, torch.minimum(high, image))


def gaussian_blur(image: Float[Tensor, "b c h w"], sigma: float) -> Float[Tensor, "b c h w"]:
    """Convolution with a Gaussian of ``sigma`` pixels, cut at three sigma; border pixels are repeated outwards."""
    radius = math.ceil(3 * sigma)
    ramp = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (ramp / sigma) ** 2)
    kernel = kernel / kernel.sum()
    planes = image.reshape(-1, 1, *image.shape[-2:])
    padded = functional.pad(planes, (radius, radius, radius, radius), mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, -1, 1))
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1)).view(image.shape)


def unsharp_mask(
    image: Float[Tensor, "b c h w"], amount: Float[Tensor, " b"], sigma: float, threshold: float
) -> Float[Tensor, "b c h w"]:
    """Adds ``amount`` times the difference to the blurred image where it exceeds the threshold.

    Args:
        image: Images in [0, 1].
        amount: Strength for each image; 0 changes nothing.
        sigma: Of the Gaussian blur, in pixels.
        threshold: Smallest difference that is sharpened, on the scale of ``image``.
    """
    detail = image - gaussian_blur(image, sigma)
    return image + amount.to(image).view(-1, 1, 1, 1) * detail * (detail.abs() > threshold)


def jpeg(srgb: Float[Tensor, "b c h w"], quality: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """What JPEG, of RGB with 4:2:0 chroma, leaves of 8-bit images of 1 or 3 channels.

    Every image has its own quality (1-95, Pillow's scale).

    Pillow compresses on the CPU, image by image: on a GPU the batch travels to the host and back.
    """
    pixels = (to_bits(srgb, 8) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    decoded = []
    for picture, level in zip(pixels, quality.tolist(), strict=True):
        file = io.BytesIO()
        plain = picture[:, :, 0] if picture.shape[2] == 1 else picture
        Image.fromarray(plain).save(file, format="JPEG", quality=level, subsampling="4:2:0")
        decoded.append(np.asarray(Image.open(file)).reshape(picture.shape))
    return torch.from_numpy(np.stack(decoded)).to(srgb.device).permute(0, 3, 1, 2).to(srgb.dtype) / 255
