"""Names of files as text: in one form, whatever file system they come from."""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path


def normalised(name: str) -> str:
    """A name in the form by which names are compared (Unicode NFC): the same accents may be stored in several ways."""
    return unicodedata.normalize("NFC", name)


def check_names(paths: Iterable[Path | str]) -> None:
    """ValueError naming the first path that is not UTF-8: no table, data set or JSON file could hold its name."""
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{os.fsencode(path)!r}: this name is not UTF-8; rename the file or folder") from None
