"""Train networks from scratch and score them: of a genotype, DnCNN or your own; several side by side in one table.

python launchers/retrain.py genotype=results/quickstart/genotypes/TRIAL.json study=longer final.steps=5000
python launchers/retrain.py network=dncnn final.minutes=20 study=dncnn
python launchers/retrain.py genotype=irnas_denoise 'compare.final.ssim_weight=[0,0.5]' study=losses
"""

from pathlib import Path

from irnas_ray.cli.command_line import run
from irnas_ray.settings.study import RetrainConfig
from irnas_ray.study.retraining import run_retraining

if __name__ == "__main__":
    run("retrain", RetrainConfig, run_retraining, __doc__ or "", root=Path(__file__).resolve().parents[1])
