"""What a file says its samples mean, where Pillow does not ask: the tags of TIFF, and sBIT of PNG."""

import struct
from typing import IO

import numpy as np
from jaxtyping import Bool, UInt
from PIL.TiffImagePlugin import ImageFileDirectory_v2

BITS, COMPRESSION, PHOTOMETRIC, FILL, CHANNELS, PLANAR = 258, 259, 262, 266, 277, 284
INKS, EXTRA, FORMAT, SUBSAMPLING = 332, 338, 339, 530
_UNSIGNED, _SIGNED, _FLOAT = {1}, {2, 5}, {3, 6}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6
_CMYK, _PREMULTIPLIED = 1, 1
_RAW, _OLD_JPEG = 1, 6
#: Photometric interpretations of pictures, and names of some that are none or have other colours.
_PICTURES = (0, 1, 2, 3, 5, 6)
_OTHERS = {
    4: "of a transparency mask",
    8: "of CIE Lab",
    9: "of ICC Lab",
    10: "of ITU Lab",
    32803: "of a sensor's mosaic",
}
_DEEP = "bits a channel in a layout that cannot be read; save it as a 16-bit RGB or gray PNG"

#: Rows that are looked at at a time.
_ROWS = 64

#: Where a PNG's first chunk begins, and what its kinds of colour are made of.
_PNG_START, _PNG_COLOR, _PNG_PALETTE = 8, 2, 3


class Refused(ValueError):
    """A file holds what cannot become gray or RGB of 8 or 16 bits without guessing."""


def tiff_tags(file: IO[bytes]) -> ImageFileDirectory_v2 | None:
    """The tags of the first picture of an open file, whatever they say; None if it is no TIFF or damaged there."""
    file.seek(0)
    head = file.read(8)
    try:
        # BigTIFF has a longer head
        tags = ImageFileDirectory_v2(head + file.read(8) if head[2:4] in (b"+\0", b"\0+") else head)
        file.seek(tags.next)
        tags.load(file)
        return tags
    except Exception:  # Pillow raises almost anything for damaged bytes
        return None


def check_tiff(tags: ImageFileDirectory_v2, readable: bool) -> None:
    """``Refused`` unless the tags say that the picture is gray, RGB, palette, CMYK or YCbCr of unsigned samples.

    ``readable`` says whether Pillow knows the layout.
    """
    bits, formats = tags.get(BITS, (1,)), set(tags.get(FORMAT, (1,)))
    most = max(bits)
    if formats & _FLOAT:
        unknown = "in floating point, and nothing says which value is white; convert it to unsigned 16 bits"
        raise Refused(f"has {most} bits a channel {unknown}")
    if formats & _SIGNED:
        unknown = "with a sign, and nothing says which value is black; convert it to unsigned 16 bits"
        raise Refused(f"has {most} bits a channel {unknown}")
    if formats != _UNSIGNED:
        raise Refused(f"does not say what its samples are (SampleFormat {sorted(formats)}); save it as PNG")
    if most > 16:
        raise Refused(f"has {most} bits a channel, and nothing says which value is white; convert it to 16 bits")
    photometric = tags.get(PHOTOMETRIC, _YCBCR if tags.get(COMPRESSION) == _OLD_JPEG else None)
    if photometric is None:
        raise Refused("does not say whether 0 is black or white (PhotometricInterpretation); save it as PNG")
    if photometric not in _PICTURES:
        raise Refused(f"is in the colours {_OTHERS.get(photometric, f'number {photometric}')}; convert it to RGB")
    if photometric == _SEPARATED and tags.get(INKS, _CMYK) != _CMYK:
        raise Refused("is separated into other inks than CMYK; convert it to RGB")
    subsampled = tuple(tags.get(SUBSAMPLING, (2, 2))) != (1, 1)
    if photometric == _YCBCR and tags.get(COMPRESSION, _RAW) == _RAW and subsampled:
        raise Refused("holds colours of half resolution (YCbCrSubSampling) that are not compressed; save it as PNG")
    if not readable or not _is_decoded(tags, photometric, most):
        raise Refused(f"has {most} {_DEEP}")


def _is_decoded(tags: ImageFileDirectory_v2, photometric: int, bits: int) -> bool:
    """Whether Pillow decodes such a layout, of those that it takes; of some it makes noise, in silence."""
    extra, alone = tuple(tags.get(EXTRA, ())), tags.get(CHANNELS, 1) == 1
    planar, reversed_bits = tags.get(PLANAR, 1) == 2, tags.get(FILL, 1) == 2
    if tags.get(COMPRESSION, _RAW) != _RAW:
        return not planar or alone or (bits == 8 and not (photometric == _YCBCR and extra))
    if planar:
        whole = (_BLACK_IS_ZERO, 1), (_BLACK_IS_ZERO, 8), (_PALETTE, 8)
        colors = bits == 8 and photometric in (_RGB, _SEPARATED) and extra != (_PREMULTIPLIED,)
        return not reversed_bits and ((photometric, bits) in whole if alone else colors)
    unknown = (_WHITE_IS_ZERO, 8), (_PALETTE, 1), (_PALETTE, 2), (_PALETTE, 4)
    return not (reversed_bits and (photometric, bits) in unknown)


def deep_range(tags: ImageFileDirectory_v2) -> tuple[int, bool]:
    """The largest value of a sample of 12 or 16 bits, and whether it is black."""
    return 2 ** max(tags.get(BITS, (16,))) - 1, tags.get(PHOTOMETRIC) == _WHITE_IS_ZERO


def png_chunks(file: IO[bytes]) -> list[tuple[bytes, int, int]]:
    """Name of each chunk of an open PNG, and where its content begins and how long it is."""
    stood, chunks = file.tell(), []
    file.seek(_PNG_START)
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        chunks.append((name, file.tell(), length))
        file.seek(length + 4, 1)
    file.seek(stood)
    return chunks


def significant_bits(file: IO[bytes]) -> tuple[int, tuple[int, ...]] | None:
    """Bits of a sample of an open PNG, and the significant ones of each channel but alpha, where it says fewer.

    None for palettes, and for samples of less than 8 bits.
    """
    stood, found = file.tell(), {}
    for name, start, length in png_chunks(file):
        if name in (b"IHDR", b"sBIT"):
            file.seek(start)
            found[name] = file.read(length)
    file.seek(stood)
    depth, kind = found[b"IHDR"][8:10]
    bits = tuple(found.get(b"sBIT", b"")[: 3 if kind & _PNG_COLOR else 1])
    usable = depth in (8, 16) and kind != _PNG_PALETTE and bits and all(0 < own <= depth for own in bits)
    return (depth, bits) if usable and set(bits) != {depth} else None


def _filled(values: UInt[np.ndarray, "*shape"], depth: int, own: UInt[np.ndarray, " c"]) -> Bool[np.ndarray, "*shape"]:
    """Whether the bits of samples that are not significant hold nothing else."""
    wide, white = values.astype(np.uint32), 2**own - 1
    top = wide >> (depth - own)
    # Filled with zeros, or the nearest value or repeated bits, which differ by less than one.
    nearest = abs(wide * white.astype(np.int64) - top * (2**depth - 1)) <= white
    return nearest | (wide == top << (depth - own))


def significant(
    values: UInt[np.ndarray, "*shape"], depth: int, bits: tuple[int, ...]
) -> tuple[UInt[np.ndarray, "*shape"], UInt[np.ndarray, " c"]] | None:
    """The significant bits of samples, and what is white; None if they are not all that the samples hold.

    ``Refused`` where the samples hold more, but lie in the lower bits, so that they were not scaled to their depth.
    """
    own = np.array(bits, np.uint32)
    white, spare = 2**own - 1, (depth - own).astype(values.dtype)
    # In strips, because these copies of a large picture would be its largest need of memory.
    if all(_filled(values[top : top + _ROWS], depth, own).all() for top in range(0, len(values), _ROWS)):
        return values >> spare, white
    if values.max() <= white.min():
        raise Refused(
            f"says that {max(bits)} of {depth} bits are significant (sBIT), but its values are not scaled to {depth} "
            "bits; scale them, or remove the chunk"
        )
    return None
