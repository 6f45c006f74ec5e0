"""Write docs/api.md from the packages' stubs and docstrings: python docs/make_api.py."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "irnas_ray"
HEAD = """# Python API

<!-- Written by docs/make_api.py from stubs and docstrings; run it after changing them. -->

`import irnas_ray as ir` loads nothing else; a name is loaded when it is first used. `help(ir.restore)` says shapes,
units, errors and sources, and shows an example. What a package holds besides is not public and may change.

```python
import torch

import irnas_ray as ir

genotype = ir.load_genotype("irnas_denoise")
network = ir.DerivedNetwork(genotype, channels=1, width=4)  # the paper's width is 20
ir.save_network(network, "network.pt", notes={"sigma": 50})
network, notes = ir.load_network("network.pt")
restored = ir.restore(network, torch.rand(1, 50, 60), tile=32)
```
"""


def main() -> None:
    """Write the page."""
    (ROOT / "docs" / "api.md").write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page as Markdown: a table for each public package."""
    public = stub(PACKAGE)
    sections = []
    for room in sorted({module or name for name, module in public.items()}):
        folder = PACKAGE / room
        whole = room in public
        rows = [
            f"| [`ir.{name if public.get(name) == room else f'{room}.{name}'}`](../irnas_ray/{room}/{module}.py) "
            f"| {meaning(folder / f'{module}.py', name)} |"
            for name, module in stub(folder).items()
            if whole or name in public
        ]
        about = first_sentence(ast.get_docstring(parsed(folder / "__init__.py")) or "")
        sections.append("\n".join([f"## {room}\n\n{about}\n\n| name | what it is |\n|---|---|", *rows, ""]))
    return "\n".join([HEAD, *sections])


def stub(folder: Path) -> dict[str, str]:
    """Each name that a package exports -> the module that it comes from; empty for a package."""
    imports = [node for node in parsed(folder / "__init__.pyi").body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


def parsed(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text(encoding="utf-8"))


def meaning(file: Path, name: str) -> str:
    """What a name is: the first sentence of its docstring, or of the ``#:`` comment above a constant."""
    for node in parsed(file).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return first_sentence(ast.get_docstring(node) or "")
    lines = file.read_text(encoding="utf-8").splitlines()
    place = next(index for index, line in enumerate(lines) if re.match(rf"{name}\b.*=", line))
    comment: list[str] = []
    while place and lines[place - 1].startswith("#:"):
        place -= 1
        comment.insert(0, lines[place].removeprefix("#:").strip())
    return first_sentence(" ".join(comment))


def first_sentence(text: str) -> str:
    """The first sentence of a text, on one line and fit for a cell of a table."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    found = re.match(r".*?\.(?=\s+[A-Z`]|$)", paragraph)
    assert found, f"no sentence: {text!r}"
    return found.group().replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    main()
