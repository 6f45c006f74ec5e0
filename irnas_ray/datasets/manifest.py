"""The manifest of a prepared data set: what it holds, how it was made, and whether it is complete."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irnas_ray.images.files import channels_of
from irnas_ray.system.files import write_json

MANIFEST = "dataset.json"
FORMAT = "irnas_ray.dataset"
VERSION = 1
SPLITS = ("train", "test")


@dataclass(frozen=True)
class ImageEntry:
    """One image: its id, split (train or test), size in pixels, and the SHA-256 of its clean (c, h, w) pixels."""

    image_id: str
    split: str
    height: int
    width: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything about a prepared data set but its pixels.

    >>> from skimage import data
    >>> import irnas_ray as ir
    >>> for index in range(4):
    ...     ir.images.write_image(f"photographs/{index}.png", data.camera()[64 * index :][:64, :64] / 255)
    >>> folder = ir.prepare(ir.Data(source="photographs", form="images", patch=32), "prepared")
    >>> manifest = ir.Manifest.load(folder)
    >>> manifest.ids("test"), manifest.patches
    (('2',), 12)
    """

    form: str
    #: The folder it was made from; null: the embedded photographs.
    source: str | None
    #: gray or rgb.
    color: str
    #: Side of the square patches, and the distance between two of them, in pixels.
    patch: int
    stride: int
    #: Whether degraded images are stored beside the clean ones.
    paired: bool
    #: Changes with the settings above and with the source's files.
    fingerprint: str
    #: Number of patches of the training images.
    patches: int
    #: Path of each Parquet file inside the folder -> its size in bytes.
    files: dict[str, int]
    #: Library -> version that wrote the data set.
    versions: dict[str, str]
    #: When it was written, ISO 8601, UTC.
    created: str
    images: tuple[ImageEntry, ...]

    @property
    def channels(self) -> int:
        """1 for gray, 3 for rgb."""
        return channels_of(self.color)

    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of the images of a split, train or test, in the source's order."""
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; it must be train or test")
        return tuple(image.image_id for image in self.images if image.split == split)

    def save(self, folder: Path) -> None:
        """Write the manifest into `folder`, complete or not at all."""
        write_json(folder / MANIFEST, {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)})

    @classmethod
    def load(cls, folder: Path | str) -> "Manifest":
        """The manifest of a prepared folder.

        ValueError naming the file, and the field where there is one, if it is missing, damaged or of another version,
        or if one of its Parquet files is gone or has another size.
        """
        path = Path(folder) / MANIFEST
        content = _read_json(path)
        if content.get("format") != FORMAT:
            raise ValueError(f"{path}: field 'format' is {content.get('format')!r}, not {FORMAT!r}")
        if content.get("version") != VERSION:
            raise ValueError(
                f"{path}: field 'version' is {content.get('version')!r}, this program reads {VERSION}; prepare it again"
            )
        values = {field.name: _field(path, content, field.name) for field in dataclasses.fields(cls)}
        values["images"] = tuple(_entry(path, index, entry) for index, entry in enumerate(values["images"]))
        if values["color"] not in ("gray", "rgb"):
            raise ValueError(f"{path}: field 'color' is {values['color']!r}; it must be gray or rgb")
        for name in ("patch", "stride"):
            if values[name] < 1:
                raise ValueError(f"{path}: field {name!r} is {values[name]}; it must be at least 1")
        for name, size in values["files"].items():
            file = path.parent / name
            if not file.is_file() or file.stat().st_size != size:
                raise ValueError(f"{file}: is missing or not the {size} bytes that {MANIFEST} names; prepare it again")
        return cls(**values)


_TYPES: dict[str, tuple[type, ...]] = {
    "form": (str,),
    "source": (str, type(None)),
    "color": (str,),
    "patch": (int,),
    "stride": (int,),
    "paired": (bool,),
    "fingerprint": (str,),
    "patches": (int,),
    "files": (dict,),
    "versions": (dict,),
    "created": (str,),
    "images": (list,),
}
_ENTRY_TYPES: dict[str, type] = {"image_id": str, "split": str, "height": int, "width": int, "sha256": str}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; {path.parent} is not a complete prepared data set") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: is not complete JSON ({error}); prepare the data set again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not an object")
    return content


def _field(path: Path, content: dict[str, Any], name: str) -> Any:
    if name not in content:
        raise ValueError(f"{path}: field {name!r} is missing")
    value = content[name]
    # bool is a subclass of int: `true` must not pass for a number.
    wrong_bool = isinstance(value, bool) and bool not in _TYPES[name]
    if wrong_bool or not isinstance(value, _TYPES[name]):
        raise ValueError(f"{path}: field {name!r} is a {type(value).__name__}, not a {_TYPES[name][0].__name__}")
    return value


def _entry(path: Path, index: int, entry: Any) -> ImageEntry:
    where = f"{path}: field 'images', entry {index}"
    if not isinstance(entry, dict) or set(entry) != set(_ENTRY_TYPES):
        raise ValueError(f"{where}: must be an object with {', '.join(_ENTRY_TYPES)}")
    for name, kind in _ENTRY_TYPES.items():
        if type(entry[name]) is not kind:
            raise ValueError(f"{where}: {name!r} is a {type(entry[name]).__name__}, not a {kind.__name__}")
    if entry["split"] not in SPLITS:
        raise ValueError(f"{where}: 'split' is {entry['split']!r}; it must be train or test")
    return ImageEntry(**entry)


def is_prepared(folder: Path | str | None) -> bool:
    """Whether `prepare` finished a data set in `folder`."""
    return folder is not None and (Path(folder) / MANIFEST).is_file()
