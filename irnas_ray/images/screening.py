"""What is told of a whole set of images: its distinct scenes, and all that would invalidate scores made with it."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt

from irnas_ray.images.findings import KINDS, Examined, Finding
from irnas_ray.images.scenes import Thumbnail, best_matches, content_hash, correlation, groups, matches, thumbnail
from irnas_ray.system.files import write_json

SCREENING = "screening.json"
#: Comparisons of thumbnails beyond which only equal pixels are looked for; about two minutes on a core.
MOST_COMPARISONS = 2 * 10**9
#: A degraded image belongs to another clean one if it is like that one and unlike its own.
_OWN, _OTHER = 0.2, 0.5


@dataclass(frozen=True)
class Known:
    """An image that others are compared with: its name, and what it, or either half of it, is recognised by."""

    name: str
    sha256: tuple[str, ...]
    thumbnails: tuple[Thumbnail | None, ...]


@dataclass(frozen=True)
class Screening:
    """What a set of images holds, and what was found in it."""

    #: Split -> number of images, and number of distinct scenes among them.
    counts: dict[str, int]
    scenes: dict[str, int]
    #: Height and width of most images, and of the smallest and the largest (by area) if they differ.
    sizes: dict[str, list[int]]
    #: Whether there were too many images to compare all thumbnails.
    limited: bool
    findings: tuple[Finding, ...]
    #: Bits a channel that hold all images without loss.
    bits: int = 8

    @property
    def falsified(self) -> bool:
        """Whether something was found that would invalidate scores, or keep them from being made."""
        return any(finding.falsifies for finding in self.findings)

    def of_kind(self, kind: str) -> list[str]:
        """The lines of the findings of one kind."""
        return [finding.text for finding in self.findings if finding.kind == kind]

    def lines(self, most: int | None = None) -> Iterator[str]:
        """The findings as text, worst first; of each kind at most so many lines."""
        for kind, (title, falsifies) in KINDS.items():
            texts = self.of_kind(kind)
            if not texts:
                continue
            yield f"{'PROBLEM' if falsifies else 'note'}, {kind}: {len(texts)} {title}"
            yield from (f"    {text}" for text in texts[:most])
            if most is not None and len(texts) > most:
                yield f"    and {len(texts) - most} more; irnas-ray prepare check=true lists all"
        if self.limited:
            yield "note: too many images to compare all thumbnails; copies were looked for by equal pixels only"

    def summary(self) -> str:
        """Counts, scenes and sizes in one line, and the depth if it is not the usual one."""
        splits = [
            f"{count} {'training' if split == 'train' else split} images of {self.scenes[split]} distinct scenes"
            for split, count in self.counts.items()
        ]
        sizes = ", ".join(f"{name} {height}x{width}" for name, (height, width) in self.sizes.items())
        depth = f"; {self.bits} bits a channel" if self.bits > 8 else ""
        return f"{', '.join(splits)}; {sizes}{depth}"

    def save(self, folder: Path) -> None:
        """Write everything as JSON into `folder`."""
        write_json(folder / SCREENING, dataclasses.asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "Screening | None":
        """The screening that was saved in a prepared folder; None if there is none that can be read."""
        try:
            values: dict[str, Any] = json.loads((folder / SCREENING).read_text(encoding="utf-8"))
            return cls(**{**values, "findings": tuple(Finding(**finding) for finding in values["findings"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None


def screen(
    examined: Sequence[Examined], early: Sequence[Finding] = (), others: Sequence[Known] = (), bits: int = 8
) -> Screening:
    """Compare images with each other and, if there are any, with those of another set.

    `early` are findings made before, such as files that could not be read; `bits` is the depth of the images.
    """
    splits = {split: [image for image in examined if image.split == split] for split in ("train", "test")}
    splits = {split: images for split, images in splits.items() if images}
    known = {split: [_known(image) for image in images] for split, images in splits.items()}
    findings = [*early, *_own_findings(examined)]
    limited, scenes = False, {}
    for split, images in known.items():
        pairs, cut = _same_scene(images, images, turned=False)
        limited |= cut
        labels = groups(len(images), pairs)
        scenes[split] = len(set(labels))
        findings += _duplicates(images, labels, split)
    comparisons = [("leakage", "test", known.get("train", [])), ("leakage against", "train", others)]
    for kind, split, against in [*comparisons, ("shared", "test", others)]:
        pairs, cut = _same_scene(known.get(split, []), against, turned=True)
        limited |= cut
        findings += _shared(kind, known.get(split, []), against, pairs)
    counts = {split: len(images) for split, images in splits.items()}
    return Screening(counts, scenes, _sizes(examined), limited, tuple(findings), bits)


def refuse(findings: Sequence[Finding]) -> None:
    """ValueError naming the images that keep a data set from being made, if there are any."""
    messages = []
    for kind in ("unreadable", "mis-sized", "tiny", "mis-paired"):
        texts = [finding.text for finding in findings if finding.kind == kind]
        if texts:
            messages.append(texts[0] if len(texts) == 1 else f"{len(texts)} images {KINDS[kind][0]}: {_listed(texts)}")
    if messages:
        raise ValueError("; ".join(messages))


def _listed(texts: Sequence[str], most: int = 5) -> str:
    return "; ".join(texts[:most]) + (f"; and {len(texts) - most} more (check=true lists all)" * (len(texts) > most))


def known_image(name: str, sides: Sequence[UInt[np.ndarray, "_ _ _"]]) -> Known:
    """What an image is recognised by, whole or by a part of it: the pixels (c, h, w) of each."""
    hashes = tuple(content_hash(pixels) for pixels in sides if pixels.min() < pixels.max())
    return Known(name, hashes, tuple(thumbnail(pixels) for pixels in sides))


def _known(image: Examined) -> Known:
    # Empty images are equal without being of one scene.
    blank = any(finding.kind == "blank" for finding in image.findings)
    return Known(image.image_id, () if blank else (image.sha256,), (image.thumbnail,))


def _same_scene(left: Sequence[Known], right: Sequence[Known], turned: bool) -> tuple[list[tuple[int, int]], bool]:
    """Indices of images that show one scene, and whether there were too many to compare thumbnails."""
    by_hash: dict[str, list[int]] = {}
    for j, image in enumerate(right):
        for digest in image.sha256:
            by_hash.setdefault(digest, []).append(j)
    pairs = {(i, j) for i, image in enumerate(left) for digest in image.sha256 for j in by_hash.get(digest, [])}
    one, other = _thumbnails(left), _thumbnails(right)
    if len(one) * len(other) * (8 if turned else 1) > MOST_COMPARISONS:
        return sorted(pairs), True
    matched = matches([image for _, image in one], [image for _, image in other], turned)
    return sorted(pairs | {(one[i][0], other[j][0]) for i, j in matched}), False


def _thumbnails(images: Sequence[Known]) -> list[tuple[int, Thumbnail]]:
    return [(i, one) for i, image in enumerate(images) for one in image.thumbnails if one is not None]


def _duplicates(images: Sequence[Known], labels: Sequence[int], split: str) -> Iterator[Finding]:
    scenes: dict[int, list[Known]] = {}
    for label, image in zip(labels, images, strict=True):
        scenes.setdefault(label, []).append(image)
    for alike in scenes.values():
        if len(alike) > 1:
            equal = " (equal pixels)" if len({image.sha256 for image in alike}) == 1 else ""
            yield Finding("duplicate", f"{split}: {', '.join(image.name for image in alike)}{equal}")


def _shared(
    kind: str, left: Sequence[Known], right: Sequence[Known], pairs: Sequence[tuple[int, int]]
) -> Iterator[Finding]:
    partners: dict[int, list[int]] = {}
    for i, j in pairs:
        partners.setdefault(i, []).append(j)
    for i, found in partners.items():
        names = ", ".join(right[j].name for j in found)
        equal = " (equal pixels)" if any(set(left[i].sha256) & set(right[j].sha256) for j in found) else ""
        yield Finding(kind, f"{left[i].name} = {names}{equal}")


def _own_findings(examined: Sequence[Examined]) -> Iterator[Finding]:
    swapped = _swapped(examined)
    for image in examined:
        if image.image_id in swapped:
            text = f"{image.image_id}: its degraded image shows the scene of {swapped[image.image_id]}"
            yield Finding("mis-paired", text)
        yield from (x for x in image.findings if x.kind != "mis-paired" or image.image_id not in swapped)


def _swapped(examined: Sequence[Examined]) -> dict[str, str]:
    """Ids of pairs whose degraded image is unlike its own clean one and like that of another, and the other's id."""
    pairs = [image for image in examined if image.thumbnail is not None and image.degraded is not None]
    doubtful = [image for image in pairs if _own(image) < _OWN]
    if not doubtful or len(doubtful) * len(pairs) > MOST_COMPARISONS:
        return {}
    best = best_matches([image.degraded for image in doubtful], [image.thumbnail for image in pairs])
    return {
        image.image_id: pairs[index].image_id
        for image, (index, likeness) in zip(doubtful, best, strict=True)
        if likeness > _OTHER
    }


def _own(image: Examined) -> float:
    assert image.thumbnail is not None and image.degraded is not None
    return correlation(image.thumbnail, image.degraded)


def _sizes(examined: Sequence[Examined]) -> dict[str, list[int]]:
    if not examined:
        return {}
    counted = Counter((image.height, image.width) for image in examined)
    extremes = {
        "smallest": min(counted, key=lambda size: size[0] * size[1]),
        "largest": max(counted, key=lambda size: size[0] * size[1]),
    }
    sizes = {"most": counted.most_common(1)[0][0]} | (extremes if len(counted) > 1 else {})
    return {name: list(size) for name, size in sizes.items()}
