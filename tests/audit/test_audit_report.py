"""The files of an audit, of one that has everything and of one that has little."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from audit_cases import small_audit
from PIL import Image

from irnas_ray.audit.html_page import render
from irnas_ray.audit.plots import plot_anytime, plot_arms
from irnas_ray.audit.record import Arm, audit_of, read_audit
from irnas_ray.audit.report import write_audit
from irnas_ray.audit.tables import arms_table, costs_table, markdown, mean_score, tau_table


class Page(HTMLParser):
    """The text of a page, its tags that were never closed, and what it would load or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.loaded: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        sources = [value for name, value in attrs if name in ("src", "href")]
        self.loaded += [tag] if tag in ("script", "link") else [s for s in sources if not s.startswith("data:image/")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def audit():
    return small_audit()


@pytest.fixture(scope="module")
def little(audit):
    """An audit of two runs without trails, proxies and facts, and of networks that are no genotypes."""
    bare = {"trail": [], "skip_share": None, "ties": None, "parameters": None, "multiply_adds_per_pixel": None}
    arms = {
        key: Arm(arm.title, [dataclasses.replace(run, **bare) for run in arm.runs[:2]])
        for key, arm in audit.arms.items()
    }
    return audit_of("little", arms, audit.images, 5.0, draws=100)


def test_an_audit_leaves_its_files(audit, tmp_path):
    page = write_audit(audit, tmp_path / "new")
    names = ["anytime.png", "arms.png", "audit.html", "audit.json", "audit.md", "proxies.png"]
    assert sorted(path.name for path in page.parent.iterdir()) == names and page.name == "audit.html"
    assert read_audit(page.parent / "audit.json").judgement == audit.judgement
    for name in ("anytime", "arms", "proxies"):
        with Image.open(page.parent / f"{name}.png") as picture:
            assert picture.width > 500


def test_a_page_needs_nothing_but_itself_and_says_all(audit):
    page = Page(render(audit))
    text = " ".join(page.words)
    assert not page.open and not page.loaded
    for words in (
        audit.judgement.sentence,
        "evolution-compact",
        "controls: all <skip>",
        "2 h 1 min",
        "bsd200-gray-full",
    ):
        assert words in text
    assert render(audit).count("data:image/png") == 3


def test_markdown_begins_with_the_verdict(audit):
    text = markdown(audit)
    assert text.startswith(f"# Audit evolution-compact\n\n{audit.judgement.sentence}\n")
    for heading in ("## Arms", "## Proxies", "## Costs", "## Found by the search"):
        assert heading in text
    # what a network is called may hold a bar
    assert re.search(r"\| run 0 \| \d\d\.\d{3} \| \d \\\| \d", text)


def test_an_audit_that_has_little_is_shown_without_what_it_lacks(little, tmp_path):
    page = Page(render(little))
    assert not page.open and "R = 2 can show nothing" in " ".join(page.words)
    assert "Proxies" not in page.words and "Best so far" not in page.words
    write_audit(little, tmp_path)
    assert not (tmp_path / "anytime.png").exists() and not (tmp_path / "proxies.png").exists()
    assert arms_table(little).rows[0][4:] == ["–", "–", "–", "–"]


def test_a_table_tells_arms_in_one_row_and_controls_one_by_one(audit):
    rows = {row[0]: row[1:] for row in arms_table(audit).rows}
    assert list(rows) == ["evolution", "random search", "uniform networks", "controls: all <skip>"]
    means = [mean_score(run) for run in audit.arms["searched"].runs]
    assert rows["evolution"][:2] == ["5", f"{sum(means) / 5:.3f}"]
    assert rows["evolution"][3:5] == ["43,000", "10,800"] and rows["evolution"][6] == "5 of 40"
    assert rows["controls: all <skip>"][5] == "100%"
    assert costs_table(audit).rows[-1][:3] == ["together", "23", "2,300"]
    assert [row[0] for row in tau_table(audit).rows] == ["mixture score", "parameters"]
    assert tau_table(audit).rows[1][1:3] == ["–", "–"]


def test_pictures_show_every_run(audit):
    dots = [len(cloud.get_offsets()) for cloud in plot_arms(audit).axes[0].collections]
    assert dots == [5, 5, 12, 1]
    lines = plot_anytime(audit).axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["evolution", "random search"]
    for line in lines:
        heights = line.get_ydata()
        assert list(heights) == sorted(heights)
