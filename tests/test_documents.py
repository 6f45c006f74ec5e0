"""What the README and docs/ show runs as it stands, Python and commands; generated pages are what the code says."""

import re
import runpy
import shlex
import textwrap
import tomllib
from pathlib import Path

import nbclient
import nbformat
import pytest
import yaml
from command_line_cases import COMMANDS, leaves

import irnas_ray as ir
from irnas_ray.cli.configuration import KINDS, compose
from irnas_ray.study.checks import check_search, check_settings
from irnas_ray.study.retraining import candidates_of

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def python_blocks(path: Path) -> list[str]:
    """The Python examples of a document, also indented ones."""
    blocks: list[list[str]] = []
    inside = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("```"):
            inside = line.strip() == "```python"
            blocks += [[]] if inside else []
        elif inside:
            blocks[-1].append(line)
    return [textwrap.dedent("\n".join(block)) for block in blocks]


EXAMPLES = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in DOCUMENTS
    for number, block in enumerate(python_blocks(path), 1)
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_of_the_documents_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "example", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("name", ["api", "settings"])
def test_a_generated_page_is_up_to_date(name):
    page = runpy.run_path(str(ROOT / "docs" / f"make_{name}.py"))["page"]()
    assert (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") == page, f"run python docs/make_{name}.py"


def test_the_page_of_settings_lists_every_key():
    listed = re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(listed) == set().union(*map(leaves, COMMANDS.values()))


def commands_in(path: Path) -> set[tuple[str, ...]]:
    """The words of each command of this package that a document shows, in a block of code or in a line."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(irnas-ray [a-z]+ [^`]*)`", text.replace("\n", " "))
    found = set()
    for line in lines:
        said = re.search(r"(?:irnas-ray |launchers/(?=\w+\.py ))(.*)", line)
        if said:
            name, *words = shlex.split(said.group(1), comments=True)
            found.add((name.removesuffix(".py"), *(word for word in words if word not in ("...", "&", ";;"))))
    return {words for words in found if words[0] in KINDS and "--help" not in words and "--cfg" not in words}


#: What is said of a command whose only fault is that a word stands for the reader's own.
STANDS_FOR = r"no such file|mynetworks:MyNetwork cannot be imported|genotype: is missing|unknown '\.\.\.'"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_the_commands_of_the_documents_are_accepted(path):
    for name, *words in commands_in(path):
        try:
            config = compose(name, words)
            if name == "search":
                check_settings(config)
                check_search(config)
            elif name == "retrain":
                candidates_of(config)
        except ValueError as error:
            assert re.search(STANDS_FOR, str(error)), f"{name} {shlex.join(words)}: {error}"


def test_documents_have_commands():
    assert len(set().union(*map(commands_in, DOCUMENTS))) > 50


def test_documents_have_examples():
    assert {example.id for example in EXAMPLES} >= {"training-1", "api-1"}


@pytest.mark.whole
def test_the_notebook_runs_and_its_network_learns(tmp_path):
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "commit it without outputs"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in code for output in cell.outputs)
    score = {
        name: float(re.search(rf"^{name} +([\d.]+) dB", printed, re.MULTILINE)[1]) for name in ("degraded", "network")
    }
    assert score["network"] > score["degraded"] + 7, printed
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3 and (tmp_path / "network.pt").is_file()


def test_every_way_in_names_a_test_that_exists():
    """The list of ways from others' files to code, in docs/security.md."""
    rows = [line for line in (ROOT / "docs" / "security.md").read_text().splitlines() if line.startswith("|")][2:]
    assert len(rows) > 15
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_the_version_is_one_everywhere():
    versions = {
        "package": ir.__version__,
        "project": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "citation": str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]),
        "changelog": re.findall(r"^## (\d+\.\d+\.\d+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0],
    }
    assert len(set(versions.values())) == 1, versions


def test_hooks_before_a_commit_run_what_is_installed():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert {hook["entry"].split()[0] for hook in repository["hooks"]} == {"ruff", "mypy", "python"}
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
