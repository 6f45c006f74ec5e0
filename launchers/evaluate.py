"""Score networks, baselines and folders of restored images under a named protocol.

python launchers/evaluate.py network=results/quickstart/finals/1/network.pt
python launchers/evaluate.py network=network.pt protocol=bsd200-gray-full data.source=BSD500/test sigma=50
python launchers/evaluate.py 'network={ours: a.pt, other: b.pt}' 'method=[degraded,tv,bm3d]' output=comparison
python launchers/evaluate.py restored=FOLDER protocol=rain800-y data=halves data.source=rain800/test_syn
"""

from irnas_ray.cli.command_line import run
from irnas_ray.evaluation.commands import score_methods
from irnas_ray.settings.commands import EvaluateConfig

if __name__ == "__main__":
    run("evaluate", EvaluateConfig, score_methods, __doc__ or "")
