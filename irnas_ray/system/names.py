"""Names of files as text: in one form, whatever file system they come from."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

#: Bytes of the longest name of a file.
MOST_BYTES = 255


def normalised(name: str) -> str:
    """A name in the form by which names are compared (Unicode NFC): the same accents may be stored in several ways."""
    return unicodedata.normalize("NFC", name)


def fitting(name: str, more: int = 0) -> str:
    """A name of at most 255 bytes with ``more`` bytes behind it, which is what file systems allow; long ones are cut.

    What is cut off is told apart by a digest.
    """
    content = name.encode()
    most = MOST_BYTES - more
    if len(content) <= most:
        return name
    digest = hashlib.sha256(content).hexdigest()[:12]
    return f"{content[: most - 13].decode(errors='ignore')}-{digest}"


def check_names(paths: Iterable[Path | str]) -> None:
    """ValueError naming the first path that is not UTF-8: no table, data set or JSON file could hold its name."""
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{os.fsencode(path)!r}: this name is not UTF-8; rename the file or folder") from None
