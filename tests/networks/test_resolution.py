"""At how many pixels a network works: images of any size unshuffled and shuffled back, and a lower level."""

import pytest
import torch
from torch import nn

from irnas_ray.networks.resolution import Down, Up, shuffled, unshuffled

SIZES = [(1, 1), (1, 7), (2, 3), (5, 4), (8, 8), (9, 6)]


def mirrored(index: int, size: int) -> int:
    """Where a walk that turns back at both ends of 0 .. size - 1 is after ``index`` steps."""
    place, direction = 0, 1
    for _ in range(index):
        if not 0 <= place + direction < size:
            direction = -direction
        place = max(0, min(size - 1, place + direction))
    return place


@pytest.mark.parametrize("factor,step", [(1, 2), (2, 2), (2, 4), (4, 4), (4, 8)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_pixel_is_where_it_belongs(size, factor, step):
    height, width = size
    image = torch.rand(1, 2, height, width)
    low = unshuffled(image, factor, step)
    rows, columns = -(-height // step) * step, -(-width // step) * step
    assert low.shape == (1, 2 * factor**2, rows // factor, columns // factor)
    for channel in range(2):
        for row in range(rows):
            for column in range(columns):
                block = channel * factor**2 + row % factor * factor + column % factor
                found = low[0, block, row // factor, column // factor]
                assert found == image[0, channel, mirrored(row, height), mirrored(column, width)]
    assert torch.equal(shuffled(low, factor, height, width), image)


def test_what_needs_nothing_is_left_alone():
    image = torch.rand(1, 1, 6, 4)
    assert unshuffled(image, 1, 1) is image
    assert torch.equal(unshuffled(image, 2, 2), nn.functional.pixel_unshuffle(image, 2))


def test_a_lower_level_is_half_as_large_and_comes_back():
    features = torch.rand(2, 3, 8, 6)
    lower = Down(3)(features)
    assert lower.shape == (2, 6, 4, 3)
    assert Up(6, 3)(lower).shape == features.shape
