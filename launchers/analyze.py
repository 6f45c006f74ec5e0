"""Show what a study has found, finished or still running: the same as `irnas-ray analyze`.

python launchers/analyze.py study=results/quickstart
"""

import sys

from irnas_ray.__main__ import main

if __name__ == "__main__":
    main(["analyze", *sys.argv[1:]])
