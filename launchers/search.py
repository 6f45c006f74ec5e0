"""Search architectures and hyperparameters, retrain the best genotypes, score them, keep everything.

Without arguments: a few minutes on two cores with photographs that ship with scikit-image. For example:

    python launchers/search.py search_spaces=irnas_denoise data=images data.source=BSD500 study=bsd500 cluster=gpu
"""

from pathlib import Path

from irnas_ray.cli.command_line import run
from irnas_ray.settings.study import StudyConfig
from irnas_ray.study.study import run_study

if __name__ == "__main__":
    run("search", StudyConfig, run_study, __doc__ or "", root=Path(__file__).resolve().parents[1])
