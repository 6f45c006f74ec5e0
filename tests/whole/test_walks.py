"""The two walks of docs/architecture.md: a patch and a hyperparameter pass the files listed there, in that order."""

import os
import re
from pathlib import Path

import pytest
from study_cases import ROOT, SMALL, launch

PAGE = (ROOT / "docs" / "architecture.md").read_text()
#: A loss weight that nothing else is equal to.
NUMBER = "0.424242"


def described(heading: str) -> list[str]:
    """The files that the page lists under a heading."""
    section = PAGE.split(f"### {heading}\n")[1].split("\n#")[0]
    return re.findall(r"^\d+\. `([\w/]+\.py)`", section, re.MULTILINE)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a search and its report have left the files in which a patch and a hyperparameter were met."""
    folder = tmp_path_factory.mktemp("walk")
    hook = str(Path(__file__).parents[1] / "support" / "walk")
    path = os.pathsep.join(filter(None, [hook, os.environ.get("PYTHONPATH", "")]))
    values = {"WALK": f"patch,{NUMBER}", "WALK_FILE": str(folder / "walk"), "PYTHONPATH": path}
    values["WALK_PACKAGE"] = str(ROOT / "irnas_ray")
    with pytest.MonkeyPatch.context() as context:
        for name, value in values.items():
            context.setenv(name, value)
        settings = [x for x in SMALL if "proxy" not in x]
        domains = ["domains.architecture.nodes=null", "domains.architecture.width=null", "tune.trials=1"]
        done = launch("search", *settings, *domains, f"domains.search.ssim_weight=[{NUMBER}]", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "walk"


@pytest.mark.whole
@pytest.mark.parametrize(("heading", "followed", "most"), [("A patch", "patch", 11), ("A hyperparameter", NUMBER, 15)])
def test_it_passes_the_files_that_the_page_lists_and_turns_back_nowhere(
    heading: str, followed: str, most: int, walk: Path
) -> None:
    listed = described(heading)
    assert 5 < len(listed) <= most and len(set(listed)) == len(listed)
    found = Path(f"{walk}-{followed}").read_text().split()
    # checks, and the preparation of the data, meet some of the files before the walk begins
    begun = list(dict.fromkeys(found[found.index(listed[0]) :]))
    assert [name for name in begun if name in listed] == listed, "\n".join(begun)
