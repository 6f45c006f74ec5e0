"""Folders and URLs of object stores, written the same way, and passwords in URLs, which are never written down."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

#: What stands for a password.
MASK = "***"


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


def masked(url: str) -> str:
    """The URL with its password, as ``user:password@`` or ``password=``, replaced by ``***``."""
    # up to the last @: an unescaped one inside a password must not show the rest of it
    hidden = re.sub(r"(?<=://)([^:/?@]*):.*@", rf"\1:{MASK}@", url)
    return re.sub(r"(?i)\b(passw(?:or)?d|pwd)=[^&]*", rf"\1={MASK}", hidden)
