"""Train networks from scratch and score them: the same as `irnas-ray retrain`.

python launchers/retrain.py genotype=irnas_denoise 'compare.final.ssim_weight=[0,0.5]' study=losses
"""

import sys

from irnas_ray.__main__ import main

if __name__ == "__main__":
    main(["retrain", *sys.argv[1:]])
