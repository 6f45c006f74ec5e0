"""Score a network.pt, and the baselines, under a named protocol.

python launchers/evaluate.py network=results/quickstart/finals/1/network.pt
python launchers/evaluate.py network=network.pt protocol=bsd200-gray-full data.source=BSD500/test sigma=50
"""

from irnas_ray.conf.command_line import run
from irnas_ray.scoring import evaluate_network
from irnas_ray.settings import EvaluateConfig

if __name__ == "__main__":
    run("evaluate", EvaluateConfig, evaluate_network, __doc__ or "")
