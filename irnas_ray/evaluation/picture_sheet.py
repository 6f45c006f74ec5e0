"""A picture sheet: what each method made of some images, whole and enlarged, with its numbers underneath."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from irnas_ray.evaluation.protocols import Protocol
from irnas_ray.evaluation.scores import Evaluation, EvaluationImage, to_pixels
from irnas_ray.system.files import written

#: Widest and highest that a whole image is shown, in pixels; larger ones are reduced.
LARGEST = 512
#: Pixels between panels, height of a line of text, its size, and height of a panel's two lines.
GAP, LINE, FONT_SIZE = 12, 22, 15
CAPTION = 2 * LINE
#: Narrowest panel in pixels, so that its numbers fit.
NARROWEST = 200
#: The enlarged part's side: one over this of the image's shorter side, and the fewest and most pixels it has.
SHARE, SMALLEST, MOST = 4, 16, 128
BACKGROUND, INK, MARK = "white", "#22262B", "#E8590C"


@dataclass(frozen=True)
class Panel:
    """One picture (c h w) in [0, 1], what it is called, and its numbers as text."""

    title: str
    picture: Float[Tensor, "c h w"]
    numbers: str = ""


def draw_sheet(heading: str, rows: Sequence[tuple[str, Sequence[Panel]]]) -> Image.Image:
    """Draws a row for each image: every panel's whole picture, its most informative part enlarged, and its numbers.

    The enlarged part is the same in all panels of a row: that of the last panel, which is the clean image, with the
    most structure (``informative_part``). Pixels are enlarged as squares, so that nothing is smoothed.

    Args:
        heading: First line, naming the protocol.
        rows: A title and panels of one picture size for each image; the clean image last.

    Raises:
        ValueError: if there is nothing to draw, or the pictures of a row differ in size.
    """
    if not rows or not all(panels for _, panels in rows):
        raise ValueError("a picture sheet needs at least one image with at least one panel")
    drawn = [_draw_row(title, panels) for title, panels in rows]
    sheet = Image.new(
        "RGB",
        (max(row.width for row in drawn) + 2 * GAP, LINE + GAP + sum(row.height + GAP for row in drawn)),
        BACKGROUND,
    )
    _write(sheet, (GAP, GAP // 2), heading)
    top = LINE + GAP
    for row in drawn:
        sheet.paste(row, (GAP, top))
        top += row.height + GAP
    return sheet


def save_sheet(path: str | Path, heading: str, rows: Sequence[tuple[str, Sequence[Panel]]]) -> Path:
    """Writes ``draw_sheet`` as a PNG file and returns its path."""
    path = Path(path)
    sheet = draw_sheet(heading, rows)
    with written(path) as file:
        sheet.save(file, format="PNG")
    return path


class SheetImages:
    """Some of the images of an evaluation, spread evenly over all, and what the methods made of them.

    Args:
        images: All images that are scored.
        count: How many are shown; zero: none.

    Raises:
        ValueError: if count is negative.
    """

    def __init__(self, images: Sequence[EvaluationImage], count: int) -> None:
        if count < 0:
            raise ValueError(f"sheet_images: {count}; at least 0")
        places = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
        self.images = {images[place].image_id: images[place] for place in places}
        self._restored: dict[str, dict[str, Float[Tensor, "c h w"]]] = {}

    def keeper(self, method: str) -> Callable[[str, Tensor], None]:
        """What is to be called with every image that a method restored; remembers those that are shown."""
        kept = self._restored.setdefault(method, {})

        def keep(image_id: str, restored: Float[Tensor, "c h w"]) -> None:
            if image_id in self.images:
                kept[image_id] = restored

        return keep

    def save(self, path: Path, protocol: Protocol, sigma: float | None, results: Sequence[Evaluation]) -> None:
        """Writes the sheet: input, methods in the order of ``results``, clean image; nothing if no image is shown."""
        if self.images:
            noise = "" if sigma is None else f", sigma {sigma:g}"
            border = protocol.ssim_border.replace("_", "-")
            heading = f"Protocol {protocol.id}{noise}: PSNR (dB) and SSIM ({border}) of each image"
            save_sheet(path, heading, [(name, self._panels(name, protocol, sigma, results)) for name in self.images])

    def _panels(
        self, image_id: str, protocol: Protocol, sigma: float | None, results: Sequence[Evaluation]
    ) -> list[Panel]:
        image = self.images[image_id]
        clean, degraded = protocol.degrade(image.clean, image_id, sigma, image.degraded)
        panels = [Panel("input", degraded, _numbers(*protocol.score(degraded, clean)))]
        for result in results:
            restored = self._restored[result.method][image_id]
            score = next(score for score in result.scores if score.image_id == image_id)
            if not torch.equal(restored, degraded):
                panels.append(Panel(result.method, restored, _numbers(score.psnr, score.ssim)))
        return [*panels, Panel("clean", clean)]


def _numbers(psnr: float, ssim: float) -> str:
    return f"{psnr:.2f} dB   {ssim:.4f}"


def informative_part(clean: Float[Tensor, "c h w"]) -> tuple[int, int, int]:
    """Returns top, left and side of the square part of an image with the most structure.

    Its side is a quarter of the image's shorter side, but 16 to 128 pixels where the image has them. Structure is the
    sum of the absolute differences between neighbouring pixels of the clean image, so that no method is favoured.
    """
    height, width = clean.shape[-2:]
    side = min(max(min(height, width) // SHARE, SMALLEST), MOST, height, width)
    change = torch.zeros(height, width, dtype=torch.float64)
    change[1:] += clean.diff(dim=-2).abs().double().sum(dim=0)
    change[:, 1:] += clean.diff(dim=-1).abs().double().sum(dim=0)
    sums = torch.zeros(height + 1, width + 1, dtype=torch.float64)
    sums[1:, 1:] = change.cumsum(0).cumsum(1)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    # Rounded, so that equal sums are equal and the first one is taken everywhere.
    top, left = divmod(int(inside.round(decimals=6).argmax()), inside.shape[1])
    return top, left, side


@dataclass(frozen=True)
class _Layout:
    """Where things are in the panels of one row, in pixels."""

    whole: tuple[int, int]
    #: Top, left and side of the enlarged part, and how many pixels each of its pixels becomes.
    part: tuple[int, int, int]
    zoom: int
    panel: tuple[int, int]

    @classmethod
    def of(cls, clean: Float[Tensor, "c h w"]) -> "_Layout":
        height, width = clean.shape[-2:]
        reduction = max(1.0, max(height, width) / LARGEST)
        whole = max(1, round(width / reduction)), max(1, round(height / reduction))
        part = informative_part(clean)
        panel_width = max(whole[0], NARROWEST)
        zoom = max(1, panel_width // part[2])
        return cls(whole, part, zoom, (panel_width, whole[1] + GAP + zoom * part[2] + CAPTION))


def _draw_row(title: str, panels: Sequence[Panel]) -> Image.Image:
    clean = panels[-1].picture
    layout = _Layout.of(clean)
    width, height = layout.panel
    row = Image.new("RGB", (len(panels) * (width + GAP) - GAP, LINE + height), BACKGROUND)
    _write(row, (0, 0), title)
    for index, panel in enumerate(panels):
        if panel.picture.shape != clean.shape:
            raise ValueError(f"{title}: {panel.title} is {tuple(panel.picture.shape)}, not {tuple(clean.shape)}")
        row.paste(_draw_panel(panel, layout), (index * (width + GAP), LINE))
    return row


def _draw_panel(panel: Panel, layout: _Layout) -> Image.Image:
    pixels = to_pixels(panel.title, panel.picture)
    picture = Image.fromarray(pixels).convert("RGB")
    top, left, side = layout.part
    enlarged = picture.crop((left, top, left + side, top + side))
    enlarged = enlarged.resize((side * layout.zoom, side * layout.zoom), Image.Resampling.NEAREST)
    drawn = Image.new("RGB", layout.panel, BACKGROUND)
    whole = picture if picture.size == layout.whole else picture.resize(layout.whole, Image.Resampling.BICUBIC)
    drawn.paste(whole, (0, 0))
    scale = layout.whole[0] / picture.width
    corners = [round(scale * place) for place in (left, top, left + side, top + side)]
    ImageDraw.Draw(drawn).rectangle((corners[0], corners[1], corners[2] - 1, corners[3] - 1), outline=MARK)
    drawn.paste(enlarged, (0, layout.whole[1] + GAP))
    text = layout.panel[1] - CAPTION
    _write(drawn, (0, text), panel.title)
    _write(drawn, (0, text + LINE), panel.numbers)
    return drawn


def _write(image: Image.Image, place: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(image).text((place[0], place[1] + 3), text, fill=INK, font=ImageFont.load_default(FONT_SIZE))
