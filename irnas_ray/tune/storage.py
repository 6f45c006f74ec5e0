"""Opening the place where Tune keeps its runs, whatever kind it is of."""

import pyarrow
from pyarrow.fs import FileSystem


def open_storage(url: str) -> tuple[FileSystem, str]:
    """The file system of a path or URL and the path in it; ValueError if pyarrow knows no such file system."""
    try:
        return FileSystem.from_uri(url)
    except (OSError, pyarrow.ArrowException, ImportError, ValueError) as error:
        raise ValueError(
            f"cluster.storage: cannot open {url} ({error}); give a folder, or a URL such as s3://bucket/prefix"
        ) from None
