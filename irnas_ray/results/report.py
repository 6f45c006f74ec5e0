"""The study as tables, pictures and one page."""

from pathlib import Path

from irnas_ray.results import interactive
from irnas_ray.results.genotype_drawing import draw_genotype
from irnas_ray.results.html_page import render
from irnas_ray.results.layout import StudyLayout
from irnas_ray.results.plots import plot_history, plot_importances, save_png
from irnas_ray.results.study_results import StudyResults, genotype_of, importances, read_study
from irnas_ray.results.table import Table
from irnas_ray.results.tables import frequencies, front_table, margins_of, state_counts, trials_table
from irnas_ray.settings.bounds import check_bounds
from irnas_ray.settings.commands import AnalyzeConfig
from irnas_ray.system.exit_status import checking_settings
from irnas_ray.system.files import write_text


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` of a study's folder, one page that needs no other file, and return its path.

    What is missing (an Optuna study in the folder, restored images, a summary) is left out of the page and named.
    Raises ValueError if the folder is not a study, OSError naming the file if it cannot be written.

    >>> import irnas_ray as ir
    >>> settings = ir.compose("search", ["study=mine"])
    >>> folder = ir.results.StudyFolder(settings)
    >>> folder.create(settings)
    >>> ir.write_report("results/mine").name
    'report.html'
    """
    path = StudyLayout(Path(folder)).report
    write_text(path, render(read_study(folder)))
    return path


def analyze(config: AnalyzeConfig) -> None:
    """Print what a finished or running study has found so far as Markdown, and save its pictures.

    Raises ValueError if the folder is not a study, or its Optuna study cannot be opened; nothing in it is changed.
    """
    with checking_settings():
        check_bounds(config)
    config.check_given()
    results = _readable(config.study)
    against = _readable(config.against) if config.against else None
    output = Path(config.output).absolute() if config.output else StudyLayout(results.folder).analysis
    top = [record for record in results.ranked() if record.get("score") is not None][: config.top]
    finished = "" if results.summary else " (not finished: no summary.json yet)"
    print(f"# Study {results.name}{finished}\n\nSearch space {results.search_space}; {state_counts(results.records)}\n")
    if top:
        print(f"## Best trials\n\n{trials_table(top).markdown()}")
    if len(results.objectives) > 1:
        print(f"## Pareto front\n\n{front_table(results.records, results.objectives).markdown()}")
    _print_importances(results)
    genotypes = [genotype for genotype in map(genotype_of, top) if genotype is not None]
    if genotypes:
        print(f"## Most frequent in the genotypes of the best trials ({len(genotypes)})\n")
        for _, table in frequencies(genotypes):
            print(table.markdown())
    for path in save_pictures_of(results, output):
        print(f"saved {path}", flush=True)
    _save_interactive(results, against, output / "interactive.html")


def _readable(folder: str) -> StudyResults:
    results = read_study(Path(folder))
    if results.problem:
        raise ValueError(results.problem)
    return results


def _save_interactive(results: StudyResults, against: StudyResults | None, path: Path) -> None:
    try:
        found = interactive.draw(results, against)
        text = interactive.page(results, found, against)
    except ImportError:
        print("no interactive.html: plotly is not installed here; pip install 'irnas_ray[plots]'", flush=True)
        return
    for line in found.missing:
        print(f"not in interactive.html: {line}")
    write_text(path, text)
    print(f"saved {path}", flush=True)


def save_pictures_of(results: StudyResults, output: Path) -> list[Path]:
    """Save history.png, importances.png and genotype.png, those of them that the study has data for; their paths."""
    saved = []
    if results.records:
        saved.append(save_png(plot_history(results.records), output / "history.png"))
    try:
        saved.append(
            save_png(
                plot_importances(importances(results.configurations, results.objectives)), output / "importances.png"
            )
        )
    except ValueError:
        # a picture of an earlier state would contradict the text
        (output / "importances.png").unlink(missing_ok=True)
    best = results.best()
    genotype = genotype_of(best) if best else None
    if best is not None and genotype is not None:
        saved.append(save_png(draw_genotype(genotype, margins_of(best)), output / "genotype.png"))
    return saved


def _print_importances(results: StudyResults) -> None:
    print("## Parameter importances\n")
    try:
        shares = importances(results.configurations, results.objectives)
        print(
            Table(["parameter", ">importance"], [[name, f"{share:.3f}"] for name, share in shares.items()]).markdown()
        )
    except ValueError as error:
        print(f"None: {error}.\n")
