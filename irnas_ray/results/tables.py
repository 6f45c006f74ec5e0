"""A study's numbers as tables that can be printed as Markdown or set as HTML."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from irnas_ray.genotypes.decoding import Margin
from irnas_ray.genotypes.genotype import Genotype
from irnas_ray.hpo.objectives import Objective
from irnas_ray.hpo.records import name_of
from irnas_ray.results.aggregates import configurations_of, front_of
from irnas_ray.results.layout import FinalLayout, StudyLayout
from irnas_ray.results.study_results import StudyResults, genotype_of
from irnas_ray.results.table import Table, duration, number
from irnas_ray.settings.study import short_values

#: What a tie in a decision of a genotype is called.
TIE = "a tie, not a finding"
#: What the states of a trial are called.
STATES = {"COMPLETE": "completed", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "running or interrupted"}


def noise_levels(summary: Mapping[str, Any]) -> list[float | None]:
    """The noise levels of a study's final networks, ascending; each has a table of its own."""
    return sorted({final.get("sigma") for final in summary.get("finals") or []}, key=lambda sigma: sigma or 0)


def finals_table(summary: Mapping[str, Any], sigma: float | None = None) -> Table:
    """The final networks against the baselines under the study's protocol, with the gain over each baseline in dB.

    ``sigma`` leaves in those of one noise level only.
    """
    baselines: dict[str, dict[str, Any]] = {
        name: scores for name, scores in (summary.get("baselines") or {}).items() if _at(scores, sigma)
    }
    headers = ["method", ">PSNR (dB)", ">SSIM", *(f">gain over {name} (dB)" for name in baselines)]
    headers += [">parameters", ">multiply-adds per pixel", ">training time", "trial"]
    rows = []
    for final in filter(lambda final: _at(final, sigma), summary.get("finals") or []):
        gains = [_gain(final.get("psnr"), baseline.get("psnr")) for baseline in baselines.values()]
        costs = [number(final.get("parameters")), number(final.get("multiply_adds_per_pixel"))]
        end = [*costs, duration(final.get("seconds")), str(final.get("trial", "–"))]
        rows.append(
            [
                final.get("name", f"final {final['rank']}"),
                number(final.get("psnr"), 2),
                number(final.get("ssim"), 4),
                *gains,
                *end,
            ]
        )
    for name, baseline in baselines.items():
        scores = [number(baseline.get("psnr"), 2), number(baseline.get("ssim"), 4)]
        rows.append([name, *scores, *("" for _ in range(len(headers) - 3))])
    return Table(headers, rows)


def trials_table(records: Iterable[Mapping[str, Any]]) -> Table:
    """Trials with their configuration, seed, scores, time and genotype, in the order given."""
    headers = ["trial", "state", "configuration", ">seed", ">score (dB)", ">PSNR (dB)", ">SSIM", ">time", "genotype"]
    rows = []
    for record in records:
        config = dict(record.get("config") or {})
        seed = config.pop("seed", "–")
        scores = [number(record.get("score"), 2), number(record.get("psnr"), 2), number(record.get("ssim"), 4)]
        row = [name_of(record), state_name(record), short_values(config), str(seed), *scores]
        rows.append([*row, duration(record.get("seconds")), str(genotype_of(record) or "–")])
    return Table(headers, rows)


def front_table(records: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]) -> Table:
    """The configurations on the Pareto front, best score first: means over their seeds, and the best seed's trial."""
    headers = ["configuration", "values", *(f">{objective.label}" for objective in objectives), ">seeds", "best trial"]
    configurations = {entry["number"]: entry for entry in configurations_of(records, objectives)}
    rows = []
    for record in front_of(records, objectives):
        entry = configurations[record.get("configuration", record["id"])]
        means = [number(entry["means"][objective.metric], objective.digits) for objective in objectives]
        seeds = str(len(entry["seeds"]))
        rows.append([str(entry["number"]), short_values(entry["params"]), *means, seeds, name_of(record)])
    return Table(headers, rows)


def margins_table(margins: Iterable[Margin]) -> Table:
    """Every decision of a genotype with its runner-up, how clearly it was won, and whether it is a tie."""
    rows = []
    for margin in margins:
        decision, chosen, rival = margin.decision, margin.chosen, margin.runner_up
        if " on input " in decision:
            head, _, source = decision.rpartition(" ")
            decision = f"{head} {input_name(int(source))}"
        elif decision.endswith(" input"):
            chosen, rival = input_name(int(chosen)), input_name(int(rival))
        rows.append([decision, chosen, rival, number(margin.margin, 4), TIE if margin.tie else ""])
    return Table(["decision", "chosen", "runner-up", ">margin", "verdict"], rows)


def input_name(source: int) -> str:
    """What a node's input is called in the paper: the two layers before, then the nodes in order."""
    return ("h(l-2)", "h(l-1)")[source] if source < 2 else f"n{source - 2}"


def margins_of(record: Mapping[str, Any]) -> list[Margin]:
    """The margins in a trial's record."""
    return [Margin(**margin) for margin in record.get("margins") or []]


def state_name(record: Mapping[str, Any]) -> str:
    """How a trial ended, in words."""
    return STATES.get(record["state"], record["state"].lower())


def state_counts(records: Iterable[Mapping[str, Any]]) -> str:
    """How many trials ended in which way, in words."""
    counts = Counter(record["state"] for record in records)
    known = [f"{counts[state]} {name}" for state, name in STATES.items() if counts[state]]
    others = [f"{count} {state.lower()}" for state, count in counts.items() if state not in STATES]
    return ", ".join(known + others) or "no trials"


def frequencies(genotypes: list[Genotype], most: int = 5) -> list[tuple[str, Table]]:
    """The most frequent operators, edges and width paths among genotypes, each with its counts."""
    operators: Counter[str] = Counter()
    edges: Counter[str] = Counter()
    paths: Counter[str] = Counter()
    for genotype in genotypes:
        kept = [(node, edge) for cell in genotype.cells for node, pair in enumerate(cell) for edge in pair]
        operators.update(edge.operator for _, edge in kept)
        # once for each genotype, however many of its cells have the edge
        edges.update(sorted({f"n{node} {edge.operator} <- {input_name(edge.source)}" for node, edge in kept}))
        paths["-".join(map(str, genotype.levels))] += 1
    total = max(1, sum(operators.values()))
    shares = [[name, str(count), f"{count / total:.0%}"] for name, count in operators.most_common()]
    return [
        ("operators", Table(["operator", ">edges", ">share"], shares)),
        ("edges", Table(["edge", ">genotypes"], [[name, str(count)] for name, count in edges.most_common(most)])),
        ("width paths", Table(["levels", ">genotypes"], [[path, str(n)] for path, n in paths.most_common(most)])),
    ]


def verdict(results: StudyResults) -> list[str]:
    """What a study came to, in sentences: its best network at each noise level and the gain over the best baseline.

    Of a study that is not finished, its best trial so far; then what its health warns of.
    """
    best, summary = results.best(), results.summary
    said = [_network_sentence(summary, sigma) for sigma in noise_levels(summary)]
    if not said and best is not None:
        name, score = name_of(best), number(best.get("score"), 2)
        said = [f"No network is trained from scratch yet; the best trial so far is {name}, with a score of {score} dB."]
    warning = ((best or {}).get("health") or {}).get("warning")
    return said + ([f"{warning[:1].upper()}{warning[1:]}."] if warning else [])


def _network_sentence(summary: Mapping[str, Any], sigma: float | None) -> str:
    finals = [final for final in summary["finals"] if _at(final, sigma)]
    final = max(finals, key=lambda final: final.get("psnr") or 0.0)
    name = final.get("name", f"final {final['rank']}")
    of = f" of trial {final['trial']}" if final.get("genotype") and summary.get("trials") else ""
    level = "" if sigma is None else f", sigma {sigma:g}"
    said = f"The best network is {name}{of}: {number(final.get('psnr'), 2)} dB"
    baselines = {name: scores for name, scores in (summary.get("baselines") or {}).items() if _at(scores, sigma)}
    if baselines and isinstance(final.get("psnr"), int | float):
        rival = max(baselines, key=lambda name: baselines[name]["psnr"])
        gain = final["psnr"] - baselines[rival]["psnr"]
        said += f", {abs(gain):.2f} dB {'more' if gain >= 0 else 'less'} than {rival}"
    return (
        f"{said} (protocol {summary.get('protocol')}{level}). It has {number(final.get('parameters'))} parameters and "
        f"{number(final.get('multiply_adds_per_pixel'))} multiply-adds per pixel."
    )


def facts(results: StudyResults) -> Table:
    """What a study was and where it ran."""
    summary = results.summary
    sigma = summary.get("sigma")
    final = results.config.get("final") or {}
    noise = "none added" if summary and sigma is None else number(sigma if summary else final.get("sigma"))
    kind = (results.config.get("degradation") or {}).get("kind", "gaussian")
    degraded = ["degradation", kind]
    if kind in ("gaussian", "paired"):
        degraded = ["noise level (sigma on the 0-255 scale)", noise]
    rows = [
        ["search space", results.search_space],
        ["protocol", str(summary.get("protocol") or final.get("protocol") or "–")],
        degraded,
        ["trials", state_counts(results.records)],
    ]
    rows += [[name, str(version)] for name, version in (summary.get("versions") or {}).items()]
    return Table(["", ""], rows)


def costs(results: StudyResults) -> Table:
    """What a study took: each stage on the clock, and the trials and final trainings one after the other."""
    summary = results.summary
    rows = [[f"time for {stage}", duration(seconds)] for stage, seconds in (summary.get("seconds") or {}).items()]
    for what, found in {"trials": results.records, "final trainings": summary.get("finals") or []}.items():
        spent = [one["seconds"] for one in found if one.get("seconds") is not None]
        if spent:
            rows.append([f"{len(spent)} {what}, one after the other", duration(sum(spent))])
    trained = sum(record.get("training_multiply_adds") or 0 for record in results.records)
    return Table(["", ""], rows + ([["multiply-adds of the trials", f"{trained:.2e}"]] if trained else []))


def commands(results: StudyResults) -> list[str]:
    """Command lines that score the best network again, look into the study, and go on with it."""
    summary, data = results.summary, results.config.get("data") or {}
    said = [f"irnas-ray analyze study={results.folder}"]
    if finals := summary.get("finals"):
        best = max(finals, key=lambda final: final.get("psnr") or 0.0)
        source = [f"data={data.get('form')}", f"data.source={data['source']}"] if data.get("source") else []
        network = FinalLayout(StudyLayout(results.folder).final(best["rank"])).network
        said = [" ".join(["irnas-ray evaluate", f"network={network}", *source]), *said]
    if results.records:
        again = f"irnas-ray search search_spaces={results.search_space} study={results.name}"
        said.append(f"{again} results={results.folder.parent} resume=true ...")
    return said


def _at(scores: Mapping[str, Any], sigma: float | None) -> bool:
    return sigma is None or scores.get("sigma", sigma) == sigma


def _gain(value: Any, reference: Any) -> str:
    if not isinstance(value, int | float) or not isinstance(reference, int | float):
        return "–"
    return f"{value - reference:+.2f}"
