"""Secrets of a user that outlive a process: made when they are first needed, and read by nobody else."""

import contextlib
import os
import secrets
from pathlib import Path


def kept_secret(file: Path) -> str:
    """The 64 hexadecimal digits that a file holds, which is made unless it exists; OSError if it cannot be.

    Of several processes that make it at the same time all get the same.
    """
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = file.with_name(f".{secrets.token_hex(8)}")
        made.touch(mode=0o600)
        try:
            made.write_text(secrets.token_hex(32))
            with contextlib.suppress(FileExistsError):
                os.link(made, file)
        finally:
            made.unlink()
    return file.read_text()
