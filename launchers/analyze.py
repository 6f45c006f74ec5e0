"""Show what a study has found, finished or still running: best trials, importances, genotypes, pictures.

python launchers/analyze.py study=results/quickstart
python launchers/analyze.py study=results/bsd500 top=20 output=pictures
"""

from irnas_ray.cli.command_line import run
from irnas_ray.results.report import analyze
from irnas_ray.settings.commands import AnalyzeConfig

if __name__ == "__main__":
    run("analyze", AnalyzeConfig, analyze, __doc__ or "")
