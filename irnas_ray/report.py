"""The study as tables, pictures and one page."""

from pathlib import Path


def write_report(folder: Path) -> None:
    """placeholder replaced below"""
