"""An audit's numbers as tables that can be printed as Markdown or set as HTML."""

import statistics
from collections.abc import Sequence

from irnas_ray.audit.ledger import ledger_table
from irnas_ray.audit.record import Arm, Audit, Run
from irnas_ray.audit.verdict import decimal, span
from irnas_ray.results.table import Table, number


def mean_score(run: Run) -> float:
    """The mean PSNR of a run's network over training seeds and images, in dB."""
    return statistics.fmean(statistics.fmean(row) for row in run.scores)


def arms_table(audit: Audit) -> Table:
    """Each arm, or each network of an arm whose networks are listed one by one: scores and sizes, means over runs."""
    headers = ["arm", ">runs", ">PSNR (dB)", ">SD over runs", ">parameters", ">multiply-adds per pixel"]
    headers += [">share of skip", ">ties"]
    rows = []
    for arm in audit.arms.values():
        parts = [(f"{arm.title}: {run.name}", [run]) for run in arm.runs] if arm.one_by_one else [(arm.title, arm.runs)]
        rows += [_arm_row(title, runs) for title, runs in parts]
    return Table(headers, rows)


def _arm_row(title: str, runs: Sequence[Run]) -> list[str]:
    means = [mean_score(run) for run in runs]
    deviation = f"{statistics.stdev(means):.3f}" if len(means) > 1 else "–"
    skip = _mean([run.skip_share for run in runs])
    decided = [(run.ties, run.decisions) for run in runs if run.ties is not None and run.decisions is not None]
    ties = f"{sum(t for t, _ in decided)} of {sum(d for _, d in decided)}" if decided else "–"
    return [
        title,
        number(len(runs)),
        f"{statistics.fmean(means):.3f}",
        deviation,
        number(_mean([run.parameters for run in runs])),
        number(_mean([run.multiply_adds_per_pixel for run in runs])),
        "–" if skip is None else f"{skip:.0%}",
        ties,
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def tau_table(audit: Audit) -> Table:
    """Kendall's tau-b of each proxy with its interval."""
    rows = [
        [proxy, decimal(tau.value, ".2f"), span((tau.low, tau.high), ".2f"), number(tau.networks)]
        for proxy, tau in audit.tau.items()
    ]
    return Table(["proxy", ">tau-b", ">95 % interval", ">networks"], rows)


def winners_table(arm: Arm) -> Table:
    """What each run of an arm chose."""
    return Table(
        ["run", ">PSNR (dB)", "network"], [[run.name, f"{mean_score(run):.3f}", run.network] for run in arm.runs]
    )


def costs_table(audit: Audit) -> Table:
    """The ledger of what every arm has cost."""
    return ledger_table({arm.title: [run.cost for run in arm.runs] for arm in audit.arms.values()})


def markdown(audit: Audit) -> str:
    """The whole audit as Markdown, the verdict first."""
    facts = "".join(f"- {name}: {fact}\n" for name, fact in audit.facts.items())
    parts = [
        f"# Audit {audit.name}\n\n{audit.judgement.sentence}\n\n{audit.judgement.table}\n{facts}",
        f"## Arms\n\n{arms_table(audit).markdown()}",
        f"## Proxies\n\n{tau_table(audit).markdown()}" if audit.tau else "",
        f"## Costs\n\n{costs_table(audit).markdown()}",
        f"## Found by the search\n\n{winners_table(audit.arms['searched']).markdown()}",
    ]
    return "\n".join(filter(None, parts))
