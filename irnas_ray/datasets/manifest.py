"""The manifest of a prepared data set: what it holds, how it was made, and whether it is complete."""

import dataclasses
import json
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError

from irnas_ray.images.depth import Depth
from irnas_ray.images.files import channels_of
from irnas_ray.system.files import write_json

MANIFEST = "dataset.json"
FORMAT = "irnas_ray.dataset"
#: Version 1 held patches of the training images besides, which are not read any more; pixels of 16 bits are version 3,
#: so that former releases, which know of 8 alone, refuse them.
VERSIONS = {Depth.EIGHT: 2, Depth.SIXTEEN: 3}
SPLITS = ("train", "test")


@dataclass(frozen=True)
class ImageEntry:
    """One image: its id, split (train or test), size in pixels, and the SHA-256 of its clean (c, h, w) pixels.

    That of the degraded pixels is None for clean images, and in data sets of former releases.
    """

    __pydantic_config__ = {"extra": "forbid"}

    image_id: str
    split: Annotated[str, Field(pattern="^(train|test)$")]
    height: int
    width: int
    sha256: str
    degraded_sha256: str | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything about a prepared data set but its pixels.

    >>> from skimage import data
    >>> import irnas_ray as ir
    >>> for index in range(4):
    ...     ir.images.write_image(f"photographs/{index}.png", data.camera()[64 * index :][:64, :64] / 255)
    >>> folder = ir.prepare(ir.Data(source="photographs", form="images", patch=32), "prepared")
    >>> manifest = ir.Manifest.load(folder)
    >>> manifest.ids("test"), manifest.images[0].height
    (('2',), 64)
    """

    form: str
    #: The folder it was made from; null: the embedded photographs.
    source: str | None
    #: gray or rgb.
    color: Annotated[str, Field(pattern="^(gray|rgb)$")]
    #: Side in pixels of the largest crops that every training image can give.
    patch: PositiveInt
    #: Whether degraded images are stored beside the clean ones.
    paired: bool
    #: Changes with the settings above and with the source's files.
    fingerprint: str
    #: Path of each Parquet file inside the folder -> its size in bytes.
    files: dict[str, int]
    #: Library -> version that wrote the data set.
    versions: dict[str, str]
    #: When it was written, ISO 8601, UTC.
    created: str
    images: tuple[ImageEntry, ...]
    #: Bits a channel of all pixels.
    bits: Literal[8, 16] = 8

    @property
    def channels(self) -> int:
        """1 for gray, 3 for rgb."""
        return channels_of(self.color)

    @property
    def depth(self) -> Depth:
        """The depth of all pixels."""
        return Depth(self.bits)

    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of the images of a split, train or test, in the source's order."""
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; it must be train or test")
        return tuple(image.image_id for image in self.images if image.split == split)

    def save(self, folder: Path) -> None:
        """Write the manifest into `folder`, complete or not at all."""
        head = {"format": FORMAT, "version": VERSIONS[self.depth]}
        write_json(folder / MANIFEST, head | dataclasses.asdict(self))

    @classmethod
    def load(cls, folder: Path | str) -> "Manifest":
        """The manifest of a prepared folder.

        ValueError naming the file, and the field where there is one, if it is missing, damaged or of another version,
        or if one of its Parquet files is gone or has another size.
        """
        path = Path(folder) / MANIFEST
        try:
            text = path.read_text(encoding="utf-8")
            content = json.loads(text)
        except FileNotFoundError as error:
            raise ValueError(f"{path}: no such file; {path.parent} is not a complete prepared data set") from error
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: is not complete JSON ({error}); prepare the data set again") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"{path}: field 'format' must be {FORMAT!r}; this file is something else")
        newest = max(VERSIONS.values())
        if content.get("version") not in range(1, newest + 1):
            raise ValueError(
                f"{path}: field 'version' is {content.get('version')!r}, this program reads versions up to {newest}; "
                "prepare it again"
            )
        try:
            # strict, so that a name or a truth is no number; only lists of JSON are then tuples
            manifest = TypeAdapter(cls).validate_json(text, strict=True)
        except ValidationError as error:
            raise ValueError(f"{path}: {_first_mistake(error)}") from None
        for name, size in manifest.files.items():
            file = path.parent / name
            if not file.is_file() or file.stat().st_size != size:
                raise ValueError(f"{file}: is missing or not the {size} bytes that {MANIFEST} names; prepare it again")
        return manifest


def _first_mistake(error: ValidationError) -> str:
    first = error.errors()[0]
    field, *inner = first["loc"]
    where = "".join(f", entry {part}" if isinstance(part, int) else f", {part!r}" for part in inner)
    found = "" if first["type"] == "missing" else f", not {reprlib.repr(first['input'])}"
    return f"field {field!r}{where}: {first['msg']}{found}"


def is_prepared(folder: Path | str | None) -> bool:
    """Whether `prepare` finished a data set in `folder`."""
    return folder is not None and (Path(folder) / MANIFEST).is_file()
