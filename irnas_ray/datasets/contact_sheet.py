"""One picture of what a network will see: patches of training images, degraded beside clean."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt, UInt8
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from irnas_ray.images.depth import Depth, unit_range
from irnas_ray.images.sources import SourceImage
from irnas_ray.settings.degradations import Degradation
from irnas_ray.system.files import written

CONTACT_SHEET = "contact_sheet.png"
#: Patches on a sheet, how many side by side, and the side of each in pixels.
PATCHES, COLUMNS, SIDE = 12, 3, 192
_MARGIN, _GAP, _LABEL, _HEAD = 12, 2, 18, 44
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


@dataclass(frozen=True)
class Cell:
    """A patch: where it is from, and its pixels (c, h, w) in 8 bits; `degraded` is None where nothing degrades it."""

    label: str
    clean: UInt8[np.ndarray, "c h w"]
    degraded: UInt8[np.ndarray, "c h w"] | None


def write_contact_sheet(
    path: Path,
    found: Sequence[SourceImage],
    color: str,
    patch: int,
    degradation: Degradation | None = None,
    depth: Depth = Depth.EIGHT,
) -> None:
    """Draw patches of training images, chosen by a fixed seed, into a new PNG file; FileExistsError if it exists.

    `degradation` is what training does to clean images; without it they are shown alone. `depth` is that of the data
    set. ValueError if an image cannot be read.
    """
    random = np.random.default_rng(0)
    training = [image for image in found if image.split == "train"]
    chosen = sorted(random.permutation(len(training))[:PATCHES].tolist())
    cells = [_cell(training[index], color, depth, patch, random, degradation) for index in chosen]
    names = "degraded | clean" if cells and cells[0].degraded is not None else "clean"
    title = f"what the network will see: {names}, {color}, patches of {patch}x{patch}"
    title += f", {depth} bits" * (depth > Depth.EIGHT)
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Software", "irnas_ray")
    picture = draw(cells, title)
    with written(path) as file:
        picture.save(file, format="PNG", pnginfo=notes)
        if path.exists():
            raise FileExistsError(errno.EEXIST, "it exists")


def draw(cells: Sequence[Cell], title: str) -> Image.Image:
    """The picture: rows of patches, enlarged without smoothing, under a title."""
    wide = 2 if any(cell.degraded is not None for cell in cells) else 1
    cell_width, cell_height = wide * (SIDE + _GAP) + _MARGIN, SIDE + _LABEL + _MARGIN
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (_MARGIN + COLUMNS * cell_width, _HEAD + rows * cell_height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, 12), title, _INK, ImageFont.load_default(16))
    font = ImageFont.load_default(12)
    for number, cell in enumerate(cells):
        x, y = _MARGIN + number % COLUMNS * cell_width, _HEAD + number // COLUMNS * cell_height
        sides = [side for side in (cell.degraded, cell.clean) if side is not None]
        for place, side in enumerate(sides):
            sheet.paste(_enlarged(side), (x + place * (SIDE + _GAP), y))
        pen.text((x, y + SIDE + 2), _shortened(cell.label, pen, font, wide * SIDE), _INK, font)
    return sheet


def unused(path: Path) -> Path:
    """`path`, or the first of its kind with a number, -2, -3, ..., that does not exist."""
    number = 2
    chosen = path
    while chosen.exists():
        chosen = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return chosen


def _cell(
    image: SourceImage,
    color: str,
    depth: Depth,
    patch: int,
    random: np.random.Generator,
    degradation: Degradation | None,
) -> Cell:
    clean, degraded = image.planes(color, depth)
    y, x = (int(random.integers(side - patch + 1)) for side in clean.shape[1:])
    cut = np.s_[:, y : y + patch, x : x + patch]
    label = f"{image.image_id} at {y}, {x}"
    shown = Depth.EIGHT.nearest(clean[cut])
    if degraded is not None:
        return Cell(label, shown, Depth.EIGHT.nearest(degraded[cut]))
    if degradation is None or degradation.kind == "paired":
        return Cell(label, shown, None)
    return Cell(label, shown, _degraded(clean[cut], degradation, int(random.integers(2**63))))


def _degraded(clean: UInt[np.ndarray, "c h w"], degradation: Degradation, seed: int) -> UInt8[np.ndarray, "c h w"]:
    # Imported here because torch takes seconds and much memory, which processes that prepare images do without.
    import torch

    from irnas_ray.degradations.factory import make_degradation

    degrade = make_degradation(degradation)
    assert degrade is not None, "pairs are degraded already"
    generator = torch.Generator().manual_seed(seed)
    noisy = degrade(unit_range(torch.tensor(clean))[None], generator)[0]
    return Depth.EIGHT.quantised(noisy.numpy())


def _enlarged(pixels: UInt8[np.ndarray, "c h w"]) -> Image.Image:
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    method = Image.Resampling.NEAREST if max(picture.size) <= SIDE else Image.Resampling.BOX
    return picture.convert("RGB").resize((SIDE, SIDE), method)


def _shortened(text: str, pen: ImageDraw.ImageDraw, font: Any, width: int) -> str:
    """The end of a text that is too wide; names differ at their ends."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength("..." + text, font) > width:
        text = text[1:]
    return "..." + text
