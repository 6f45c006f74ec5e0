"""Passwords in URLs, which are used but never written down."""

import re

#: What stands for a password.
MASK = "***"


def masked(url: str) -> str:
    """The URL with its password, as ``user:password@`` or ``password=``, replaced by ``***``."""
    # up to the last @: an unescaped one inside a password must not show the rest of it
    hidden = re.sub(r"(?<=://)([^:/?@]*):.*@", rf"\1:{MASK}@", url)
    return re.sub(r"(?i)\b(passw(?:or)?d|pwd)=[^&]*", rf"\1={MASK}", hidden)
