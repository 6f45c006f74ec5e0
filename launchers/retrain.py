"""Train the network of a genotype file from scratch and score it, in a study's folder of its own.

python launchers/retrain.py genotype=results/quickstart/genotypes/TRIAL.json study=longer final.steps=5000
"""

from pathlib import Path

from irnas_ray.conf.command_line import run
from irnas_ray.retraining import run_retraining
from irnas_ray.settings import RetrainConfig

if __name__ == "__main__":
    run("retrain", RetrainConfig, run_retraining, __doc__ or "", root=Path(__file__).resolve().parents[1])
