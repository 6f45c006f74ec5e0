"""An audit as one HTML page that needs nothing but itself, as the report of a study."""

from jinja2 import ChoiceLoader, PackageLoader
from matplotlib.figure import Figure

from irnas_ray.audit.plots import plot_anytime, plot_arms, plot_proxies
from irnas_ray.audit.record import Audit
from irnas_ray.audit.tables import arms_table, costs_table, tau_table, winners_table
from irnas_ray.results.html_page import TEMPLATES
from irnas_ray.results.plots import png
from irnas_ray.results.table import Table, duration

_templates = TEMPLATES.overlay(
    loader=ChoiceLoader([PackageLoader("irnas_ray.audit"), PackageLoader("irnas_ray.results")])
)


def render(audit: Audit) -> str:
    """The whole page as HTML text."""
    return _templates.get_template("audit.html.jinja").render(
        audit=audit,
        judgement=audit.judgement.as_table(),
        pictures={name: png(figure) for name, figure in figures(audit).items()},
        arms=arms_table(audit),
        winners=winners_table(audit.arms["searched"]),
        tau=tau_table(audit) if audit.tau else None,
        costs=costs_table(audit),
        facts=Table(["", ""], [[name, fact] for name, fact in audit.facts.items()]),
        wall=duration(audit.seconds),
    )


def figures(audit: Audit) -> dict[str, Figure]:
    """Name -> picture, of those that the audit has data for."""
    found = {"arms": plot_arms(audit), "anytime": plot_anytime(audit), "proxies": plot_proxies(audit)}
    return {name: figure for name, figure in found.items() if figure is not None}
