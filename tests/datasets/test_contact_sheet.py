"""The contact sheet shows the patches themselves, degraded beside clean."""

from pathlib import Path

import numpy as np
import pytest
from picture_cases import noisy, save, save_halves, scene
from PIL import Image

from irnas_ray.datasets import contact_sheet
from irnas_ray.datasets.contact_sheet import COLUMNS, PATCHES, SIDE, Cell, draw, unused, write_contact_sheet
from irnas_ray.images.sources import SourceImage
from irnas_ray.settings.degradations import Degradation


def cells_on(sheet: Path, count: int, wide: int) -> list[list[np.ndarray]]:
    """The pixels of each cell's sides, at the places where `draw` puts them."""
    pixels = np.asarray(Image.open(sheet))
    left, top = contact_sheet._MARGIN, contact_sheet._HEAD
    step_x = wide * (SIDE + contact_sheet._GAP) + contact_sheet._MARGIN
    step_y = SIDE + contact_sheet._LABEL + contact_sheet._MARGIN
    cells = []
    for number in range(count):
        x, y = left + number % COLUMNS * step_x, top + number // COLUMNS * step_y
        starts = [x + side * (SIDE + contact_sheet._GAP) for side in range(wide)]
        cells.append([pixels[y : y + SIDE, start : start + SIDE] for start in starts])
    return cells


def occurs(patch: np.ndarray, picture: np.ndarray) -> bool:
    """Whether a patch, enlarged on the sheet by a whole factor, is somewhere in a picture."""
    small = patch[:: SIDE // 32, :: SIDE // 32]
    windows = np.lib.stride_tricks.sliding_window_view(picture, small.shape).reshape(-1, *small.shape)
    return bool((windows == small).all(axis=(1, 2, 3)).any())


def test_patches_of_training_pairs_are_shown_degraded_beside_clean(tmp_path):
    found = []
    for index in range(15):
        save_halves(tmp_path / f"{index}.png", scene(index), noisy(scene(index), index))
        found.append(SourceImage(str(index), "test" if index < 3 else "train", tmp_path / f"{index}.png", halves=True))
    write_contact_sheet(tmp_path / "sheet.png", found, "rgb", 32)
    cells = cells_on(tmp_path / "sheet.png", PATCHES, 2)
    assert len(found) - 3 == PATCHES
    for index, (degraded, clean) in enumerate(cells, 3):
        assert occurs(clean, scene(index)) and occurs(degraded, noisy(scene(index), index))
    before = (tmp_path / "sheet.png").read_bytes()
    with pytest.raises(FileExistsError):
        write_contact_sheet(tmp_path / "sheet.png", found, "rgb", 32)
    assert (tmp_path / "sheet.png").read_bytes() == before


def test_clean_images_are_degraded_as_in_training(tmp_path):
    found = []
    for index in range(2):
        save(tmp_path / f"{index}.png", np.full((64, 64, 1), 100 + index, np.uint8))
        found.append(SourceImage(str(index), "train", tmp_path / f"{index}.png"))
    write_contact_sheet(tmp_path / "noisy.png", found, "gray", 64, Degradation(sigmas=[20]))
    for index, (degraded, clean) in enumerate(cells_on(tmp_path / "noisy.png", 2, 2)):
        assert (clean == 100 + index).all()
        difference = degraded[::3, ::3, 0].astype(float) - clean[::3, ::3, 0]
        assert abs(difference.mean()) < 1.5 and difference.std() == pytest.approx(20, rel=0.05)
    write_contact_sheet(tmp_path / "clean.png", found, "gray", 64)
    assert all((cell[0] == 100 + i).all() for i, cell in enumerate(cells_on(tmp_path / "clean.png", 2, 1)))


def test_large_patches_shrink_and_long_names_keep_their_ends():
    large = np.repeat(scene(0, 192, 192), 2, axis=0).repeat(2, axis=1).transpose(2, 0, 1)
    sheet = draw([Cell("folder/" * 40 + "name", large, None)], "title")
    x, y = contact_sheet._MARGIN, contact_sheet._HEAD
    shown = np.asarray(sheet)[y : y + SIDE, x : x + SIDE]
    assert np.array_equal(shown, scene(0, 192, 192))
    # the label stays under its patch
    assert (np.asarray(sheet)[y + SIDE :, x + SIDE + contact_sheet._GAP + 2 :] == 255).all()


def test_an_unused_name_is_numbered(tmp_path):
    path = tmp_path / "sheet.png"
    assert unused(path) == path
    path.touch()
    (tmp_path / "sheet-2.png").touch()
    assert unused(path).name == "sheet-3.png"
