"""Which files form a pair: two folders, two kinds of names in one folder (as PolyU's), or the rows of a CSV."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from irnas_ray.images.files import IMAGE_SUFFIXES, list_images
from irnas_ray.system.names import check_names, normalised

#: Names of the two folders of pairs.
CLEAN_FOLDERS = ("clean", "target", "gt")
DEGRADED_FOLDERS = ("degraded", "input", "noisy")

COLUMNS = ("clean", "degraded")
_MOST_NAMES = 50
ONE_NAME = "have one name but for the suffix or how accents are stored; rename one"


@dataclass(frozen=True)
class Pair:
    """A clean file and its degraded one, under one name; `split` where a CSV says it."""

    name: str
    clean: Path
    degraded: Path
    split: str | None = None


def is_csv(source: Path) -> bool:
    """Whether a source is a CSV of pairs rather than a folder."""
    return source.suffix.lower() == ".csv"


def has_pairs(folder: Path, clean_names: str, degraded_names: str) -> bool:
    """Whether a folder has the two folders of pairs, or nothing but images named as pairs are, of both kinds."""
    if subfolders(folder, CLEAN_FOLDERS + DEGRADED_FOLDERS):
        return True
    kinds = {_kind(path, clean_names, degraded_names)[0] for path in _images_in(folder)}
    return kinds == {"clean", "degraded"}


def subfolders(root: Path, names: tuple[str, ...]) -> list[Path]:
    """The folders in `root` with one of these names, whatever their case, sorted."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.name.lower() in names and path.is_dir())


def folder_pairs(folder: Path, clean_names: str, degraded_names: str, alone: list[str] | None = None) -> list[Pair]:
    """The pairs of a folder: files of one name in clean/ and degraded/, else files named as the two patterns say.

    `alone` takes what has no partner. ValueError if it is None and a partner is missing, or if files cannot be told
    apart, are named neither way, or a pattern does not hold one `*`.
    """
    for key, pattern in (("clean_names", clean_names), ("degraded_names", degraded_names)):
        if pattern.count("*") != 1:
            raise ValueError(f"data.{key} is {pattern!r}; it must hold one * for what the names of a pair share")
    if subfolders(folder, CLEAN_FOLDERS + DEGRADED_FOLDERS):
        clean, degraded = _in_two_folders(folder)
    else:
        clean, degraded = _in_one_folder(folder, clean_names, degraded_names)
    missing = [f"{name} (not in degraded)" for name in clean if name not in degraded]
    missing += [f"{name} (not in clean)" for name in degraded if name not in clean]
    if missing and alone is None:
        more = ", ..." if len(missing) > _MOST_NAMES else ""
        raise ValueError(f"{folder}: {len(missing)} images have no partner: {', '.join(missing[:_MOST_NAMES])}{more}")
    if alone is not None:
        alone += [f"{folder.name}/{name}" for name in missing]
    return [Pair(name, clean[name], degraded[name]) for name in clean if name in degraded]


def csv_pairs(path: Path, splits: Mapping[str, str]) -> list[Pair]:
    """The rows of a CSV with the columns clean, degraded and, if it likes, split; files are relative to the CSV.

    A pair is named by its degraded file, since one clean image may have several. ValueError with the line if a column,
    a value or a file is missing, or a split is not one of `splits`, whose values are train and test.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a CSV of pairs ({error})") from error
    header = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=";" if ";" in header and "," not in header else ","
    )
    columns = {(name or "").strip().lower(): name for name in reader.fieldnames or []}
    absent = [name for name in COLUMNS if name not in columns]
    if absent:
        raise ValueError(f"{path}: has no column {' and no column '.join(absent)}; the first line must name them")
    check_names([path])
    pairs: dict[Path, Pair] = {}
    listed: dict[Path, dict[str, Path]] = {}
    for row in reader:
        values = {name: (row[column] or "").strip() for name, column in columns.items() if name}
        pair = _row_pair(path, reader.line_num, values, splits, listed)
        if pair.degraded in pairs:
            raise ValueError(f"{path}, line {reader.line_num}: {values['degraded']} is listed a second time")
        pairs[pair.degraded] = pair
    if not pairs:
        raise ValueError(f"{path}: lists no pair")
    return list(pairs.values())


def _row_pair(
    path: Path, line: int, values: dict[str, str], splits: Mapping[str, str], listed: dict[Path, dict[str, Path]]
) -> Pair:
    files = []
    for name in COLUMNS:
        if not values[name]:
            raise ValueError(f"{path}, line {line}: column {name} is empty")
        files.append(_stored(path.parent, values[name], listed))
        if not files[-1].is_file():
            raise ValueError(f"{path}, line {line}: there is no file {files[-1]}")
    split = None
    if "split" in values:
        split = splits.get(values["split"].lower())
        if split is None:
            raise ValueError(f"{path}, line {line}: split is {values['split']!r}; possible: {', '.join(splits)}")
    # Results are filed under this name, so it must not lead out of a folder.
    parts = [part for part in Path(values["degraded"]).with_suffix("").parts if part not in ("..", "/")]
    return Pair(normalised("/".join(parts)), files[0], files[1], split)


def _stored(folder: Path, name: str, listed: dict[Path, dict[str, Path]]) -> Path:
    """The path of a file whose name may store accents in another way than `name`; `listed` keeps folders' entries."""
    path = folder / name
    if path.exists() or name.isascii():
        return path
    parent = _stored(folder, str(Path(name).parent), listed)
    if parent not in listed:
        entries = parent.iterdir() if parent.is_dir() else ()
        listed[parent] = {normalised(entry.name): entry for entry in entries}
    return listed[parent].get(normalised(path.name), path)


def _in_two_folders(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    sides = []
    for names in (CLEAN_FOLDERS, DEGRADED_FOLDERS):
        folders = subfolders(folder, names)
        if len(folders) != 1:
            raise ValueError(f"{folder}: pairs need one folder named {' or '.join(names)}, found {len(folders)}")
        listed = list_images(folders[0])
        by_stem = {normalised(path.stem): path for path in listed}
        if len(by_stem) < len(listed):
            raise ValueError(f"{folders[0]}: two files {ONE_NAME}")
        sides.append(by_stem)
    return sides[0], sides[1]


def _in_one_folder(folder: Path, clean_names: str, degraded_names: str) -> tuple[dict[str, Path], dict[str, Path]]:
    sides: dict[str, dict[str, Path]] = {"clean": {}, "degraded": {}, "": {}}
    for path in list_images(folder):
        kind, name = _kind(path, clean_names, degraded_names)
        if name in sides[kind]:
            raise ValueError(f"{folder}: {sides[kind][name].name} and {path.name} {ONE_NAME}")
        sides[kind][name] = path
    others = list(sides[""])
    if others:
        raise ValueError(
            f"{folder}: pairs need one folder named {' or '.join(CLEAN_FOLDERS)} and one named "
            f"{' or '.join(DEGRADED_FOLDERS)}, or names as {clean_names} and {degraded_names} (data.clean_names, "
            f"data.degraded_names); {len(others)} images are named otherwise: {', '.join(others[:5])}"
        )
    return sides["clean"], sides["degraded"]


def _kind(path: Path, clean_names: str, degraded_names: str) -> tuple[str, str]:
    """Whether a file is named as a clean or as a degraded one ("" if as neither), and what the two names share."""
    for kind, pattern in (("clean", clean_names), ("degraded", degraded_names)):
        before, _, after = (re.escape(part) for part in normalised(pattern).partition("*"))
        match = re.fullmatch(f"{before}(.+){after}", normalised(path.stem), re.IGNORECASE)
        if match:
            return kind, match.group(1)
    return "", normalised(path.stem)


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return [path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES]
