"""Show what a study has found, finished or still running: best trials, importances, genotypes, pictures.

python launchers/analyze.py study=results/quickstart
python launchers/analyze.py study=results/bsd500 top=20 output=pictures
"""

from irnas_ray.command_settings import AnalyzeConfig
from irnas_ray.conf.command_line import run
from irnas_ray.report import analyze

if __name__ == "__main__":
    run("analyze", AnalyzeConfig, analyze, __doc__ or "")
