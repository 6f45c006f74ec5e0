"""The files of an audit: what it measured, the verdict as text, pictures, and one page."""

from pathlib import Path

from irnas_ray.audit.html_page import figures, render
from irnas_ray.audit.record import Audit, write_record
from irnas_ray.audit.tables import markdown
from irnas_ray.results.plots import save_png
from irnas_ray.system.files import write_text


def write_audit(audit: Audit, folder: str | Path) -> Path:
    """Writes ``audit.json``, ``audit.md``, ``audit.html`` and its pictures as PNG into a folder, and returns the page.

    Each file is written whole or not at all. OSError naming the file if it cannot be written.
    """
    folder = Path(folder)
    write_record(audit, folder / "audit.json")
    write_text(folder / "audit.md", markdown(audit))
    for name, figure in figures(audit).items():
        save_png(figure, folder / f"{name}.png")
    page = folder / "audit.html"
    write_text(page, render(audit))
    return page
