"""What tags say of samples is honoured or refused: every layout of a matrix is read right, or not at all.

The files are written here byte by byte, and what they show is computed from the samples alone.
"""

import itertools
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line_cases import ROOT
from picture_cases import png_chunk

from irnas_ray.datasets.check import check_source
from irnas_ray.evaluation.external import read_restored
from irnas_ray.images import files
from irnas_ray.images.tags import significant
from irnas_ray.settings.study import Data

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
UINT, INT, FLOAT = 1, 2, 3
RAW, DEFLATE = 1, 8
HEIGHT, WIDTH = 5, 13
CASES = ROOT.parent / "shared" / "cases"


def entry(order: str, tag: int, values: tuple[int, ...], more: int) -> tuple[bytes, bytes]:
    """A tag of unsigned numbers, and what of it does not fit and lies at `more`."""
    kind, code = (4, "I") if max(values) > 65535 else (3, "H")
    content = struct.pack(f"{order}{len(values)}{code}", *values)
    head = struct.pack(f"{order}HHI", tag, kind, len(values))
    return (
        (head + content.ljust(4, b"\0"), b"") if len(content) <= 4 else (head + struct.pack(f"{order}I", more), content)
    )


def write_tiff(path: Path, strips: list[bytes], tags: dict[int, Any], order: str = "<") -> None:
    """A TIFF of one picture, whose strips lie before its tags."""
    places = [8 + sum(map(len, strips[:index])) for index in range(len(strips))]
    tags = {256: WIDTH, 257: HEIGHT, 273: tuple(places), 278: HEIGHT, 279: tuple(map(len, strips))} | tags
    start = 8 + sum(map(len, strips))
    more = start + 2 + 12 * len(tags) + 4
    rows, rest = b"", b""
    for tag in sorted(tags):
        values = tags[tag] if isinstance(tags[tag], tuple) else (tags[tag],)
        row, content = entry(order, tag, values, more + len(rest))
        rows, rest = rows + row, rest + content
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    path.write_bytes(head + b"".join(strips) + struct.pack(f"{order}H", len(tags)) + rows + bytes(4) + rest)


def packed(samples: np.ndarray, bits: int, order: str) -> bytes:
    """Rows (h, n) of samples, each of `bits` bits, padded to bytes; whole bytes lie in the file's order."""
    if samples.dtype.kind == "f" or bits in (8, 16, 32):
        return samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    ones = (samples[..., None].astype(np.uint32) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(ones.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def shown(samples: np.ndarray, bits: int, photometric: int) -> np.ndarray:
    """What the tags say: the nearest of 256 values between black and white."""
    scaled = np.floor(samples.astype(float) / (2**bits - 1) * 255 + 0.5)
    return (255 - scaled if photometric == WHITE_IS_ZERO else scaled).astype(np.uint8)


def converted(samples: np.ndarray, photometric: int) -> np.ndarray:
    """CMYK or YCbCr (JFIF) of 8 bits as RGB, not yet rounded."""
    wide = samples.astype(float)
    if photometric == CMYK:
        return (255 - wide[..., :3]) * (255 - wide[..., 3:4]) / 255
    y, blue, red = wide[..., 0], wide[..., 1] - 128, wide[..., 2] - 128
    return np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], axis=2).clip(0, 255)


CHANNELS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}


@dataclass(frozen=True)
class Layout:
    """How samples are stored, and what the tags say of them."""

    photometric: int
    bits: int
    kind: int = UINT
    order: str = "<"
    planar: int = 1
    compression: int = RAW
    #: What a further channel is: 0 nothing, 1 multiplied alpha, 2 alpha; None: there is none.
    extra: int | None = None
    #: 2: the first pixel lies in the lowest bit of a byte.
    fill: int = 1


def is_possible(photometric: int, bits: int, kind: int, order: str, planar: int, compression: int, *more: Any) -> bool:
    """Whether a format has such samples; those that never can be read need not be met in every form."""
    if kind == UINT and bits in (1, 2, 4, 8, 12, 16):
        extra, fill = more
        return (bits > 8 or order == "<" or (planar, compression) == (1, RAW)) and (fill == 1 or extra is None)
    exists = bits in {UINT: (10, 14, 32), INT: (8, 16, 32), FLOAT: (16, 32, 64)}[kind]
    return exists and (planar, compression, *more) == (1, RAW, None, 1)


MATRIX = [
    Layout(*values)
    for values in itertools.product(
        CHANNELS,
        (1, 2, 4, 8, 10, 12, 14, 16, 32, 64),
        (UINT, INT, FLOAT),
        "<>",
        (1, 2),
        (RAW, DEFLATE),
        (None, 0, 1, 2),
        (1, 2),
    )
    if is_possible(*values)
]
#: Layouts that must be read; all others may be refused.
READ = {(p, b) for p in (WHITE_IS_ZERO, BLACK_IS_ZERO) for b in (1, 2, 4, 8, 16)} | {(BLACK_IS_ZERO, 12)}
READ |= {(RGB, 8), (RGB, 16), (CMYK, 8), (YCBCR, 8)} | {(PALETTE, bits) for bits in (1, 2, 4, 8)}


def write_layout(path: Path, layout: Layout) -> np.ndarray | None:
    """A file of a layout, and what it shows (None: nothing that is gray or RGB without guessing)."""
    photometric, bits = layout.photometric, layout.bits
    random = np.random.default_rng(0)
    own = CHANNELS[photometric]
    count = own + (layout.extra is not None)
    if layout.kind == FLOAT:
        samples: np.ndarray = random.random((HEIGHT, WIDTH, count)).astype(f"f{bits // 8}")
    else:
        samples = random.integers(0, 2**bits, (HEIGHT, WIDTH, count)).astype(f"u{max(1, (bits + 7) // 8)}")
        samples[..., own:] = 2**bits - 1  # opaque
    planes = [samples[..., index] for index in range(count)]
    strips = [packed(x, bits, layout.order) for x in (planes if layout.planar == 2 else [samples.reshape(HEIGHT, -1)])]
    strips = [zlib.compress(strip) if layout.compression == DEFLATE else strip for strip in strips]
    if layout.fill == 2:
        strips = [np.packbits(np.unpackbits(np.frombuffer(x, np.uint8)), bitorder="little").tobytes() for x in strips]
    tags: dict[int, Any] = {258: (bits,) * count, 259: layout.compression, 262: photometric, 266: layout.fill}
    tags |= {277: count, 284: layout.planar, 339: (layout.kind,) * count}
    tags |= {338: layout.extra} if layout.extra is not None else {}
    tags |= {530: (1, 1)} if photometric == YCBCR else {}
    colors = random.integers(0, 256, (3, 2 ** min(bits, 8)))
    tags |= {320: tuple((colors * 257).ravel().tolist())} if photometric == PALETTE else {}
    write_tiff(path, strips, tags, layout.order)
    if layout.kind != UINT or bits == 32 or photometric == LAB:
        return None
    if photometric == PALETTE:
        return colors.T[samples[..., 0]] if bits <= 8 else None
    if photometric in (CMYK, YCBCR):
        return converted(samples[..., :own], photometric) if bits == 8 else None
    return shown(samples[..., :own], bits, photometric)


def refusal(path: Path, color: str) -> str:
    """The words in which a file is refused, by its header and by its pixels alike; empty if it is read."""
    said = []
    for read in (files.read_header, lambda path: files.read_image(path, color)):
        try:
            read(path)
        except ValueError as error:
            said.append(str(error))
    assert len(said) in (0, 2) and len(set(said)) < 2, said
    return said[0] if said else ""


def test_every_layout_of_tiff_is_read_right_or_refused(tmp_path):
    path, read = tmp_path / "a.tif", set()
    for layout in MATRIX:
        expected = write_layout(path, layout)
        color = "gray" if layout.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) else "rgb"
        reason = refusal(path, color)
        if reason:
            assert reason.startswith(f"{path}: ") and not any(word in reason for word in ("<", "_io", "raw mode")), (
                reason
            )
            assert layout.kind != FLOAT or "floating point" in reason
            assert layout.kind != INT or "with a sign" in reason
            continue
        assert expected is not None, f"{layout} was read"
        # Pillow computes YCbCr in whole numbers
        most = 1 if layout.photometric in (CMYK, YCBCR) else 0
        assert abs(files.read_image(path, color) - expected).max() <= most, f"{layout} was read as something else"
        read.add((layout.photometric, layout.bits))
    assert read == READ


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({262: None}, "does not say whether 0 is black or white"),
        ({262: 4}, "is in the colours of a transparency mask"),
        ({262: 32803}, "is in the colours of a sensor's mosaic"),
        ({339: 4}, "does not say what its samples are"),
        ({262: 6, 258: (8, 8, 8), 277: 3}, "colours of half resolution"),
        ({262: 5, 258: (8, 8, 8, 8), 277: 4, 332: 2}, "other inks than CMYK"),
        ({258: (8, 6, 8), 262: 2, 277: 3}, "has 8 bits a channel in a layout that cannot be read"),
    ],
    ids=str,
)
def test_what_tags_leave_open_is_refused(tmp_path, tags, message):
    tags = {258: 8, 259: RAW, 262: 1, 277: 1} | tags
    write_tiff(tmp_path / "a.tif", [bytes(HEIGHT * WIDTH * 4)], {key: x for key, x in tags.items() if x is not None})
    assert message in refusal(tmp_path / "a.tif", "gray")


def test_checking_and_scoring_agree_with_reading(tmp_path):
    """`check=true` names exactly the files that cannot be read, and the readers of restored files see the same."""
    refused = set()
    some = [(1, 16, UINT), (0, 16, UINT), (1, 12, UINT), (1, 16, INT), (1, 32, FLOAT), (0, 12, UINT), (1, 8, UINT)]
    for number, (photometric, bits, kind) in enumerate(some):
        path = tmp_path / f"{number}.tif"
        expected = write_layout(path, Layout(photometric, bits, kind))
        if refusal(path, "gray"):
            refused.add(path.name)
            with pytest.raises(ValueError, match=path.name):
                read_restored(path, 1)
        else:
            restored = read_restored(path, 1).numpy()[0]
            assert expected is not None and np.abs(restored * 255 - expected[..., 0]).max() <= 0.5 + 1e-4
    screening, good = check_source(Data(source=str(tmp_path), form="images", patch=5))
    found = {Path(text.split(":")[0]).name for text in screening.of_kind("unreadable")}
    assert found == refused == {"3.tif", "4.tif", "5.tif"} and len(good) == 4


def write_png(path: Path, values: np.ndarray, depth: int, bits: tuple[int, ...]) -> None:
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, 2 if values.ndim == 3 else 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"sBIT", bytes(bits)) + png_chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IEND", b""))


def filled(samples: np.ndarray, bits: int, depth: int, how: str) -> np.ndarray:
    """Samples of `bits` bits scaled to `depth` as encoders do it."""
    if how == "zeros":
        return samples << (depth - bits)
    if how == "linear":
        return np.rint(samples * (2**depth - 1) / (2**bits - 1)).astype(np.int64)
    text = [[(f"{value:0{bits}b}" * depth)[:depth] for value in row] for row in samples]
    return np.array([[int(word, 2) for word in row] for row in text])


@pytest.mark.parametrize("how", ["zeros", "linear", "repeated"])
@pytest.mark.parametrize(("depth", "bits"), [(16, 12), (16, 10), (16, 9), (8, 5), (8, 7), (16, 16), (8, 8), (8, 1)])
def test_significant_bits_of_png_are_honoured(tmp_path, depth, bits, how):
    samples = np.random.default_rng(0).integers(0, 2**bits, (HEIGHT, WIDTH))
    samples[0, :2] = 0, 2**bits - 1
    write_png(tmp_path / "a.png", filled(samples, bits, depth, how), depth, (bits,))
    expected = np.floor(samples * 255 / (2**bits - 1) + 0.5)
    assert np.array_equal(files.read_image(tmp_path / "a.png", "gray")[..., 0], expected)


def test_significant_bits_of_colours_may_differ(tmp_path):
    bits = (5, 6, 5)
    samples = [np.random.default_rng(0).integers(0, 2**own, (HEIGHT, WIDTH)) for own in bits]
    stored = np.stack([filled(x, own, 8, "zeros") for x, own in zip(samples, bits, strict=True)], axis=2)
    write_png(tmp_path / "a.png", stored, 8, bits)
    expected = [np.floor(x * 255 / (2**own - 1) + 0.5) for x, own in zip(samples, bits, strict=True)]
    assert np.array_equal(files.read_image(tmp_path / "a.png", "rgb"), np.stack(expected, axis=2))


def test_values_that_contradict_significant_bits(tmp_path):
    """Not scaled to their depth they are refused, where they would be black; else all bits count."""
    samples = np.random.default_rng(0).integers(0, 4096, (HEIGHT, WIDTH))
    write_png(tmp_path / "low.png", samples, 16, (12,))
    with pytest.raises(
        ValueError, match=r"low.png: says that 12 of 16 bits are significant .sBIT., but its values are"
    ):
        files.read_image(tmp_path / "low.png", "gray")
    wide = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH))
    write_png(tmp_path / "wide.png", wide, 16, (12,))
    assert np.array_equal(files.read_image(tmp_path / "wide.png", "gray")[..., 0], np.floor(wide / 257 + 0.5))
    assert significant(wide.astype(np.uint16), 16, (12,)) is None


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared files are not here")
def test_files_that_went_wrong():
    names = ("g16_miniswhite.tif", "g8_miniswhite.tif", "g16_be.tif")
    first, *others = (files.read_image(CASES / name, "gray").astype(int) for name in names)
    assert first.std() > 10 and all(abs(first - other).max() <= 1 for other in others)
    assert files.read_image(CASES / "bmp565.bmp", "rgb").std() > 10
    assert refusal(CASES / "f16.tif", "gray") == (
        f"{CASES / 'f16.tif'}: has 16 bits a channel in floating point, and nothing says which value is white; "
        "convert it to unsigned 16 bits"
    )
