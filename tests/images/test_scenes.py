"""Copies of a scene are found however they are saved, scaled or turned; other scenes are not taken for copies."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from irnas_ray.images import scenes as leakage
from irnas_ray.images.files import read_image
from irnas_ray.images.photographs import photograph_files

SHARED = Path(__file__).parents[3] / "shared" / "data"


def planes(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    def change(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, format="JPEG", quality=quality)
        return Image.open(file)

    return change


def scaled(factor: float, method: Image.Resampling) -> Callable[[Image.Image], Image.Image]:
    return lambda x: x.resize((round(x.width * factor), round(x.height * factor)), method)


def noisy(picture: Image.Image) -> Image.Image:
    pixels = np.asarray(picture).astype(float)
    pixels += np.random.default_rng(0).normal(0, 20, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 20": jpeg(20),
    "half size": scaled(0.5, Image.Resampling.BICUBIC),
    "a quarter, nearest neighbour, JPEG": lambda x: jpeg(50)(scaled(0.25, Image.Resampling.BOX)(x)),
    "larger": scaled(1.7, Image.Resampling.BILINEAR),
    "noise of sigma 20": noisy,
    "gray": lambda x: x.convert("L"),
    "darker": lambda x: x.point(lambda value: int(255 * (value / 255) ** 1.5)),
}


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    pictures = [Image.fromarray(read_image(path, "gray")[:, :, 0]) for path in photograph_files().values()]
    return [*pictures, Image.open(photograph_files()["chelsea"]).convert("RGB").rotate(90, expand=True)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(photographs, change):
    originals = [leakage.thumbnail(planes(picture)) for picture in photographs]
    copies = [leakage.thumbnail(planes(CHANGES[change](picture))) for picture in photographs]
    assert leakage.matches(originals, copies) == [(i, i) for i in range(len(photographs))]


def test_mirrored_and_turned_copies_are_found_if_asked_for(photographs):
    original = leakage.thumbnail(planes(photographs[0]))
    for turn in Image.Transpose:
        copy = leakage.thumbnail(planes(photographs[0].transpose(turn)))
        assert leakage.matches([original], [copy]) == []
        assert leakage.matches([original], [copy], turned=True) == leakage.matches([copy], [original], True) == [(0, 0)]
    # the last photograph is another one, turned
    chelsea = list(photograph_files()).index("chelsea")
    thumbnails = [leakage.thumbnail(planes(picture)) for picture in photographs]
    found = leakage.matches(thumbnails, thumbnails, turned=True)
    diagonal = [(i, i) for i in range(len(photographs))]
    last = len(photographs) - 1
    assert sorted(found) == sorted([*diagonal, (chelsea, last), (last, chelsea)])


def test_local_means_are_those_of_scipy():
    small = np.random.default_rng(0).uniform(0, 255, (32, 32)).astype(np.float32)
    expected = ndimage.uniform_filter(small, leakage.WINDOW, mode="nearest")
    np.testing.assert_allclose(leakage._local_mean(small), expected, rtol=1e-6)


def test_small_and_smooth_images_are_like_nothing():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8), (1, 64, 64))
    assert leakage.thumbnail(ramp) is None and leakage.thumbnail(np.zeros((3, 40, 40), np.uint8)) is None
    texture = np.random.default_rng(0).integers(0, 256, (3, 40, 40), dtype=np.uint8)
    known = leakage.thumbnail(texture)
    assert known is not None and leakage.thumbnail(texture[:, :15]) is None
    assert leakage.matches([None, known], [known, None]) == [(1, 0)]
    assert leakage.matches([], [known]) == leakage.matches([known], []) == []


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_matches_are_the_correlations_above_the_threshold(count, others, seed):
    random = np.random.default_rng(seed)
    base = random.integers(-127, 128, (32, 32))
    # mixtures of one thumbnail with noise: correlations of all sizes
    made = [
        np.clip(base * weight + random.integers(-127, 128, (32, 32)) * (1 - weight), -127, 127).astype(np.int8)
        for weight in random.uniform(0.2, 1, count + others)
    ]
    left, right = made[:count], made[count:]
    cosines = {
        (i, j): float(
            np.sum(a.astype(float) * b) / np.sqrt(np.sum(a.astype(float) ** 2) * np.sum(b.astype(float) ** 2))
        )
        for i, a in enumerate(left)
        for j, b in enumerate(right)
    }
    for few in (1, 2**40):  # each pair that may match alone, and all together
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(leakage, "_FEW", few)
            found = set(leakage.matches(left, right))
        assert found == {pair for pair, cosine in cosines.items() if cosine >= leakage.ALIKE}
    for i, (j, best) in enumerate(leakage.best_matches(left, right)):
        assert best == pytest.approx(max(cosines[i, k] for k in range(others)), abs=1e-5)
        assert best == pytest.approx(cosines[i, j], abs=1e-5)


@given(st.integers(1, 12), st.data())
def test_groups_are_the_connected_ones(count, data):
    pairs = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=15))
    linked = np.eye(count, dtype=bool)
    for i, j in pairs:
        linked[i, j] = linked[j, i] = True
    for _ in range(count):
        linked = linked @ linked
    labels = np.array(leakage.groups(count, pairs))
    assert np.array_equal(labels[:, None] == labels[None], linked)
    assert leakage.groups(0, []) == []


#: Rain800 training pair -> the BSDS500 test photograph whose scene it shows, re-encoded.
KNOWN = {"92": "226043", "238": "384022", "501": "296028", "517": "187058"}
#: Two shots of one view, and two views of one street: not copies.
UNLIKE = ("169", "331", "39", "222")


@pytest.mark.skipif(not (SHARED / "rain800").is_dir(), reason="the shared images are not here")
def test_real_leaks_are_found_and_similar_scenes_are_not():
    def half(path: Path) -> leakage.Thumbnail | None:
        pixels = read_image(path, "rgb").transpose(2, 0, 1)
        return leakage.thumbnail(pixels[:, :, : pixels.shape[2] // 2])

    rain = SHARED / "rain800"
    training = [half(rain / "training" / f"{name}.jpg") for name in ("460", *KNOWN, *UNLIKE)]
    test = half(rain / "test_syn" / "6.jpg")
    assert leakage.matches([test], training, turned=True) == [(0, 0)]
    paths = [SHARED / "bsd500" / "test" / f"{name}.jpg" for name in KNOWN.values()]
    photographs = [leakage.thumbnail(read_image(path, "rgb").transpose(2, 0, 1)) for path in paths]
    assert leakage.matches(training, photographs, turned=True) == [(i + 1, i) for i in range(len(KNOWN))]
    assert leakage.groups(len(training), leakage.matches(training, training)) == list(range(len(training)))
