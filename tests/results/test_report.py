"""The report and the analysis of studies that are finished, running, poor or broken."""

import base64
import io
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial
from PIL import Image
from report_cases import DENOISING, MARGINS, SPACE, SUMMARY, Page, make_record, make_study

from irnas_ray.genotypes.cell import OPERATORS, Edge
from irnas_ray.genotypes.decoding import Margin
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.genotypes.published import load_genotype, published_names
from irnas_ray.results.genotype_drawing import COLORS, draw_genotype
from irnas_ray.results.plots import plot_history, save_png
from irnas_ray.results.report import analyze, write_report
from irnas_ray.results.study_results import StudyResults, importances, read_study
from irnas_ray.results.tables import finals_table, frequencies, margins_table, noise_levels, trials_table, verdict
from irnas_ray.settings.commands import AnalyzeConfig

ROOT = Path(__file__).resolve().parents[2]


def check_picture(path: Path) -> None:
    with Image.open(path) as image:
        image.verify()
    with Image.open(path) as image:
        assert min(image.size) > 100
        assert np.asarray(image.convert("L")).std() > 5


def test_page_has_the_summary(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "small")
    for name in "abcd":
        path = folder / "finals/1/images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (64, 48), 99).save(path)
    (folder / "finals/1/images/b.png").write_bytes(b"no picture")
    assert write_report(folder) == folder / "report.html"
    text = (folder / "report.html").read_text()
    for expected in (
        *("28.12", "0.8125", "631,234", "640,000", "+13.50", "+1.12", "photographs-gray, sigma 50", "2 h 1 min"),
        *("9.8.7", "Abacus", "toy", "15 completed, 8 stopped early, 1 failed", "a tie, not a finding", "0.0123"),
        "1 of 3 decisions",
    ):
        assert expected in text, expected
    page = Page(text)
    assert page.open == [] and "script" not in page.tags and "link" not in page.tags
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert text.index("1.12 dB more than non-local means") < text.index("<table") and "@media print" in text
    headings = re.findall("<h2>(.*)</h2>", text)
    assert headings == ["Final networks", "Restored images", "Best genotype", "Search", "Trials", "Failed trials"] + [
        *("Costs", "Setting", "Again")
    ]
    assert f"irnas-ray evaluate network={folder}/finals/1/network.pt</pre>" in text
    # genotype, history, importances, and three samples of which the broken one is passed over
    assert len(page.sources) == 6
    assert [path.name for path in folder.glob(".*")] == []


def test_the_best_final_has_its_sheet_on_the_page(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "small", count=2)
    summary = json.loads((folder / "summary.json").read_text())
    summary["finals"].append(summary["finals"][0] | {"rank": 2, "psnr": 28.5, "sigma": 50.0})
    (folder / "summary.json").write_text(json.dumps(summary))
    for rank, side in {1: 20, 2: 30}.items():
        (folder / f"finals/{rank}").mkdir(parents=True)
        Image.new("RGB", (side, 10), "white").save(folder / f"finals/{rank}/sheet.png")
    results = read_study(folder)
    assert verdict(results)[0].startswith("The best network is final 2: 28.50 dB, 1.50 dB more than non-local means")
    write_report(folder)
    text = (folder / "report.html").read_text()
    (sheet,) = re.findall('src="data:image/jpeg;base64,([^"]*)"', text)
    with Image.open(io.BytesIO(base64.b64decode(sheet))) as image:
        assert image.size == (30, 10)
    assert "finals/2/images" in text and f"network={folder}/finals/2/network.pt" in text


def test_the_verdict_warns_of_a_search_that_decided_nothing() -> None:
    record = make_record("t0", "COMPLETE", {"seed": 0}, 25.0) | {"health": {"warning": "all margins are ties"}}
    results = StudyResults(Path("s"), "s", "toy", {}, {}, [record], [], None)
    assert verdict(results) == [
        "No network is trained from scratch yet; the best trial so far is t0, with a score of 25.00 dB.",
        "All margins are ties.",
    ]


def test_page_escapes_text(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "small", count=4, name="<script>alert(1)</script>")
    write_report(folder)
    text = (folder / "report.html").read_text()
    assert "<script" not in text and "&lt;script&gt;alert(1)" in text
    assert "&lt;b&gt;lost&lt;/b&gt; &amp; found" in text and "<b>" not in text


@pytest.mark.parametrize("states", [["COMPLETE"], ["PRUNED", "PRUNED"], ["FAIL"], []])
def test_page_of_a_poor_study_without_database(tmp_path: Path, states: list[str]) -> None:
    folder = make_study(tmp_path / "small", count=0, database=False)
    records = [make_record(str(i), state, {"seed": i}, 20.0 + i) for i, state in enumerate(states)]
    (folder / "summary.json").write_text(json.dumps({"trials": records}))
    text = write_report(folder).read_text()
    assert Page(text).open == []
    assert "Parameter importances need the Optuna study" in text
    assert ("No trial has reported a genotype" in text) == (states in ([], ["FAIL"]))
    assert ("no trial completed" in text) == ("PRUNED" in states)
    assert not (folder / "study.db").exists()


def test_finals_table_says_the_gains_and_dashes_for_what_is_not_finite() -> None:
    table = finals_table({"finals": [SUMMARY["finals"][0] | {"ssim": None}], "baselines": SUMMARY["baselines"]})
    assert table.rows[0][:5] == ["final 1", "28.12", "–", "+13.50", "+1.12"]
    assert [row[0] for row in table.rows[1:]] == ["degraded input", "non-local means"]
    assert all(len(row) == len(table.headers) for row in table.rows)


def test_noise_levels_have_tables_of_their_own(tmp_path: Path) -> None:
    finals = [SUMMARY["finals"][0] | {"name": f"cell, sigma={sigma}", "sigma": sigma} for sigma in (50.0, 30.0)]
    baselines = {f"noisy, sigma {s:g}": {"psnr": 10.0, "ssim": 0.1, "sigma": s} for s in (30.0, 50.0)}
    summary = SUMMARY | {"finals": finals, "baselines": baselines, "sigma": None}
    assert noise_levels(summary) == [30.0, 50.0] and noise_levels(SUMMARY) == [None]
    for sigma in (30.0, 50.0):
        table = finals_table(summary, sigma)
        assert [row[0] for row in table.rows] == [f"cell, sigma={sigma}", f"noisy, sigma {sigma:g}"]
        assert table.headers[3:5] == [f">gain over noisy, sigma {sigma:g} (dB)", ">parameters"]
    folder = make_study(tmp_path / "s", count=0)
    (folder / "summary.json").write_text(json.dumps(summary))
    text = write_report(folder).read_text()
    assert Page(text).open == [] and text.index("Sigma 30:") < text.index("Sigma 50:")
    assert text.count("<table>") - 2 == text[text.index("Sigma 50:") :].count("<table>") - 1


def test_tables_name_inputs_ties_and_keep_bars_in_their_cells(tmp_path: Path) -> None:
    rows = margins_table(MARGINS).rows
    assert rows[0][0] == "node 0 operator on input h(l-2)" and rows[0][4] == ""
    assert rows[1][1:3] == ["n2", "n0"] and rows[1][4] == "a tie, not a finding"
    markdown = trials_table([make_record("a", "COMPLETE", {"x.width": 1, "y.width": 2, "seed": 3}, 30.0)]).markdown()
    head, _, row = markdown.strip().splitlines()
    assert row.replace("\\|", "").count("|") == head.count("|")
    assert "x.width=1, y.width=2" in row


def test_frequencies_count_genotypes() -> None:
    other = Genotype(DENOISING.cells, (0, 1, 2, 2))
    found = dict(frequencies([DENOISING, DENOISING, other]))
    assert sorted(found["operators"].rows) == [
        *(["conv", "6", "20%"], ["def", "9", "30%"], ["dil", "6", "20%"], ["skip", "9", "30%"])
    ]
    assert found["edges"].rows[0][1] == "3"
    assert found["width paths"].rows == [["0-0-0-1", "2"], ["0-1-2-2", "1"]]


def test_importances_find_what_matters(tmp_path: Path) -> None:
    results = read_study(make_study(tmp_path / "small", count=60))
    shares = importances(results.configurations)
    assert next(iter(shares)) == "search.ssim_weight" and shares["search.ssim_weight"] > 0.5
    assert sum(shares.values()) == pytest.approx(1)


def test_importances_say_why_there_are_none() -> None:
    space = {"width": CategoricalDistribution([4, 6])}

    def trials(scores: list[float], widths: list[int]) -> list[optuna.trial.FrozenTrial]:
        pairs = zip(scores, widths, strict=True)
        return [create_trial(value=score, params={"width": width}, distributions=space) for score, width in pairs]

    with pytest.raises(ValueError, match="at least 8 completed configurations; there is 1"):
        importances(trials([1.0], [4]))
    with pytest.raises(ValueError, match="same score"):
        importances(trials([1.0] * 8, [4, 6] * 4))
    with pytest.raises(ValueError, match="no parameter varied"):
        importances(trials([float(i) for i in range(8)], [4] * 8))


def test_drawing_has_all_edges_and_levels() -> None:
    figure = draw_genotype(DENOISING, MARGINS)
    cell, path = figure.axes
    texts = [text.get_text() for text in cell.texts]
    for operator in set(OPERATORS) - {"none"}:
        assert texts.count(operator) == sum(edge.operator == operator for node in DENOISING.cells[0] for edge in node)
    assert [name for name in texts if name in ("h(l-2)", "h(l-1)", "n0", "n1", "n2", "n3", "n4")] == [
        *("h(l-2)", "h(l-1)", "n0", "n1", "n2", "n3", "n4")
    ]
    assert len(cell.patches) == 10
    assert [patch.get_linestyle() != "-" for patch in cell.patches].count(True) == 1
    assert list(path.lines[0].get_ydata()) == [0, 0, 0, 0, 1]
    assert [label.get_text() for label in path.get_yticklabels()] == ["1 W", "2 W", "4 W"]


def random_genotype(nodes: int, seed: int) -> Genotype:
    draw = random.Random(seed)
    names = [name for name in OPERATORS if name != "none"]
    inputs = [draw.sample(range(node + 2), 2) for node in range(nodes)]
    cell = tuple((Edge(first, draw.choice(names)), Edge(second, draw.choice(names))) for first, second in inputs)
    return Genotype((cell,), (0,))


DRAWN = {name: load_genotype(name) for name in published_names()} | {
    f"{nodes} nodes, {seed}": random_genotype(nodes, seed) for nodes in range(1, 8) for seed in range(3)
}


@pytest.mark.parametrize("genotype", DRAWN.values(), ids=DRAWN.keys())
def test_drawing_shows_every_edge_once_and_keeps_texts_apart(genotype: Genotype) -> None:
    figure = draw_genotype(genotype)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    texts = [text for text in axes.texts if text.get_bbox_patch() is not None]
    columns = {text.get_position()[0]: index for index, text in enumerate(texts[2 * genotype.nodes :])}
    shown = []
    for arrow, label in zip(axes.patches, texts[: 2 * genotype.nodes], strict=True):
        assert isinstance(arrow, FancyArrowPatch)
        start, *_, end = arrow.get_path().vertices[:3]
        source, target = (min(columns, key=lambda x: abs(x - place[0])) for place in (start, end))
        # the label stands on the arc's top, in its colour
        assert label.get_position()[0] == pytest.approx((source + target) / 2)
        assert to_rgba(label.get_color()) == arrow.get_edgecolor() == to_rgba(COLORS[label.get_text()])
        shown.append((columns[target] - 2, columns[source], label.get_text()))
    kept = [(node, edge.source, edge.operator) for node, edges in enumerate(genotype.cells[0]) for edge in edges]
    assert sorted(shown) == sorted(kept)
    boxes = [text.get_bbox_patch().get_window_extent() for text in texts]  # type: ignore[union-attr]
    boxes += [text.get_window_extent() for text in axes.texts if text not in texts]
    assert [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)] == []
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_drawing_of_a_cell_for_each_layer() -> None:
    untied = Genotype(DENOISING.cells * 4, DENOISING.levels, (1, 1.5, 2))
    figure = draw_genotype(untied, [Margin("cell 2 node 0 operator on input 1", "conv", "dil", 0.0)])
    dashed = [sum(patch.get_linestyle() != "-" for patch in axes.patches) for axes in figure.axes]
    assert dashed == [0, 0, 1, 0, 0]


def test_history_shows_each_state(tmp_path: Path) -> None:
    records = read_study(make_study(tmp_path / "small")).records
    records.append(make_record("last", "RUNNING", {"seed": 99}, 25.0))
    figure = plot_history(records)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["completed", "stopped early", "running or interrupted", "best so far", "failed"]
    best = figure.axes[0].lines[0].get_ydata()
    assert np.all(np.diff(best) >= 0)
    assert best[-1] == max(record["score"] for record in records if record["state"] == "COMPLETE")
    check_picture(save_png(figure, tmp_path / "history.png"))


def test_analyze_a_running_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_study(tmp_path / "small", summary=False)
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{folder}/study.db")
    running = study.ask(SPACE)
    replicate = {"seed": 24, "trial": "alive", "state": "RUNNING", "score": None, "error": None}
    running.set_user_attr("replicates", [replicate])
    running.report(21.5, 1)
    before = sorted(folder.rglob("*"))
    analyze(AnalyzeConfig(str(folder), top=3, output=str(tmp_path / "pictures")))
    text = capsys.readouterr().out
    assert "not finished" in text and "15 completed, 8 stopped early, 1 failed, 1 running" in text
    assert sorted(folder.rglob("*")) == before
    scores = [float(line.split("|")[5]) for line in text.splitlines() if re.match(r"\| \d+ \| completed", line)]
    completed = [t.value for t in study.trials if t.state == TrialState.COMPLETE and t.value is not None]
    assert scores == [round(score, 2) for score in sorted(completed, reverse=True)[:3]]
    for name in ("history", "importances", "genotype"):
        check_picture(tmp_path / "pictures" / f"{name}.png")
    assert str(tmp_path / "pictures/genotype.png") in text
    alive = next(record for record in read_study(folder).records if record["id"] == "alive")
    assert (alive["state"], alive["score"], alive["config"]["seed"]) == ("RUNNING", 21.5, 24)


def test_reading_adds_what_the_records_lack_once(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "small", count=6, summary=False)
    kept = [make_record("t00", "COMPLETE", {"seed": 0}, 30.0)]
    (folder / "trials").mkdir()
    (folder / "trials/records.json").write_text(json.dumps(kept))
    records = read_study(folder).records
    assert [record["id"] for record in records] == [f"t{i:02d}" for i in range(6)]
    assert records[0]["score"] == 30.0


def test_reading_leaves_the_database_free(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "small", summary=False)
    results = read_study(folder)
    with sqlite3.connect(folder / "study.db", timeout=0) as search:
        search.execute("BEGIN EXCLUSIVE")
    assert len(results.configurations) == 24


def test_journal_storage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_study(tmp_path / "small", database=False, summary=False)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    journal = tmp_path / "journal.log"
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"tune": {"storage": f"journal:{journal}"}}))
    with pytest.raises(ValueError, match="journal.log does not exist"):
        analyze(AnalyzeConfig(str(folder)))
    assert not journal.exists()
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    storage = optuna.storages.JournalStorage(backend)
    study = optuna.create_study(storage=storage, study_name="small", direction="maximize")
    study.add_trial(create_trial(value=31.25, params={}, distributions={}))
    analyze(AnalyzeConfig(str(folder)))
    assert "31.25" in capsys.readouterr().out


def test_analyze_names_what_is_wrong(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "small", count=2)
    (tmp_path / "empty").mkdir()
    for name, message in (("missing", "missing does not exist"), ("empty", "empty has no config.yaml")):
        with pytest.raises(ValueError, match=f"{message}.*studies in {tmp_path}: small"):
            analyze(AnalyzeConfig(str(tmp_path / name)))
    with pytest.raises(ValueError, match="give the study's folder"):
        analyze(AnalyzeConfig())
    with pytest.raises(ValueError, match="top: 0"):
        analyze(AnalyzeConfig(str(folder), top=0))
    (folder / "summary.json").write_text('{"trials": [')
    with pytest.raises(ValueError, match="summary.json cannot be read"):
        analyze(AnalyzeConfig(str(folder)))
    (folder / "summary.json").unlink()
    (folder / "study.db").unlink()
    with pytest.raises(ValueError, match="study.db does not exist"):
        analyze(AnalyzeConfig(str(folder)))
    assert not (folder / "study.db").exists()
    optuna.create_study(storage=f"sqlite:///{folder}/study.db", study_name="another")
    with pytest.raises(ValueError, match="holds no study named 'small'"):
        analyze(AnalyzeConfig(str(folder)))


def test_launcher(tmp_path: Path) -> None:
    make_study(tmp_path / "small", count=3)
    command = [sys.executable, str(ROOT / "launchers/analyze.py"), "study=small", "top=1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# Study small")
    check_picture(tmp_path / "small/analysis/genotype.png")
