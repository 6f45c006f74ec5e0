"""Score networks, baselines and folders of restored images: the same as `irnas-ray evaluate`.

python launchers/evaluate.py network=network.pt protocol=bsd200-gray-full data.source=BSD500/test sigma=50
"""

import sys

from irnas_ray.__main__ import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
