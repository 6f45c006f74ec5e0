"""Folders and URLs of object stores, written the same way, and passwords in URLs, which are never written down."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit, urlunsplit

#: What stands for a password.
MASK = "***"
#: What stands in a URL's path as it is, beside letters, digits and ``-._~`` (RFC 3986, section 3.3).
PLAIN = "/!$&'()*+,;=:@"


def is_url(place: str) -> bool:
    """Whether this is a URL and no path."""
    return re.match(r"[A-Za-z][\w+.-]*://", place) is not None


def absolute(place: str) -> str:
    """A path made absolute, with ``~`` replaced; a URL as it is."""
    return place if is_url(place) else str(Path(place).expanduser().absolute())


def join(place: str, *names: str) -> str:
    """What lies below a folder or URL; names stay what they are in a URL, too, and its options stay at its end."""
    if not is_url(place):
        return str(Path(place, *names))
    parts = urlsplit(place)
    escaped = [quote(name, PLAIN) for name in names]
    return urlunsplit(parts._replace(path=str(PurePosixPath(parts.path or "/", *escaped))))


def split(place: str) -> tuple[str, str]:
    """The folder or URL above, and the last name."""
    if not is_url(place):
        return str(Path(place).parent), Path(place).name
    parts = urlsplit(place)
    path = PurePosixPath(parts.path)
    return urlunsplit(parts._replace(path=str(path.parent))), unquote(path.name)


def masked(url: str) -> str:
    """The URL with its password, as ``user:password@`` or ``password=``, replaced by ``***``; a file has none."""
    if url.startswith(("sqlite:///", "journal:")) and "?" not in url:
        return url
    # up to the last @: an unescaped one inside a password must not show the rest of it
    hidden = re.sub(r"(?<=://)([^:/?@]*):.*@", rf"\1:{MASK}@", url)
    return re.sub(r"(?i)\b(passw(?:or)?d|pwd)=[^&]*", rf"\1={MASK}", hidden)
