"""A hook of mkdocs.yml: files outside docs/ and the notebook become part of the site, so that links work there, too."""

import json
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
#: Document outside docs/ -> its page.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Take the documents outside docs/ as pages, and the notebook as what it holds without its outputs."""
    for document, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / document)))
    for notebook in (ROOT / "docs").glob("*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        forms = {"markdown": "{}", "code": "```python\n{}\n```"}
        text = "\n\n".join(forms[cell["cell_type"]].format("".join(cell["source"])) for cell in cells)
        files.append(File.generated(config, f"{notebook.stem}.md", content=text))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between documents, which are relative to where these lie in the repository, as links between pages."""
    documents = {name: document for document, name in PAGES.items()}
    folder = posixpath.dirname(documents.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def link(found: re.Match[str]) -> str:
        text, address, anchor = found.groups()
        target = posixpath.normpath(posixpath.join(folder, address))
        if (ROOT / target).is_dir():
            return text
        if target not in PAGES and (not target.startswith("docs/") or target.endswith(".py")):
            copy = f"source/{target}.txt"  # a browser shows text
            if files.get_file_from_path(copy) is None and (ROOT / target).is_file():
                files.append(File.generated(config, copy, abs_src_path=str(ROOT / target)))
            return f"[{text}]({copy})"
        name = re.sub(r"\.ipynb$", ".md", target.removeprefix("docs/"))
        return f"[{text}]({PAGES.get(target, name)}{anchor or ''})"

    return re.sub(r"\[([^\]]*)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)", link, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> None:
    """The site works without a network: PluginError if a page loads anything from elsewhere."""
    tag = r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)"
    loaded = re.findall(tag + r"=[\"']?((?:https?:)?//[^\"'>\s]+)", output)
    if loaded:
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {', '.join(loaded)}")
