"""Any image comes back in its own kind and size; tiles rejoin without seams; the self-ensemble is the mean of eight."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from irnas_ray.genotypes.cell import Edge
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.genotypes.macro import Macro
from irnas_ray.networks import inference
from irnas_ray.networks.derived import DerivedNetwork
from irnas_ray.networks.inference import restore, restored_bands, restorer


class Identity(nn.Module):
    """Returns its input and remembers which batches it saw."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.seen: list[tuple[int, ...]] = []
        self.modes: list[bool] = []

    def forward(self, image):
        self.seen.append(tuple(image.shape))
        self.modes.append(self.training)
        return image


def _convolutions(channels: int = 1) -> nn.Module:
    """Three 3x3 convolutions, so that a pixel depends on its surroundings up to 3 pixels away."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(4, channels, 3, padding=1), nn.Sigmoid())


sizes = st.integers(1, 40)


@settings(max_examples=80, deadline=None)
@given(height=sizes, width=sizes, tile=st.integers(1, 45), overlap=st.integers(0, 9), batch=st.integers(1, 2))
def test_tiles_rejoin(height, width, tile, overlap, batch):
    images = torch.arange(batch * 2 * height * width, dtype=torch.float32).view(batch, 2, height, width) / 6400
    network = Identity(2)
    restored = restore(network, images, tile, overlap)
    torch.testing.assert_close(restored, images, atol=1e-6, rtol=0)
    assert overlap or torch.equal(restored, images)
    tile_height, tile_width = (min(size, min(tile, size) + 2 * overlap) for size in (height, width))
    assert {shape[2:] for shape in network.seen} == {(tile_height, tile_width)}
    assert sum(shape[0] for shape in network.seen) == batch * -(-height // tile) * -(-width // tile)


def test_tiles_without_overlap_are_the_expected_parts():
    """The paper's way: adjoining tiles, the last row and column shifted inwards; where two cover a pixel, the last."""
    image = torch.rand(1, 7, 10)
    expected = torch.zeros(1, 7, 10)
    for y in (0, 3):
        for x in (0, 4, 6):
            part = image[:, y : y + 4, x : x + 4]
            expected[:, y : y + 4, x : x + 4] = 0.5 * part + 0.5 * part.mean()
    torch.testing.assert_close(restore(_Haze(), image, tile=4), expected)
    torch.testing.assert_close(restore(_Haze(), image, tile=64), 0.5 * image + 0.5 * image.mean())


class _Haze(nn.Module):
    """Sees everything: half of each pixel is the mean of its whole tile."""

    def forward(self, image):
        return 0.5 * image + 0.5 * image.mean(dim=(1, 2, 3), keepdim=True)


def test_no_seams_between_tiles_of_a_network_that_sees_further():
    """The means of two tiles differ, and the result goes from one to the other in even steps."""
    image = torch.zeros(1, 48, 48)
    image[:, :, 40:] = 1
    left, right = image[:, :, :40].mean(), image[:, :, 8:].mean()  # both are cut 24 + 2 * 8 wide
    difference = (restore(_Haze(), image, tile=24, overlap=8) - 0.5 * image)[0, 24]
    # Over half the overlap, four pixels, centred on column 24 where the tiles adjoin.
    share = torch.zeros(48)
    share[22:26] = torch.tensor([0.125, 0.375, 0.625, 0.875])
    share[26:] = 1
    torch.testing.assert_close(difference, 0.5 * (left + (right - left) * share))
    hard = (restore(_Haze(), image, tile=24) - 0.5 * image)[0, 24]
    assert difference.diff().abs().max() < 0.3 * (right - left) * 0.5 < hard.diff().abs().max()


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 200), tile=st.integers(1, 90), overlap=st.integers(0, 40))
def test_every_pixel_counts_once_and_far_from_the_cut(size, tile, overlap):
    spans = inference._spans(size, tile, overlap)
    total, context = torch.zeros(size), overlap - overlap // 4
    for span in spans:
        total[span.place] += span.weight
        used = span.weight.nonzero().flatten()
        assert span.start == 0 or used[0] >= context
        assert span.start + len(span.weight) == size or len(span.weight) - 1 - used[-1] >= context
    torch.testing.assert_close(total, torch.ones(size))


@pytest.mark.parametrize("size", [(37, 50), (5, 60), (16, 16)])
def test_enough_overlap_makes_tiles_equal_to_the_whole(size):
    network, image = _convolutions(), torch.rand(1, *size)
    whole = restore(network, image)
    for overlap in (3, 4):
        torch.testing.assert_close(restore(network, image, tile=16, overlap=overlap), whole, atol=1e-6, rtol=0)
    if min(size) > 16:
        assert not torch.allclose(restore(network, image, tile=16, overlap=2), whole, atol=1e-6)
        assert not torch.allclose(restore(network, image, tile=16), whole, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 200), tile=st.integers(1, 90), overlap=st.integers(0, 40), step=st.sampled_from([2, 3, 4, 8])
)
def test_tiles_begin_where_blocks_do_and_reach_as_far(size, tile, overlap, step):
    usual, spans = (inference._spans(size, tile, overlap, of) for of in (1, step))
    assert len({len(span.weight) for span in spans}) == 1 and len(usual) == len(spans)
    for before, span in zip(usual, spans, strict=True):
        assert span.start % step == 0 and span.start <= before.start
        assert before.place.stop <= span.place.stop <= size
        inside = slice(before.start - span.start, before.place.stop - span.start)
        torch.testing.assert_close(span.weight[inside], before.weight)
        assert span.weight.sum() == pytest.approx(before.weight.sum().item())


@pytest.mark.parametrize("unshuffle", [2, 3])
def test_tiles_of_a_network_at_a_lower_resolution_are_those_of_the_whole(unshuffle):
    torch.manual_seed(0)
    macro = Macro(unshuffle, "none", aspp=False, low_level=False, head="plain")
    cell = ((Edge(0, "conv"), Edge(1, "skip")),)
    network = DerivedNetwork(Genotype((cell,), (0,), (1,), macro), channels=1, width=4)
    image = torch.rand(1, 61, 100)
    whole = restore(network, image)
    overlap = 6 * unshuffle
    torch.testing.assert_close(restore(network, image, tile=17, overlap=overlap), whole, atol=1e-6, rtol=0)


def test_too_little_overlap_only_shows_near_the_borders_of_tiles():
    """A pixel differs from the whole image's only where the network looks beyond a tile that counts there."""
    network, image = _convolutions(), torch.rand(1, 48, 48)
    difference = (restore(network, image, tile=16, overlap=1) - restore(network, image)).abs()[0]
    touched = torch.zeros(48, dtype=torch.bool)
    for border in (16, 32):
        touched[border - 2 : border + 2] = True
    assert difference[~touched][:, ~touched].max() < 1e-6 and difference[touched].max() > 1e-4


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(sizes, sizes),
    tile=st.none() | st.integers(1, 45),
    overlap=st.integers(0, 9),
    step=st.sampled_from([1, 4]),
    ensemble=st.booleans(),
)
def test_bands_adjoin_to_what_is_restored_at_once_and_ask_for_few_rows(size, tile, overlap, step, ensemble):
    network, asked = _convolutions(3), []
    network.pixel_step = step
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)

    def rows(start: int, stop: int) -> np.ndarray:
        asked.append(stop - start)
        return image[start:stop]

    bands = list(restored_bands(network, rows, size[0], tile, overlap, ensemble))
    np.testing.assert_allclose(np.concatenate(bands), restore(network, image, tile, overlap, ensemble), atol=1e-6)
    assert max(asked) <= (size[0] if tile is None else tile + 2 * overlap + 2 * (step - 1))
    assert len(asked) == (1 if tile is None else -(-size[0] // tile)) and all(len(band) for band in bands)


def test_bands_leave_modes_alone_and_refuse_what_does_not_fit():
    network = _convolutions(3).train()
    for band in restored_bands(network, lambda start, stop: np.ones((stop - start, 5, 3), np.uint8), 9, 4, 1):
        assert network.training and not torch.is_inference_mode_enabled() and band.shape[1:] == (5, 3)
    with pytest.raises(ValueError, match="restores gray images"):
        next(restored_bands(Identity(1), lambda start, stop: np.zeros((stop - start, 5, 3), np.uint8), 9, 4))


@pytest.mark.parametrize("tile", [None, 16])
def test_self_ensemble_is_the_mean_over_the_symmetries_of_the_square(tile):
    network, image = _convolutions(), torch.rand(1, 21, 30)
    expected = torch.zeros(21, 30)
    for turns in range(4):
        for mirrored in (False, True):
            view = np.rot90(image[0].numpy(), turns)
            view = view[:, ::-1] if mirrored else view
            result = restore(network, np.ascontiguousarray(view))
            result = result[:, ::-1] if mirrored else result
            expected += torch.from_numpy(np.rot90(result, -turns).copy()) / 8
    actual = restore(network, image, tile, overlap=3, self_ensemble=True)
    torch.testing.assert_close(actual[0], expected, atol=1e-6, rtol=0)
    assert not torch.allclose(actual, restore(network, image), atol=1e-4)


def test_self_ensemble_averages_before_it_clips():
    class Bright(nn.Module):
        """Twice too bright where the image has its mark on the left, black where not."""

        def forward(self, image):
            return torch.full_like(image, 2.0) * (image[..., 0, 0] > 0.5).view(-1, 1, 1, 1)

    image = torch.zeros(1, 6, 6)
    image[0, 0, 0] = 1
    torch.testing.assert_close(restore(Bright(), image, self_ensemble=True), torch.full((1, 6, 6), 0.5))


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (7, 5, 1), (7, 5, 3), (3, 70, 3), (130, 3)])
@pytest.mark.parametrize("tile", [None, 4, 64])
def test_numpy_images_keep_their_layout(shape, tile):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    restored = restore(Identity(shape[2] if len(shape) == 3 else 1), image, tile)
    assert type(restored) is np.ndarray and restored.dtype == np.float32 and restored.shape == shape
    np.testing.assert_allclose(restored, image / np.float32(255), atol=1e-7)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 20, 31), (2, 3, 20, 31)])
@pytest.mark.parametrize("tile", [None, 8])
def test_tensors_keep_their_layout(shape, tile):
    image = torch.rand(shape, requires_grad=True)
    restored = restore(Identity(shape[-3]), image, tile, overlap=1)
    torch.testing.assert_close(restored, image.detach(), atol=1e-6, rtol=0)
    assert not restored.requires_grad and not restored.is_inference()


def test_number_formats_mean_the_same_picture():
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    expected = restore(Identity(3), image)
    same = [image.astype(np.uint16) * 257, (image.astype(np.uint16) * 257).astype(">u2"), image / 255, image[:, ::-1]]
    for other in same:
        other.setflags(write=False)
        restored = restore(Identity(3), other)
        np.testing.assert_allclose(restored[:, ::-1] if other is same[-1] else restored, expected, atol=1e-6)
    np.testing.assert_allclose(
        restore(Identity(3), torch.from_numpy(image).permute(2, 0, 1)), expected.transpose(2, 0, 1)
    )


def test_output_is_clipped():
    restored = restore(Identity(1), np.array([[-0.5, 0.25, 1.5]], dtype=np.float32))
    assert restored.tolist() == [[0, 0.25, 1]]


def test_memory_is_bounded_by_batches(monkeypatch):
    monkeypatch.setitem(inference.BATCH_PIXELS, "cpu", 5 * 64)
    network = Identity(1)
    image = torch.rand(1, 64, 64)
    assert torch.equal(restore(network, image, tile=8), image)
    assert max(shape[0] for shape in network.seen) == 5 and sum(shape[0] for shape in network.seen) == 64
    restore(network, image)
    assert network.seen[-1] == (1, 1, 64, 64)


def test_training_modes_are_as_before_even_after_a_failure():
    network = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1), Identity(1)).train()
    network[1].eval()
    before = network[0].running_mean.clone()
    restore(network, torch.rand(1, 8, 8))
    assert network[2].modes == [False]
    assert torch.equal(network[0].running_mean, before)
    with pytest.raises(RuntimeError):
        restore(nn.Sequential(network, nn.Conv2d(2, 1, 1)), torch.rand(1, 8, 8))
    assert [module.training for module in network.modules()] == [True, True, False, True]


def test_double_precision_networks_get_what_they_need():
    assert restore(_convolutions().double(), torch.rand(1, 8, 8)).dtype == torch.float32


def test_restorer_fills_in_network_and_tiles():
    network, image = _convolutions(), torch.rand(1, 20, 20)
    assert torch.equal(restorer(network, tile=8, overlap=2)(image), restore(network, image, tile=8, overlap=2))
    assert torch.equal(restorer(network, None, 0, True)(image), restore(network, image, self_ensemble=True))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((8, 8, 3), np.uint8),
            r"restores gray images \(1 channel\); the image has 3; use a network for colour",
        ),
        (np.zeros((8, 8), np.int32), "int32"),
        (np.zeros((8, 8), bool), "bool"),
        (torch.zeros(1, 8, 8, dtype=torch.int64), "int64"),
        (np.full((8, 8), np.nan), "NaN"),
        (np.full((8, 8), np.inf), "infinite"),
        (np.full((8, 8), 200.0), "divide by 255"),
        (np.zeros((0, 8), np.uint8), "empty"),
        (np.zeros((1, 1, 8, 8), np.uint8), "expected numpy"),
        (torch.zeros(8, 8), "expected numpy"),
    ],
)
def test_images_that_cannot_be_restored_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        restore(Identity(1), image)


def test_gray_image_for_a_colour_network_and_impossible_tiles_are_refused():
    with pytest.raises(ValueError, match="restores colour images .3 channels.; the image has 1"):
        restore(Identity(3), np.zeros((8, 8), np.uint8))
    for tile, overlap in ((0, 0), (-1, 0), (4, -1)):
        with pytest.raises(ValueError, match="tile must be at least 1"):
            restore(Identity(1), np.zeros((8, 8), np.uint8), tile, overlap)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_network_on_the_gpu_takes_images_from_the_cpu():
    network, image = _convolutions(), torch.rand(1, 40, 30)
    expected = restore(network, image)
    restored = restore(network.cuda(), image, tile=16, overlap=3)
    assert restored.device.type == "cpu"
    torch.testing.assert_close(restored, expected, atol=1e-3, rtol=0)
