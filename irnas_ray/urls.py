"""Folders and URLs of object stores, written the same way: a path, or ``scheme://place/path?options``."""

from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit


def is_url(place: str) -> bool:
    """Whether this is a URL and no path."""
    return "://" in place


def absolute(place: str) -> str:
    """A path made absolute, with ``~`` replaced; a URL as it is."""
    return place if is_url(place) else str(Path(place).expanduser().absolute())


def join(place: str, *names: str) -> str:
    """What lies below a folder or URL; the options of a URL stay at its end."""
    if not is_url(place):
        return str(Path(place, *names))
    parts = urlsplit(place)
    return urlunsplit(parts._replace(path=str(PurePosixPath(parts.path or "/", *names))))


def split(place: str) -> tuple[str, str]:
    """The folder or URL above, and the last name."""
    if not is_url(place):
        return str(Path(place).parent), Path(place).name
    parts = urlsplit(place)
    path = PurePosixPath(parts.path)
    return urlunsplit(parts._replace(path=str(path.parent))), path.name
