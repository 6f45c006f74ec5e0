"""At how many pixels a network works: unshuffled images of any size, and a lower level between two layers."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def unshuffled(image: Float[Tensor, "b c h w"], factor: int, step: int) -> Float[Tensor, "b out low_h low_w"]:
    """The image with blocks of ``factor`` x ``factor`` pixels as channels; sides grow to multiples of ``step`` first.

    What is added at the bottom and on the right mirrors the image, as often as its size asks for.
    """
    height, width = image.shape[-2:]
    rows, columns = -height % step, -width % step
    if rows or columns:
        image = image[..., _mirrored(height, rows, image.device), :][..., _mirrored(width, columns, image.device)]
    return F.pixel_unshuffle(image, factor) if factor > 1 else image


def shuffled(
    features: Float[Tensor, "b c low_h low_w"], factor: int, height: int | torch.SymInt, width: int | torch.SymInt
) -> Tensor:
    """What ``unshuffled`` did undone, cut to the image's size, which is a symbol where a network is exported."""
    image = F.pixel_shuffle(features, factor) if factor > 1 else features
    return image[..., :height, :width]


def _mirrored(size: int, more: int, device: torch.device) -> Tensor:
    """Indices 0 .. size - 1 and ``more`` beyond, which turn back at the border without repeating it."""
    period = max(1, 2 * size - 2)
    index = torch.arange(size + more, device=device) % period
    return torch.minimum(index, period - index)


class Down(nn.Module):
    """Half the resolution and twice the channels, by a 2x2 convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, 2 * width, 2, stride=2)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        return self.convolution(features)


class Up(nn.Module):
    """The full resolution and ``outputs`` channels again, by a 1x1 convolution and a pixel-shuffle."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, 4 * outputs, 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        return F.pixel_shuffle(self.convolution(features), 2)
