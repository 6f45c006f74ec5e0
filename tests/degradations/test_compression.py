"""JPEG as a degradation: Pillow's, of the quality that was drawn."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from irnas_ray.degradations.compression import JpegCompression
from irnas_ray.settings.degradations import Compression


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_what_pillow_makes_of_it_at_one_quality(channels):
    picture = data.astronaut()[:41, 90:150, :channels]
    batch = torch.from_numpy(picture.transpose(2, 0, 1).copy() / 255).float().expand(60, -1, -1, -1)
    squeezed = JpegCompression(Compression([10, 13]))(batch, torch.Generator().manual_seed(0))
    possible = []
    for quality in (10, 11, 12, 13):
        file = io.BytesIO()
        Image.fromarray(picture.squeeze()).save(file, format="JPEG", quality=quality, subsampling="4:2:0")
        possible.append(np.asarray(Image.open(file)).reshape(picture.shape).transpose(2, 0, 1))
    pixels = (squeezed * 255).round().byte().numpy()
    found = [[index for index, known in enumerate(possible) if np.array_equal(image, known)] for image in pixels]
    assert all(len(indices) >= 1 for indices in found)
    assert {indices[0] for indices in found} == {0, 1, 2, 3}


@pytest.mark.parametrize("quality", [[0, 10], [10, 96], [30, 20], [10.5, 20], [10]])
def test_impossible_qualities_are_named(quality):
    with pytest.raises(ValueError, match="jpeg.quality: "):
        JpegCompression(Compression(quality))
